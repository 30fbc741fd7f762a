"""Whatever is wrong is said in one sentence that names file, frame or key, before any compute."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import fcc111
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from experiments.harness.commands.main import main as surfdiff
from experiments.harness.training.checkpoint import load_model, save_model
from tests.tiny import PATIENCE, RUN, SAMPLE, TRAIN, platinum, run, start


@pytest.fixture
def refused(tmp_path, capsys):
    """Call an entry point's `main`; returns its one sentence, and sees that it did nothing."""

    def call(entry: str, *arguments: object) -> str:
        output = [f"output={tmp_path}/runs"] if entry in RUN else []
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            surfdiff([entry, *output, *map(str, arguments)])
        out, err = capsys.readouterr()
        assert end.value.code == 2
        assert out == ""
        (sentence,) = err.strip().splitlines()
        assert sentence.startswith(f"{entry}: ")
        assert not list(Path(f"{tmp_path}/runs").glob("*/*/config.yaml"))
        return sentence.removeprefix(f"{entry}: ")

    return call


# Keys and values of configs

VALUES = [
    ("train", "train.steps=-5", "train.steps: Input should be greater than or equal to 1, got -5"),
    ("train", "steps=5", "no config key or group 'steps'"),
    ("train", "+extra=1", "no config key extra"),
    ("train", "~tracking", "tracking is missing"),
    ("train", "train.steps=1.5", "train.steps: Input should be a valid integer, got 1.5"),
    ("train", "train.ema=1", "train.ema: Input should be less than 1, got 1"),
    ("train", "train.learning_rate=nan", "train.learning_rate: Input should be a finite number"),
    ("train", "train.validation_share=0", "train.validation_share: Input should be greater than 0"),
    ("train", "cutoff=-6", "cutoff: Input should be greater than 0, got -6"),
    ("train", "task=nothing", "Could not find 'task/nothing' Available options in 'task': forcef"),
    ("train", "task.network.features=-1", "task.network.features: Input should be greater than"),
    ("train", "task.network.width=3", "there is no config key or group 'task.network.width'"),
    ("train", "+task.network.width=3", "painnx.ScoreNetwork: .*width"),
    ("train", "sde.beta_min=9999", "vpsde.brownian: .*beta_min < beta_max, got beta_min=9999.0"),
    ("train", "sde=[1,2]", r"sde=\[1,2\]: sde is chosen by a name"),
    ("train", "sde={a:1}", "sde={a:1}: sde is chosen by a name, its keys by sde.KEY=VALUE"),
    ("train", "sde._target_=vpsde.nothing", "vpsde.nothing: "),
    ("train", "data.z_range=[5,1]", r"data.z_range: .*0 < low < high.* got \[5, 1\]"),
    ("train", "data.z_range=[-1,5]", "data.z_range: .*above the slab"),
    ("train", "data.oxygen=some", "data.oxygen: Input should be 'all', 'poor' or 'rich', got 's"),
    ("train", "device=abacus", "device=abacus is not available"),
    ("train", "steps", "cannot read 'steps' as KEY=VALUE"),
    ("train", "experiment=nothing", "there is no group experiment here: give --config-dir"),
    ("train", "--fast", "unrecognized arguments: --fast"),
    ("train", "--cfg=hydra", "invalid choice: 'hydra'"),
    ("train", "--config-dir=nowhere", "there is no folder nowhere"),
    ("train", "hydra.run.dir=x", "Hydra's own settings have no effect here"),
    ("train", "+hydra.job.name=x", "Hydra's own settings have no effect here"),
    ("train", "hydra/launcher=basic", "Hydra's own settings have no effect here"),
    ("train", "seed=1,2", "seed=1,2 gives several values: add -m"),
    ("train", "name=a(b", "put quotes around a value"),
    ("train", "task.network.features=1000000000", "task.network.features: .*less than or equal"),
    ("train", "cutoff=1e9", "cutoff: Input should be less than or equal to 50"),
    ("train", "seed=99999999999999999999", "seed: Input should be less than or equal to 429496729"),
    ("sample", "n=1000000000000", "n: Input should be less than or equal to 10000000"),
    ("sample", "composition=Ag99999999", "'Ag99999999' holds more than 100000 atoms"),
    ("generate_data", "n_per_composition=1000000000000", "n_per_composition: .*less than or equal"),
    ("sample", "sampler.steps=-5", "sampler.steps: Input should be greater than or equal to 1"),
    ("sample", "guide.eta_dt=-0.001", "guide.eta_dt: Input should be greater than or equal to 0"),
    ("sample", "guide.eta_dt=inf", "guide.eta_dt: Input should be a finite number, got inf"),
    ("sample", "guide=all", "Could not find 'guide/all'"),
    ("sample", "n=0", "n: Input should be greater than or equal to 1, got 0"),
    ("sample", "sampler.noise=loud", "sampler.noise: Input should be 'ancestral' or 'euler', got"),
    ("sample", "forcefield=silver_oxide", "no score network: give score=FOLDER"),
    ("evaluate", "tolerance=-1", "tolerance: Input should be greater than 0, got -1"),
    ("evaluate", "tolerance=1", "nothing to evaluate: give sample=FOLDER"),
    ("evaluate", "sample=nowhere", "nowhere is not a run folder"),
    ("generate_data", "n_per_composition=0", "n_per_composition: Input should be greater than"),
    ("generate_data", "compositions=[]", "compositions: List should have at least 1 item"),
    ("generate_data", "compositions=[Ag3,Ag6Q3]", "compositions.1: .*'Ag6Q3' names no element"),
    ("generate_data", "min_distances.Ag-O=9", "Ag4O2 does not fit into the z range"),
    ("generate_data", "template.slab=ag111_p9x9", "no slab 'ag111_p9x9': give a file, or one of"),
    ("generate_data", "template.z_range=[0,3]", "template.z_range: a z range is .*above the slab"),
    ("generate_data", "template.z_range=[1,30]", "the cell is too thin in z: .*add vacuum"),
    ("generate_data", "+min_distances.Ag-Ux=2", "minimum distance Ag-Ux"),
    ("generate_data", "relaxation.fmax=0", "relaxation.fmax: Input should be greater than 0"),
    ("generate_data", "calculator._target_=not_there.Calculator", "not_there.Calculator: "),
    ("generate_data", "executor.max_workers=0", "executor.max_workers: Input should be greater"),
    ("quickstart", "seed=-1", "seed: Input should be greater than or equal to 0, got -1"),
    ("quickstart", "--fast", "unrecognized arguments: --fast"),
    ("quickstart", "forcefield.train.steps=-5", "train.steps: Input should be greater than"),
    ("quickstart", "evaluate.tolerance=0", "tolerance: Input should be greater than 0"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("entry", "argument", "reported"), VALUES, ids=[f"{v[0]}-{v[1]}" for v in VALUES]
)
def test_values(refused, entry, argument, reported):
    quick = ["calculator=emt", "executor=threads"] if entry == "generate_data" else []
    mode = [] if entry == "quickstart" or argument == "~tracking" else ["tracking.mode=disabled"]
    sentence = refused(entry, *quick, *mode, argument)
    assert re.search(reported, sentence), sentence


@pytest.mark.parametrize("task", ["score", "forcefield"])
def test_a_schedule_that_falls(refused, task):
    reported = refused("train", f"task={task}", "sde=vp", "sde.beta_min=5", "sde.beta_max=1")
    assert "beta_min=5.0 and beta_max=1.0" in reported


# Data


def labelled(atoms: Atoms, energy: float = 1.0, forces: object = 0.0) -> Atoms:
    array = np.broadcast_to(np.asarray(forces, dtype=float), (len(atoms), 3)).copy()
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=array)
    return atoms


def changed(how: str) -> Atoms:
    """A frame with one fault."""
    atoms = platinum(1)[0]
    match how:
        case "no cell":
            calc, atoms.calc = atoms.calc.results, None
            atoms.cell[:] = 0
            labelled(atoms, calc["energy"], calc["forces"])
        case "no energy":
            atoms.calc = SinglePointCalculator(atoms, forces=atoms.calc.results["forces"])
        case "no forces":
            atoms.calc = SinglePointCalculator(atoms, energy=1.0)
        case "no labels":
            atoms.calc = None
        case "NaN forces":
            labelled(atoms, 1.0, np.nan)
        case "NaN positions":
            atoms.positions[3, 1] = np.nan
            labelled(atoms)
        case "nothing fixed":
            atoms.set_constraint()
            labelled(atoms)
        case "too high":
            atoms.positions[-1, 2] += 4.0
            labelled(atoms)
        case "thin cell":
            atoms.cell[2, 2] = 9.0
            labelled(atoms)
        case "vast cell":
            atoms.cell[0] *= 1e300
            labelled(atoms)
        case "in the slab":
            atoms.positions[-1, 2] -= 3.0
            labelled(atoms)
    return atoms


FAULTS = {
    "no cell": "no cell in the plane",
    "no energy": "no energy",
    "no forces": "no forces",
    "no labels": "no energy",
    "NaN forces": "forces not finite",
    "NaN positions": "positions are not finite",
    "nothing fixed": "no fixed atoms",
    "too high": "Pt at .* Å above the slab is outside the z range of 1 to 5 Å, as in 1 of 3 frames",
    "vast cell": "the cell is of more than 1,000,000 Å",
    "in the slab": "inside the slab",
    "thin cell": "the cell is too thin in z: the z range ends at .*; add vacuum",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_frame(refused, tmp_path, fault):
    path = tmp_path / "mine.traj"
    write(path, [*platinum(2), changed(fault)])
    reported = refused("train", *TRAIN, f"data.path={path}")
    assert reported.startswith(f"{path}, frame 2")
    assert re.search(FAULTS[fault], reported), reported


def test_data_files_that_are_none(refused, tmp_path):
    empty, other, short = (tmp_path / name for name in ("empty.traj", "text.extxyz", "one.traj"))
    empty.touch()
    other.write_text("Dear all,\nthe data are attached.\n")
    write(short, platinum(1))
    broken = tmp_path / "broken.npz"
    broken.write_bytes(b"PK nonsense")
    assert refused("train", "data.path=gone.traj") == "there is no file gone.traj"
    assert refused("train", f"data.path={empty}") == f"{empty} is empty"
    assert refused("train", f"data.path={other}").startswith(f"{other} cannot be read")
    assert refused("train", f"data.path={broken}").startswith(f"{broken} is not a packed")
    assert "need a structure each: there is 1" in refused("train", f"data.path={short}")


READ = [("train", "data.path"), ("generate_data", "extend"), ("generate_data", "template.slab")]


@pytest.mark.parametrize(("entry", "key"), READ)
@pytest.mark.parametrize("ending", ["npz", "traj", "extxyz"])
def test_files_that_cannot_be_read(refused, world, tmp_path, entry, key, ending):
    """Garbage, a folder, and a good file of which the end is missing."""
    garbage, folder, cut = (tmp_path / f"{name}.{ending}" for name in ("garbage", "folder", "cut"))
    garbage.write_bytes(np.random.default_rng(0).bytes(5000))
    folder.mkdir()
    if ending == "npz":
        cut.write_bytes(world.minima.read_bytes()[:-300])
    else:
        write(cut, platinum(1))
        cut.write_bytes(cut.read_bytes()[:-300])
    more = TRAIN if entry == "train" else ["calculator=emt", "tracking.mode=disabled"]
    for path in (garbage, folder, cut):
        assert str(path) in refused(entry, *more, f"{key}={path}")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize(("entry", "key"), READ)
def test_files_of_somebody_else(refused, world, tmp_path, entry, key):
    path = tmp_path / "mine.npz"
    path.write_bytes(world.minima.read_bytes())
    path.chmod(0)
    more = TRAIN if entry == "train" else ["calculator=emt", "tracking.mode=disabled"]
    reported = refused(entry, *more, f"{key}={path}")
    assert str(path) in reported
    assert "ermission denied" in reported


def test_slabs_that_are_none(refused, world, tmp_path):
    thin, flat, empty = (tmp_path / f"{name}.extxyz" for name in ("thin", "flat", "empty"))
    write(thin, fcc111("Ag", (3, 3, 2), a=4.15, vacuum=1.5, periodic=True))
    write(flat, Atoms("Ag4", np.eye(4, 3) * 3))
    empty.touch()
    for path, reported in (
        (thin, "the cell is too thin in z"),
        (flat, "no cell in the plane"),
        (empty, "is empty"),
    ):
        for entry, more in (
            ("generate_data", ["calculator=emt"]),
            ("sample", [*SAMPLE, *world.networks]),
        ):
            sentence = refused(entry, *more, f"template.slab={path}")
            assert reported in sentence
            assert path.stem in sentence


# Checkpoints


def test_checkpoints_that_do_not_fit(refused, world, tmp_path):
    write(tmp_path / "gold.extxyz", fcc111("Au", (3, 3, 2), vacuum=10.0, periodic=True))
    broken = tmp_path / "broken.pt"
    broken.write_bytes((world.score / "model.pt").read_bytes()[:5000])
    field = load_model(world.forcefield)
    low = field.card | {"window": [1.0, 3.0]}
    save_model(tmp_path / "low.pt", "forcefield", field.network, low)
    oxide = ["composition=Ag2O"]
    for arguments, reported in (
        (
            [f"score={world.forcefield}", "guide=none"],
            "holds a forcefield network; a score network",
        ),
        ([f"score={world.score}", f"forcefield={world.score}"], "holds a score network; a forcef"),
        (
            [f"score={world.score}"],
            "guidance needs a force field: give forcefield=FOLDER",
        ),
        ([*world.networks, "guide=none"], "guide=none would ignore the force field"),
        ([*world.networks, "composition=Ag2Pt"], f"network in {world.score} knows O, Ag, not Pt"),
        ([*world.networks, f"template.slab={tmp_path}/gold.extxyz"], "knows O, Ag, not Au"),
        ([*world.networks, "composition=silver"], "cannot read 'silver' as a chemical formula"),
        ([*world.networks, "template.z_range=[1.0,4.0]"], "not the training's [1.0, 5.0] Å"),
        (
            [f"score={world.score}", f"forcefield={tmp_path}/low.pt"],
            "trained in the z range [1.0,",
        ),
        ([f"score={tmp_path}/gone", "guide=none"], f"no checkpoint {tmp_path}/gone"),
        ([f"score={tmp_path}", "guide=none"], "holds no model.pt"),
        ([f"score={broken}", "guide=none"], f"{broken} is no checkpoint and no model file"),
        ([f"score={world.score}/checkpoints/last.pt", "guide=none"], "is not a model file"),
    ):
        assert reported in refused("sample", *SAMPLE, *oxide, *arguments)


def test_cutoffs_that_differ(refused, world, tmp_path):
    from painnx import ForceField

    field = load_model(world.forcefield)
    other = ForceField(field.elements, features=4, blocks=1, n_radial=4, cutoff=5.0)
    save_model(tmp_path / "other.pt", "forcefield", other, field.card | {"cutoff": 5.0})
    reported = refused("sample", *SAMPLE, f"score={world.score}", f"forcefield={tmp_path}/other.pt")
    assert "cutoff is 5 Å, the score's 4 Å" in reported


class Malice:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_checkpoint_executes_nothing(refused, world, tmp_path):
    done = tmp_path / "done"
    torch.save({"kind": "score", "state": Malice(done)}, tmp_path / "pickle.pt")
    reported = refused("sample", *SAMPLE, f"score={tmp_path}/pickle.pt", "guide=none")
    assert "is no checkpoint and no model file" in reported
    model = load_model(world.score)
    mkdir = {"_target_": "os.mkdir", "path": str(done)}
    for node in (
        mkdir,
        {"_target_": "vpsde.brownian", "plane": mkdir},
        {"_target_": "vpsde.brownian", "plane": [mkdir]},
        mkdir | {"_target_": "vpsde.sampler.torch.os.mkdir"},
        mkdir | {"_target_": "vpsde.${x}", "x": "sampler.torch.os.mkdir"},
        {"_target_": "vpsde.LinearBeta", "beta_min": "${oc.env:HOME}", "beta_max": 1},
    ):
        save_model(tmp_path / "sde.pt", "score", model.network, model.card | {"sde": node})
        reported = refused("sample", *SAMPLE, f"score={tmp_path}/sde.pt", "guide=none")
        assert "sde.pt holds no whole model" in reported
    assert not done.exists()


def test_a_score_of_the_papers_equation_is_sampled_by_its_solvers_alone(refused, world, tmp_path):
    model = load_model(world.score)
    node = {"_target_": "vpsde.vp", "beta_min": 0.01, "beta_max": 3.0}
    save_model(tmp_path / "vp.pt", "score", model.network, model.card | {"sde": node})
    given = [*SAMPLE, f"score={tmp_path}/vp.pt", "guide=none", "composition=Ag2O"]
    reported = refused("sample", *given)
    assert "the solver multistep is one of Brownian motion" in reported
    assert "sampler=ancestral or paper" in reported
    for sampler in ("ancestral", "paper"):
        run("sample", *given, f"sampler={sampler}", "n=1", f"output={tmp_path}/{sampler}")


@pytest.mark.parametrize("key", ["kind", "config", "card", "state"])
def test_a_model_file_with_something_wrong_inside(refused, world, tmp_path, key):
    content = torch.load(world.score / "model.pt", weights_only=True)
    content[key] = {"state": {}, "kind": "other"}.get(key, json.dumps({"features": 8}))
    torch.save(content, tmp_path / "odd.pt")
    reported = refused("sample", *SAMPLE, f"score={tmp_path}/odd.pt", "guide=none")
    assert reported.startswith(f"{tmp_path}/odd.pt holds ")


# Folders of other runs


def test_a_folder_that_holds_another_run(world, capsys, monkeypatch, tmp_path):
    """Not through `refused`: the folder is there."""
    common = [*TRAIN, "task=score", f"output={tmp_path}", "train.steps=2"]
    write(tmp_path / "mine.traj", platinum(4))
    run("train", *common, f"data.path={tmp_path}/mine.traj", "data.max_energy=100")
    with pytest.raises(ValueError, match="another configuration .*train.steps was 2, is now 3"):
        run(
            "train",
            *common,
            f"data.path={tmp_path}/mine.traj",
            "data.max_energy=100",
            "train.steps=3",
        )
    write(tmp_path / "mine.traj", platinum(4, seed=1))
    with pytest.raises(ValueError, match="another configuration .*digest was"):
        run("train", *common, f"data.path={tmp_path}/mine.traj", "data.max_energy=100")


# inspect and predict


def test_inspect_and_predict(refused, world, tmp_path):
    nan = platinum(1)[0]
    nan.positions[0] = np.nan
    nan.calc = None
    write(tmp_path / "nan.traj", [nan])
    write(tmp_path / "pt.traj", platinum(1))
    silver = Atoms("Ag", [[0, 0, 0]], pbc=True)
    write(tmp_path / "cell.extxyz", [Atoms("Ag", [[0, 0, 0]]), silver])
    silver_nan = Atoms("Ag", [[0, np.nan, 0]])
    write(tmp_path / "nan.extxyz", [silver_nan])
    (tmp_path / "empty.extxyz").touch()
    assert "is not a run folder" in refused("inspect", tmp_path)
    assert "no checkpoint" in refused("inspect", tmp_path / "gone")
    field = world.forcefield
    for arguments, reported in (
        ((world.score, tmp_path / "pt.traj"), "a forcefield network is needed"),
        ((field, tmp_path / "pt.traj"), "pt.traj, frame 0: the model does not know Pt"),
        ((field, tmp_path / "gone.traj"), "there is no file"),
        ((field, tmp_path / "empty.extxyz"), "is empty"),
        ((field, tmp_path / "nan.extxyz"), "frame 0: positions are not finite"),
        ((field, tmp_path / "cell.extxyz"), "frame 1: periodic along a direction without a cell"),
    ):
        assert reported in refused("predict", *arguments)
    good = tmp_path / "good.extxyz"
    write(good, Atoms("Ag2", [[0, 0, 0], [0, 0, 2.5]]))
    reported = refused("predict", field, good, "--output", tmp_path / "out.nonsense")
    assert "out.nonsense: ASE writes no format" in reported
    assert not list(tmp_path.glob("*_predicted*"))


# The real thing


@pytest.mark.parametrize(
    ("entry", "arguments", "reported"),
    [
        ("train", ["train.steps=-5"], "train: config key train.steps: Input should be greater"),
        ("sample", ["score=gone"], "sample: there is no checkpoint gone"),
    ],
)
def test_from_the_shell(entry, arguments, reported, tmp_path):
    process = start(entry, *arguments, f"output={tmp_path}")
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2
    assert out == ""
    assert err.startswith(reported)
    assert len(err.splitlines()) == 1
    assert not list(tmp_path.iterdir())
