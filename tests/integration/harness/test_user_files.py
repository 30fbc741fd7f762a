"""What a surface scientist brings: names, labels and minima, from the file to the network."""

import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write

from experiments.harness.config import compose
from experiments.harness.config.texts import as_texts, quoted
from experiments.harness.generation.evaluation import evaluate
from experiments.harness.generation.predict import predict
from experiments.harness.training.checkpoint import load_model
from experiments.harness.training.data import training_data
from experiments.harness.training.objectives import make_task
from sdedata import Graph, StructureSet, collate
from sdedata.__main__ import main as check
from sdedata.reading import Reading
from tests.tiny import TRAIN, platinum, run

# Names


@pytest.mark.parametrize(
    ("entry", "key", "value"),
    [
        ("train", "data.path", "Pt(111)/O_p(2x2).extxyz"),
        ("train", "data.path", "run#3.traj"),
        ("train", "data.path", "a=b:c [1]{2}.traj"),
        ("train", "data.path", "Übung/Å.traj"),
        ("train", "data.frames", "it's.traj"),
        ("train", "name", "p(3x3)"),
        ("train", "name", "12"),
        ("train", "name", "true"),
        ("train", "output", "runs (new)"),
        ("sample", "composition", "(H2O)3"),
        ("sample", "composition", "NaN"),
        ("sample", "template.slab", "c(2x8)#1.traj"),
        ("evaluate", "reference", "x(1).npz"),
        ("evaluate", "sample", "runs/sample/p(3x3)"),
    ],
)
def test_names_of_every_day_are_text(entry, key, value):
    found = compose.load(entry, [f"{key}={value}"])
    for part in key.split("."):
        found = getattr(found, part)
    assert found == value


def test_what_means_something_else_keeps_its_meaning():
    home = str(Path("~").expanduser())
    for entry, given, text in (
        ("train", "data.path=~/x.traj", f"data.path={home}/x.traj"),
        ("train", "data.frames=null", "data.frames=null"),
        ("train", "name=${seed}", "name=${seed}"),
        ("train", "name='a,b'", "name='a,b'"),
        ("train", "seed=1", "seed=1"),
        ("train", "name=a,p(3x3)", "name=a,'p(3x3)'"),
        ("generate_data", "compositions=[(H2O)3,Ag]", "compositions=['(H2O)3',Ag]"),
        ("train", "name=a(b", "name=a(b"),
    ):
        assert as_texts([given], entry) == [text]


@pytest.mark.parametrize("given", ["calculator.label=a(b", "calculator.label=a#b"])
def test_the_message_shows_the_quotes_that_work(given):
    with pytest.raises(ValueError, match="put quotes around a value") as refusal:
        compose.load("evaluate", ["calculator=emt", f"+{given}"])
    shown = str(refusal.value).rpartition('as in "')[2].rstrip('"')
    found = compose.load("evaluate", ["calculator=emt", shown])
    assert found.calculator.model_extra["label"] == given.partition("=")[2]


def test_a_text_with_a_comma_is_refused_with_the_quotes_that_work():
    with pytest.raises(ValueError, match=r"^data.path=a b/x=1,2.traj gives several values") as end:
        compose.load("train", ["data.path=a b/x=1,2.traj"])
    (shown,) = shlex.split(str(end.value).rpartition("quotes, ")[2])
    assert compose.load("train", [shown]).data.path == "a b/x=1,2.traj"


@pytest.mark.parametrize(
    ("given", "cause"),
    [
        ("data.path=/tmp/${x}/a.traj", "there is no key 'x' to fill in"),
        ("data.path='${oc.env:NOBODY_SETS_THIS}.traj'", "NOBODY_SETS_THIS"),
        ("data.path=${mine:x}.traj", "Unsupported interpolation type mine"),
        ("data.path='${x.traj'", "cannot be filled in"),
        ("data.path=${x.traj", "cannot read"),
    ],
)
def test_what_cannot_be_filled_in_is_refused_with_the_quotes_that_work(given, cause):
    with pytest.raises(ValueError, match=cause) as refusal:
        compose.load("train", [given])
    message = str(refusal.value)
    assert "data.path" in message
    (shown,) = shlex.split(message[message.rindex("'data.path=") :])
    assert compose.load("train", [shown]).data.path == given.partition("=")[2].strip("'")


@pytest.mark.parametrize(
    "text",
    ["a${x}", r"a\${x}", r"a\\${x}", "${", "${}", "a${x}\\", "it's ${x}", "a\\", "$x", "null"],
)
def test_any_text_can_be_quoted(text):
    assert compose.load("train", [f"data.path={quoted(text)}"]).data.path == text


def test_the_home_of_nobody_is_a_text():
    assert compose.load("train", ["data.path=~nobody_of_this_name/x"]).data.path.startswith("~no")
    assert compose.load("train", ["data.path=~/x"]).data.path == str(Path.home() / "x")


# Labels


def settings(path: Path, kind: str, *more: str):
    home = path.parent
    return compose.load(
        "train", [*TRAIN, f"task={kind}", f"data.path={path}", f"output={home}/runs", *more]
    )


def all_electron(n: int) -> list:
    """EMT's trimers with the totals of an all-electron code."""
    frames = platinum(n)
    for atoms in frames:
        energy = atoms.calc.results["energy"] - 518_220.123456 * len(atoms)
        atoms.calc = SinglePointCalculator(
            atoms, energy=energy, forces=atoms.calc.results["forces"]
        )
    return frames


def test_totals_of_all_electron_codes_keep_their_digits(tmp_path):
    """-1.1e7 eV: in float32 the labels would come in steps of 1 eV."""
    frames = all_electron(8)
    write(tmp_path / "mine.traj", frames)
    config = settings(tmp_path / "mine.traj", "forcefield")
    data = training_data(config, "forcefield")
    torch.manual_seed(0)
    task = make_task(config, data.facts["elements"], data.train)
    batch = collate([*data.train, *data.val])
    with torch.no_grad():
        predicted, _ = task.network.eval()(batch)
        zero, _ = task.network.eval()(collate([data.train[0]]))
    own = platinum(8)
    reduced = platinum(8)
    learned = (batch.energy - predicted).numpy()
    # The same frames with EMT's own totals leave the same to learn, to 0.1 meV.
    for atoms, plain in zip(reduced, own, strict=True):
        atoms.calc = plain.calc
    write(tmp_path / "plain.traj", reduced)
    other = training_data(settings(tmp_path / "plain.traj", "forcefield"), "forcefield")
    torch.manual_seed(0)
    expected_task = make_task(config, data.facts["elements"], other.train)
    with torch.no_grad():
        expected, _ = expected_task.network.eval()(collate([*other.train, *other.val]))
    left = (collate([*other.train, *other.val]).energy - expected).numpy()
    np.testing.assert_allclose(learned, left, atol=1e-4)
    assert zero.dtype == torch.float64


def test_zeroed_forces_do_not_teach(tmp_path):
    frames = platinum(6)
    zeroed = platinum(6)
    for atoms in zeroed:
        atoms.calc.results["forces"][:18] = 0.0
    for name, some in (("whole", frames), ("zeroed", zeroed)):
        write(tmp_path / f"{name}.traj", some)
    config = settings(tmp_path / "zeroed.traj", "forcefield")
    data = training_data(config, "forcefield")
    torch.manual_seed(0)
    task = make_task(config, data.facts["elements"], data.train)
    graph = collate(data.train)
    found = task.loss(task.network.train(), graph, torch.Generator())
    energy, forces = task.network(graph)
    free = graph.mobile
    expected = 1.0 * torch.nn.functional.huber_loss(forces[free], graph.forces[free], delta=1.0)
    per_atom = ((energy - graph.energy) / graph.counts).float()
    expected_energy = torch.nn.functional.huber_loss(
        per_atom, torch.zeros_like(per_atom), delta=0.1
    )
    weights = config.task
    total = weights.force_weight * expected + weights.energy_weight * expected_energy
    assert float(found) == pytest.approx(float(total), rel=1e-5)
    found.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in task.network.parameters())
    assert np.isfinite(task.validate(task.network.eval(), [graph])["val/loss"])


# Which frames


def test_a_few_bad_frames_are_left_out_with_a_word(tmp_path):
    frames = platinum(8)
    results = frames[3].calc.results
    frames[3].positions[20] = frames[3].positions[19]
    frames[3].calc = SinglePointCalculator(frames[3], **results)
    write(tmp_path / "mine.traj", frames)
    for _ in range(2):  # from the file, then from the cache
        data = training_data(settings(tmp_path / "mine.traj", "forcefield"), "forcefield")
        assert data.facts["structures"] == 7
        assert "mine.traj, frame 3: Pt 19 and Pt 20 are at one place" in data.notes[0]


def spoilt(kind: str, folder: Path) -> Path:
    """Eight frames, the third spoilt: an energy that is no number, or a dummy atom."""
    path = folder / f"{kind}.{'extxyz' if kind == 'dummy' else 'traj'}"
    frames = platinum(8)
    forces = frames[2].calc.results["forces"]
    if kind == "dummy":
        frames[2].append("X")
        frames[2].positions[-1] = frames[2].positions[-2] + (0.0, 0.0, 1.5)
        forces = np.vstack([forces, np.zeros(3)])
    energy = {"none": None, "vector": np.arange(3.0), "text": "low"}.get(kind, 1.0)
    frames[2].calc = SinglePointCalculator(frames[2], energy=1.0, forces=forces)
    frames[2].calc.results["energy"] = energy
    write(path, frames)
    return path


@pytest.mark.parametrize(
    ("kind", "cause"),
    [("none", "no energy"), ("vector", "array"), ("text", "'low'"), ("dummy", "index 21")],
)
def test_one_spoilt_frame_is_named_and_the_others_are_used(kind, cause, tmp_path, capsys):
    path = spoilt(kind, tmp_path)
    with pytest.raises(SystemExit) as end:
        check(["check", str(path)])
    assert end.value.code == 2
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("7 valid frames, 1 invalid")
    (line,) = [x for x in lines if x.startswith(f"{path}, frame 2: ")]
    assert cause in line
    data = training_data(settings(path, "forcefield"), "forcefield")
    assert len(data.train) + len(data.val) == 7
    assert data.facts["elements"] == [78]
    assert any(f"{path}, frame 2: " in note and cause in note for note in data.notes)


@pytest.mark.parametrize("noise", [6e-16, 1e-9])
@pytest.mark.parametrize("kind", ["score", "forcefield"])
def test_noise_of_cells_changes_no_loss(kind, noise, tmp_path):
    frames = platinum(8)
    noisy = platinum(8)
    for k, atoms in enumerate(noisy):
        energy, forces = atoms.calc.results["energy"], atoms.calc.results["forces"]
        atoms.cell[0, 1] += noise * (-1) ** k
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
    losses = []
    for name, some in (("plain", frames), ("noisy", noisy)):
        write(tmp_path / f"{name}.traj", some)
        more = ["data.max_force=99", "data.max_energy=99"]
        config = settings(tmp_path / f"{name}.traj", kind, *more)
        data = training_data(config, kind)
        assert len(data.train) + len(data.val) == 8
        torch.manual_seed(0)
        task = make_task(config, data.facts["elements"], data.train)
        losses.append(task.validate(task.network.eval(), data.val)["val/loss"])
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)


def test_a_score_learns_minima(tmp_path):
    """Of nine relaxations of two frames each, of which eight end at rest."""
    frames = []
    for k, end in enumerate(platinum(9)):
        start = end.copy()
        start.positions[18:, 2] += 0.3
        for atoms, force in ((start, 2.0), (end, 0.05 if k else 0.5)):
            forces = np.zeros((21, 3))
            forces[:18, 2], forces[18:, 2] = 0.1, force
            atoms.calc = SinglePointCalculator(atoms, energy=force + 0.01 * k, forces=forces)
            atoms.info["index"] = k
            frames.append(atoms)
    write(tmp_path / "mine.traj", frames)
    data = training_data(settings(tmp_path / "mine.traj", "score"), "score")
    assert sorted(data.structures.info["index"]) == list(range(1, 9))
    assert (data.structures.energy < 0.2).all()
    assert "8 last frames of 9 relaxations (by info 'index')" in data.notes[0]
    assert data.notes[1].endswith("8 structures of 8 relaxations (by info 'index')")
    more = training_data(settings(tmp_path / "mine.traj", "score", "data.max_force=0.6"), "score")
    assert more.facts["structures"] == 9
    every = training_data(settings(tmp_path / "mine.traj", "forcefield"), "forcefield")
    assert every.facts["structures"] == 18


def test_one_relaxation_is_too_few_for_a_score(tmp_path):
    frames = platinum(1)
    for k in range(1, 4):
        atoms = frames[0].copy()
        atoms.positions[18:, 2] += 0.15 * k
        results = {"energy": 1.0 * k, "forces": np.ones((21, 3))}
        frames.append(atoms)
        atoms.calc = SinglePointCalculator(atoms, **results)
    write(tmp_path / "mine.traj", frames[::-1])
    with pytest.raises(ValueError, match="there is 1 in the data: .* last frames of 1 relaxation"):
        training_data(settings(tmp_path / "mine.traj", "score"), "score")


# References


def test_a_reference_counts_the_ends_of_relaxations(tmp_path, caplog):
    """As a file of whole relaxations, or of their minima alone: the same search."""
    relaxations, ends = [], []
    for k, start in enumerate(platinum(5, seed=2)):
        for step, force in enumerate((1.0, 0.5, 0.05 if k else 0.4)):
            atoms = start.copy()
            atoms.positions[18:, 2] -= 0.1 * step
            forces = np.full((21, 3), 0.0)
            forces[18:, 2] = force
            atoms.calc = SinglePointCalculator(atoms, energy=force + 0.01 * k, forces=forces)
            atoms.info["index"] = k
            relaxations.append(atoms)
        if k:
            ends.append(atoms)
    write(tmp_path / "all.traj", relaxations)
    write(tmp_path / "ends.traj", ends)
    surfaces = platinum(3)
    found, expected = (
        evaluate(surfaces, surfaces, tmp_path / f"{name}.traj").attrs["summary"]
        for name in ("all", "ends")
    )
    assert found["rss/n"] == 4
    assert found == pytest.approx(expected, nan_ok=True)
    assert "4 last frames of 5 relaxations" in caplog.text


@pytest.mark.parametrize("change", ["sorted", "another image", "both"])
def test_the_same_surface_in_other_order_or_image(tmp_path, change):
    surfaces = platinum(3)
    reference = platinum(4, seed=1)
    for k, atoms in enumerate(reference):
        results = dict(atoms.calc.results)
        order = np.arange(21)
        if change != "another image":
            order = np.random.default_rng(k).permutation(21)
        if change != "sorted":
            shift = np.random.default_rng(k).integers(-1, 2, size=(21, 2)) @ atoms.cell.array[:2]
            atoms.positions += shift
        reference[k] = atoms = atoms[order]
        atoms.calc = SinglePointCalculator(
            atoms, energy=results["energy"], forces=results["forces"][order]
        )
    write(tmp_path / "reference.extxyz", reference)
    found = evaluate(surfaces, surfaces, tmp_path / "reference.extxyz").attrs["summary"]
    plain = evaluate(surfaces, surfaces, platinum(4, seed=1)).attrs["summary"]
    assert found["rss/n"] == 4
    for key in plain:
        assert found[key] == pytest.approx(plain[key], abs=1e-6, nan_ok=True), key


# Predictions


def test_predict_reports_errors_and_leaves_bad_frames_out(tmp_path, caplog):
    frames = platinum(8)
    write(tmp_path / "mine.traj", frames)
    run("train", *TRAIN, "task=forcefield", f"data.path={tmp_path}/mine.traj", "train.steps=2",
        f"output={tmp_path}")  # fmt: skip
    network = load_model(tmp_path / "train/forcefield").network
    frames[2].positions[20] = frames[2].positions[19]
    frames[2].calc = None
    frames[4].calc = None
    frames[5].calc.results["forces"][:18] = 0.0
    for atoms in frames:
        atoms.info |= {"energy": "mine", "note": "", "site": "fcc hollow", "long": 2**70}
    write(tmp_path / "test.traj", frames)
    energies, errors = predict(
        tmp_path / "train/forcefield", tmp_path / "test.traj", tmp_path / "out.extxyz"
    )
    back = read(tmp_path / "out.extxyz", ":")
    good = [k for k in range(8) if k != 2]
    assert list(energies) == good
    assert [a.get_potential_energy() for a in back] == pytest.approx(list(energies.values()))
    assert [a.info for a in back] == [{"site": "fcc hollow"}] * 7
    of_energies, of_forces = [], []
    for k in good:
        if k == 4:
            continue
        energy, forces = network(Graph.from_atoms(frames[k], network.cutoff))
        known = slice(18, 21) if k == 5 else slice(0, 21)
        results = frames[k].calc.results
        of_energies.append(abs(float(energy) - results["energy"]) / 21)
        of_forces.append(np.abs(forces.numpy() - results["forces"])[known].ravel())
    assert errors.energy == pytest.approx(1000 * np.mean(of_energies), rel=1e-4)
    assert errors.force == pytest.approx(1000 * np.mean(np.concatenate(of_forces)), rel=1e-4)
    assert len(StructureSet.read(tmp_path / "out.extxyz")) == 7
    named = [frames[k].copy() for k in good]  # the same labels under other names, no constraint
    for bare, atoms in zip(named, (frames[k] for k in good), strict=True):
        bare.set_constraint()
        if atoms.calc is not None:
            bare.info["REF_energy"] = atoms.calc.results["energy"]
            bare.arrays["REF_forces"] = atoms.calc.results["forces"]
    write(tmp_path / "named.extxyz", named)
    reading = Reading("REF_energy", "REF_forces", tmp_path / "mine.traj")
    found = predict(
        tmp_path / "train/forcefield", tmp_path / "named.extxyz", tmp_path / "two.extxyz", reading
    )
    assert found[1].energy == pytest.approx(errors.energy, rel=1e-4)
    assert found[1].force == pytest.approx(errors.force, rel=1e-4)
    assert found[1].scatter == pytest.approx(errors.scatter, rel=1e-4)
    for bare in named:
        bare.info["REF_energy"] = bare.info.get("REF_energy", 0.0) - 10.0 * len(bare)
    write(tmp_path / "zero.extxyz", [named[k] for k, number in enumerate(good) if number != 4])
    _, shifted = predict(
        tmp_path / "train/forcefield", tmp_path / "zero.extxyz", tmp_path / "two.extxyz", reading
    )
    assert shifted.shift == pytest.approx(errors.shift + 10_000, rel=1e-4)
    assert shifted.scatter == pytest.approx(errors.scatter, rel=1e-4)
    assert "another zero" in str(shifted)
    named[0].pbc = False
    write(tmp_path / "cluster.extxyz", named[:2])
    caplog.set_level("INFO")
    predict(tmp_path / "train/forcefield", tmp_path / "cluster.extxyz", tmp_path / "two.extxyz")
    assert "1 of 2 frames are not periodic in the plane" in caplog.text


def test_a_share_of_the_data_is_learned_from_and_validation_stays_the_same(tmp_path):
    frames = [platinum(1, seed=k)[0] for k in range(20)]
    write(tmp_path / "mine.traj", frames)
    whole, half, quarter = (
        training_data(settings(tmp_path / "mine.traj", "forcefield", *more), "forcefield")
        for more in ([], ["data.share=0.5"], ["data.share=0.25"])
    )
    assert [len(data.train) for data in (whole, half, quarter)] == [18, 9, 4]
    energies = [{float(g.energy) for g in data.train} for data in (quarter, half, whole)]
    assert energies[0] < energies[1] < energies[2]
    held = [[float(g.energy) for g in data.val] for data in (whole, half, quarter)]
    assert held[0] == held[1] == held[2]
    assert [data.facts["structures"] for data in (whole, half, quarter)] == [20, 11, 6]
