"""A force field learns what a calculator lacks; the sum is a calculator like the others."""

import numpy as np
import pytest
import torch
import yaml
from ase.build import add_adsorbate, fcc111
from ase.calculators.emt import EMT
from ase.calculators.morse import MorsePotential
from ase.constraints import FixAtoms
from ase.io import read, write

from experiments.harness.commands.main import main as surfdiff
from experiments.harness.config.fields import Target
from experiments.harness.config.instantiate import CORRECTED, build, calculator_name, identity
from experiments.harness.runs.run_folder import RunFolder
from experiments.harness.training.calculator import identified
from experiments.harness.training.checkpoint import load_model
from sdedata import Graph, StructureSet
from tests.tiny import GUIDED, TRAIN

QUIET = ["executor=threads", "tracking.mode=disabled"]
MORSE = [
    "calculator=emt", "calculator._target_=ase.calculators.morse.MorsePotential",
    "+calculator.epsilon=0.2", "+calculator.r0=2.8", "+calculator.rcut1=3.2",
    "+calculator.rcut2=4.0",
]  # fmt: skip
MORSE_ARGUMENTS = {"epsilon": 0.2, "r0": 2.8, "rcut1": 3.2, "rcut2": 4.0}


def run(*arguments):
    surfdiff(list(arguments))


@pytest.fixture(scope="module")
def structures():
    """Twelve adatoms on Pt(111) at different places."""
    frames = []
    for k in range(12):
        slab = fcc111("Pt", (2, 2, 2), vacuum=8.0)
        slab.set_constraint(FixAtoms(range(8)))
        add_adsorbate(slab, "Pt", 1.6 + 0.08 * k, (0.4 * k, 0.1 * k))
        slab.pbc = True
        frames.append(slab)
    return frames


@pytest.fixture(scope="module")
def home(structures, tmp_path_factory):
    """Labels by EMT and by a Morse potential, and a force field of the first less the second."""
    home = tmp_path_factory.mktemp("correction")
    write(home / "adatoms.traj", structures)
    common = [f"structures={home}/adatoms.traj", f"output={home}", *QUIET]
    run("label", *common, "name=emt", "calculator=emt")
    run("label", *common, "name=morse", *MORSE)
    train(home, "corrected", f"data.path={home}/label/emt", f"data.minus={home}/label/morse")
    return home


def train(home, name, *data):
    run(
        "train", "task=forcefield", *TRAIN, f"output={home}", f"name={name}", "train.steps=6", *data
    )


def sum_of(home, **more):
    node = Target.of({
        "_target_": "experiments.harness.training.calculator.corrected",
        "path": str(home / "train/corrected"),
    } | more)  # fmt: skip
    return build(identified(node))


def test_what_is_learned_is_the_difference(home, structures, tmp_path):
    """The same weights come from a file whose labels were subtracted by hand."""
    from ase.calculators.singlepoint import SinglePointCalculator

    frames = []
    for index, atoms in enumerate(structures):
        labels = []
        for calculator in (EMT(), MorsePotential(**MORSE_ARGUMENTS)):
            one = atoms.copy()
            one.calc = calculator
            labels.append((one.get_potential_energy(), one.get_forces(apply_constraint=False)))
        (e, f), (e0, f0) = labels
        one = atoms.copy()
        one.info["index"] = index
        one.calc = SinglePointCalculator(one, energy=e - e0, forces=f - f0)
        frames.append(one)
    write(tmp_path / "difference.extxyz", frames)
    train(tmp_path, "by_hand", f"data.path={tmp_path}/difference.extxyz")
    ours = load_model(home / "train/corrected", "correction").network.state_dict()
    theirs = load_model(tmp_path / "train/by_hand", "forcefield").network.state_dict()
    for name, weights in ours.items():
        torch.testing.assert_close(weights, theirs[name], rtol=1e-4, atol=1e-5)


def test_energy_and_forces_are_the_sum(home, structures):
    calculator = sum_of(home)
    network = load_model(home / "train/corrected", "correction").network
    for atoms, (energy, forces) in zip(
        structures[:3], calculator.batch(structures[:3]), strict=True
    ):
        base = atoms.copy()
        base.calc = MorsePotential(**MORSE_ARGUMENTS)
        more, extra = network(Graph.from_atoms(atoms, network.cutoff))
        assert energy == pytest.approx(base.get_potential_energy() + float(more), abs=1e-5)
        expected = base.get_forces(apply_constraint=False) + extra.detach().numpy()
        np.testing.assert_allclose(forces, expected, atol=1e-5)
        alone = atoms.copy()
        alone.calc = calculator
        assert alone.get_potential_energy() == pytest.approx(energy, abs=1e-5)


def test_of_several_corrections_the_mean_is_added(home, structures, tmp_path):
    one = home / "train/corrected"
    data = f"data.path={home}/label/emt", f"data.minus={home}/label/morse"
    train(tmp_path, "other", *data, "seed=5")
    other = tmp_path / "train/other"
    both = sum_of(home, path=[str(one), str(other)])
    alone = [sum_of(home, path=str(path)).batch(structures[:3]) for path in (one, other)]
    for k, (energy, forces) in enumerate(both.batch(structures[:3])):
        (e1, f1), (e2, f2) = alone[0][k], alone[1][k]
        assert abs(e1 - e2) > 1e-4
        assert energy == pytest.approx((e1 + e2) / 2, abs=1e-9)
        np.testing.assert_allclose(forces, (f1 + f2) / 2, atol=1e-9)
    node = {"_target_": "experiments.harness.training.calculator.corrected"}
    known = identified(Target.of(node | {"path": [str(one), str(other)]})).plain()
    digests = [load_model(path, "correction").digest for path in (one, other)]
    assert known["digest"] == digests
    with pytest.raises(ValueError, match=f"is {digests[1]}, not {digests[0]}"):
        build(known | {"digest": [digests[0], digests[0]]})
    with pytest.raises(ValueError, match="different numbers of networks"):
        build(known | {"path": []})
    train(tmp_path, "opposite", f"data.path={home}/label/morse", f"data.minus={home}/label/emt")
    with pytest.raises(ValueError, match="correct different calculators"):
        build(node | {"path": [str(one), str(tmp_path / "train/opposite")]})


def test_forces_are_the_slope_of_the_energy(home, structures):
    calculator, atoms, step = sum_of(home), structures[4].copy(), 1e-2
    atoms.calc = calculator
    force = atoms.get_forces(apply_constraint=False)[8]
    for axis in range(3):
        energies = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions[8, axis] += sign * step
            moved.calc = calculator
            energies.append(moved.get_potential_energy())
        assert force[axis] == pytest.approx(-(energies[0] - energies[1]) / (2 * step), abs=5e-3)


def test_a_correction_says_what_it_corrects_and_is_no_force_field(home, capsys):
    card = load_model(home / "train/corrected", "correction").card
    assert card["calculator"]["_target_"] == "ase.calculators.emt.EMT"
    assert card["minus"] == {"_target_": "ase.calculators.morse.MorsePotential", **MORSE_ARGUMENTS}
    with pytest.raises(ValueError, match="holds a correction network"):
        load_model(home / "train/corrected", "forcefield")


def test_it_labels_and_is_recorded_by_its_digest(home, structures):
    run(
        "label", f"structures={home}/adatoms.traj", f"output={home}", *QUIET, "name=sum",
        "calculator=corrected", f"calculator.path={home}/train/corrected",
    )  # fmt: skip
    folder = RunFolder.existing(home / "label/sum")
    recorded = folder.config["calculator"]
    assert recorded["digest"] == load_model(home / "train/corrected").digest
    assert "labelled by EMT less MorsePotential" in recorded["learned_from"]
    expected = sum_of(home).batch(structures)
    for atoms, (energy, _) in zip(folder.structures("labelled"), expected, strict=True):
        assert atoms.get_potential_energy() == pytest.approx(energy, abs=1e-5)


def test_a_network_is_known_by_its_digest_alone(home):
    given = RunFolder.existing(home / "label/sum").config["calculator"]
    assert identity(given) == identity({**given, "path": "elsewhere", "learned_from": "reworded"})
    assert identity(given) != identity({**given, "digest": "sha256:0"})


def test_training_on_labels_knows_their_calculator(home):
    train(home, "plain", f"data.path={home}/label/emt")
    card = load_model(home / "train/plain", "forcefield").card
    assert card["calculator"] == {"_target_": "ase.calculators.emt.EMT"}
    assert "minus" not in card


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (["task=score"], "a score learns no energies"),
        (["data.minus={home}/label/morse/structures/labelled.extxyz"], "does not record its"),
        (["data.minus={home}/train/corrected"], "no run of surfdiff label"),
        (["data.minus={home}/label/moved"], "structure 3 is another one"),
    ],
)
def test_what_is_no_difference_is_refused(home, change, fault, capsys):
    frames = read(home / "adatoms.traj", ":")
    frames[3].positions[8, 0] += 0.01
    write(home / "moved.traj", frames)
    if not (home / "label/moved").exists():
        run("label", f"structures={home}/moved.traj", f"output={home}", *QUIET, "calculator=emt")
    data = [f"data.path={home}/label/emt", f"data.minus={home}/label/morse"]
    with pytest.raises(SystemExit) as ended:
        run("train", "task=forcefield", *TRAIN, f"output={home}", "name=bad", *data,
            *(c.format(home=home) for c in change))  # fmt: skip
    assert ended.value.code == 2
    assert fault in capsys.readouterr().err


def test_a_card_cannot_name_code(home, tmp_path):
    content = torch.load(home / "train/corrected/model.pt", weights_only=True)
    content["card"] = content["card"].replace("ase.calculators.morse.MorsePotential", "os.system")
    torch.save(content, tmp_path / "model.pt")
    with pytest.raises(ValueError, match="os.system"):
        sum_of(home, path=str(tmp_path / "model.pt"))


def test_a_card_without_what_is_corrected_is_refused(home, tmp_path, capsys):
    content = torch.load(home / "train/corrected/model.pt", weights_only=True)
    content["card"] = content["card"].replace('"minus"', '"plus"')
    torch.save(content, tmp_path / "model.pt")
    with pytest.raises(SystemExit) as ended:
        run("label", f"structures={home}/adatoms.traj", f"output={home}", "name=lost", *QUIET,
            "calculator=corrected", f"calculator.path={tmp_path}/model.pt")  # fmt: skip
    assert ended.value.code == 2
    assert "does not name the calculator that it corrects" in capsys.readouterr().err


def test_an_evaluation_relaxes_all_with_it(world, tmp_path):
    """What was generated and random search, whose energies are of another calculator."""
    out, minima = f"output={tmp_path}", tmp_path / "minima.extxyz"
    write(minima, StructureSet.read(world.minima).to_atoms())
    for name, calculator in (("emt", ["calculator=emt"]), ("morse", MORSE)):
        run("label", f"structures={minima}", out, f"name={name}", *QUIET, *calculator)
    train(tmp_path, "more", f"data.path={tmp_path}/label/emt", f"data.minus={tmp_path}/label/morse")
    run("sample", *GUIDED, *world.networks, out, "name=some", "composition=Ag2O", "n=2")
    run(
        "evaluate", *QUIET, out, f"sample={tmp_path}/sample/some", f"reference={world.reference}",
        "calculator=corrected", f"calculator.path={tmp_path}/train/more", "relaxation.max_steps=3",
    )  # fmt: skip
    folder = RunFolder.existing(tmp_path / "evaluate/some")
    calculator = build(Target.of(folder.config["calculator"]))
    for name in ("evaluated", "reference"):
        frames = folder.structures(name)
        assert frames
        stored = [atoms.get_potential_energy() for atoms in frames]
        computed = [energy for energy, _ in calculator.batch([atoms.copy() for atoms in frames])]
        np.testing.assert_allclose(stored, computed, atol=1e-4)


def test_the_shipped_correction_is_refused_for_other_elements(home, capsys):
    pytest.importorskip("sevenn")
    with pytest.raises(SystemExit) as ended:
        run("label", f"structures={home}/adatoms.traj", f"output={home}", "calculator=corrected")
    assert ended.value.code == 2
    assert "does not know Pt: it knows O, Ag" in capsys.readouterr().err


def test_yaml_of_the_run_holds_it(home):
    assert yaml.safe_load((home / "train/corrected/config.yaml").read_text())["data"]["minus"]


def test_calculators_are_named():
    name = {"_target_": "experiments.calculators.chgnet", "model": "0.3.0"}
    assert calculator_name(name) == "chgnet 0.3.0"
    assert calculator_name({"_target_": "a.EMT", "model": {"x": 1}}) == "EMT"
    sums = identified(Target.of({"_target_": CORRECTED}))
    assert calculator_name(sums.plain()) == "corrected silver_oxide_pbe"
    own = {"_target_": CORRECTED, "path": ["runs/a", "runs/b"], "digest": ["sha256:1", "sha256:2"]}
    assert calculator_name(own) == "corrected runs/a, runs/b"
    one = {"_target_": CORRECTED, "path": ["silver_oxide_pbe/correction_0"], "digest": ["sha256:1"]}
    assert calculator_name(one) == "corrected silver_oxide_pbe/correction_0"
    assert calculator_name("DFT") == "DFT"
