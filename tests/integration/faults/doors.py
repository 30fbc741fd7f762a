"""Every way in which a file comes into the project, as a function of a folder to damage."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experiments.harness.comparison.compare import data
from experiments.harness.comparison.run_reader import read as read_run
from experiments.harness.config import compose
from experiments.harness.pipeline import runner
from experiments.harness.runs.run_folder import RunFolder
from experiments.harness.training.inspect import facts
from sdedata import StructureSet
from sdedata.files import read_frames
from sweeps.definition.reader import read as read_sweep
from tests.integration.faults.damage import damage
from tests.tiny import ROOT, SAMPLE, SEARCH, TRAIN, World, platinum, run

EVALUATE = ["calculator=emt", "executor=threads", "tracking.mode=disabled",
            "relaxation.max_steps=5", "relaxation.fmax=0.5"]  # fmt: skip
LONG = "[" * 5000


@dataclass(frozen=True)
class Sources:
    """Good folders and files, made once; each try damages a copy."""

    world: World
    home: Path

    @property
    def train(self) -> list[str]:
        return [*TRAIN, "task=score", f"data.path={self.world.minima}", "train.steps=6", "name=a"]

    @property
    def sample(self) -> list[str]:
        return [*SAMPLE, *self.world.networks, "composition=Ag2O", "n=2", "batch_size=2",
                "sampler.steps=2", "guide.descent_steps=1"]  # fmt: skip

    @property
    def search(self) -> list[str]:
        return [*SEARCH, "name=c2x8", "compositions=[Ag3,Ag2O]", "n_per_composition=4"]


def make_sources(world: World, home: Path) -> Sources:
    """One run of each command, and files of structures."""
    from ase.io import write

    found = Sources(world, home)
    for kind in ("generate_data", "train"):  # not what other tests have sampled in this world
        shutil.copytree(world.output / kind, home / "runs" / kind)
    run("train", *found.train, f"output={home}/runs")
    run("sample", *found.sample, "name=a", f"output={home}/runs")
    run("evaluate", *EVALUATE, f"sample={home}/runs/sample/a", "name=a", f"output={home}/runs")
    write(home / "own.extxyz", platinum(4))
    write(home / "own.traj", platinum(2))
    return found


Door = Callable[[Sources, Path, np.random.Generator], Any]


def _copy(source: Path, place: Path) -> Path:
    (shutil.copytree if source.is_dir() else shutil.copy)(source, place)
    return place


def _damaged(place: Path, names: Sequence[str], rng: np.random.Generator) -> Path:
    damage(place / names[rng.integers(0, len(names))], rng)
    return place


TRAINING = ("config.yaml", "summary.json", "metrics.jsonl", "tracking.json", "data.json",
            "model.pt", "checkpoints/last.pt")  # fmt: skip
SAMPLING = ("config.yaml", "summary.json", "metrics.jsonl", "structures/generated.extxyz",
            "structures/diffused.extxyz", "structures/path.extxyz")  # fmt: skip
EVALUATION = ("config.yaml", "summary.json", "metrics.jsonl", "structures/evaluated.extxyz",
              "structures/relaxed.extxyz", "structures/best.extxyz")  # fmt: skip


def inspected(sources: Sources, place: Path, rng: np.random.Generator) -> Any:
    """A training run, inspected."""
    return facts(_damaged(_copy(sources.world.score, place / "run"), TRAINING, rng))


def compared(sources: Sources, place: Path, rng: np.random.Generator) -> Any:
    """A run of a training, a sampling or an evaluation, compared."""
    kind, names = [("train/score", TRAINING[:3]), ("sample/a", SAMPLING[:4]),
                   ("evaluate/a", EVALUATION)][rng.integers(0, 3)]  # fmt: skip
    folder = _damaged(_copy(sources.home / "runs" / kind, place / "run"), names, rng)
    return data(["a"], [read_run(folder, 4)])


def mirrored(sources: Sources, place: Path, rng: np.random.Generator) -> Any:
    """What W&B would be given of a run."""
    from experiments.harness.tracking.run_id import identity, new_id
    from experiments.harness.tracking.wandb_media import as_media

    folder = RunFolder(_damaged(_copy(sources.world.score, place / "run"), TRAINING[:4], rng))
    known, rows = (
        (identity(folder), new_id(folder), folder.summary, folder.config),
        folder.rows(),
    )
    return known, [as_media(None, None, folder, r) for r in rows if "train/step" in r]


def trained_again(sources: Sources, place: Path, rng: np.random.Generator) -> Any:
    """The same training on a damaged folder."""
    _damaged(_copy(sources.home / "runs/train/a", place / "train/a"), TRAINING, rng)
    return run("train", *sources.train, f"output={place}")


def sampled_again(sources: Sources, place: Path, rng: np.random.Generator) -> Any:
    """The same sampling on a damaged folder."""
    _damaged(_copy(sources.home / "runs/sample/a", place / "sample/a"), SAMPLING, rng)
    return run("sample", *sources.sample, "name=a", f"output={place}")


def evaluated(sources: Sources, place: Path, rng: np.random.Generator) -> Any:
    """An evaluation of a damaged sampling."""
    _damaged(_copy(sources.home / "runs/sample/a", place / "sample/a"), SAMPLING[:4], rng)
    return run("evaluate", *EVALUATE, f"sample={place}/sample/a", f"output={place}")


def evaluated_again(sources: Sources, place: Path, rng: np.random.Generator) -> Any:
    """The same evaluation on a damaged folder."""
    _damaged(_copy(sources.home / "runs/evaluate/a", place / "evaluate/a"), EVALUATION, rng)
    sample = sources.home / "runs/sample/a"
    return run("evaluate", *EVALUATE, f"sample={sample}", "name=a", f"output={place}")


def searched_again(sources: Sources, place: Path, rng: np.random.Generator) -> Any:
    """The same search on a folder with a damaged file of candidates."""
    folder = _copy(sources.world.output / "generate_data/c2x8", place / "generate_data/c2x8")
    names = [f"candidates/{p.name}" for p in sorted((folder / "candidates").glob("[0-9]*.npz"))]
    _damaged(folder, [*names, "config.yaml", "summary.json", "metrics.jsonl"], rng)
    return run("generate_data", *sources.search, f"output={place}")


def loaded(sources: Sources, place: Path, rng: np.random.Generator) -> Any:
    """A model file, made ready for generation."""
    from surfdiff import Generator

    model = ["score", "forcefield"][rng.integers(0, 2)]
    files = {name: getattr(sources.world, name) / "model.pt" for name in ("score", "forcefield")}
    files[model] = _copy(files[model], place / "model.pt")
    damage(files[model], rng)
    generator = Generator.load(files["score"], files["forcefield"], steps=1, descent_steps=1)
    return facts(files[model]), generator.on("ag111_p3x3", "Ag2O")


def array_set(sources: Sources, place: Path, rng: np.random.Generator) -> Any:
    """A packed set, and all that is made of it."""
    from experiments.harness.training.data import training_data

    file = _copy([sources.world.minima, sources.world.frames][rng.integers(0, 2)], place / "a.npz")
    damage(file, rng)
    read = StructureSet.read(file)
    made = read.compositions, read.relative_energy, read.digest, read.to_atoms()
    config: Any = compose.load("train", [*TRAIN, f"data.path={file}", f"output={place}"])
    return made, training_data(config, "score")


def structure_file(sources: Sources, place: Path, rng: np.random.Generator) -> Any:
    """A file of labelled structures, read to train and as a slab."""
    from sdedata import Template, own

    ending = "traj" if rng.random() < 0.2 else "extxyz"
    file = _copy(sources.home / f"own.{ending}", place / f"a.{ending}")
    damage(file, rng)
    match rng.integers(0, 3):
        case 0:
            return own.read_good([file])
        case 1:
            return Template.from_slab(file), read_frames(file)
        case _:
            config: Any = compose.load(
                "train", [*TRAIN, "task=forcefield", f"data.path={file}", f"output={place}"]
            )
            from experiments.harness.training.data import training_data

            return training_data(config, "forcefield")


def experiment_file(sources: Sources, place: Path, rng: np.random.Generator) -> Any:
    """The file of an experiment, planned."""
    known = sorted((ROOT / "experiments").glob("*/experiment.yaml"))
    file = _copy(known[rng.integers(0, len(known))], place / "experiment.yaml")
    damage(file, rng)
    return runner.prepare(file, [f"output={place}/runs"])


def sweep_file(sources: Sources, place: Path, rng: np.random.Generator) -> Any:
    """The file of a sweep, checked."""
    file = _copy(ROOT / "sweeps/smoke.yaml", place / "smoke.yaml")
    damage(file, rng)
    return read_sweep(file)


OVERRIDES = (
    "name={}", "output={}", "seed={}", "train.steps={}", "task={}", "sde={}", "{}=1", "+{}=1",
    "~{}", "sde._target_={}", "data.z_range={}", "tracking.tags={}", "cutoff={}",
    "task.network={}",
    "task.network.features={}", "data={}", "device={}", "{}",
)  # fmt: skip
GIVEN = (
    "", "null", "..", ".", "../../x", "/x", "a/b", "x\0y", "-1", "1e400", "nan", "[1,2]", "{a:1}",
    "'", '"', "${oc.env:HOME}", "${x}",
    "[[", "a=b", "a,b", "range(3)", "glob(*)", "é", "os.mkdir", "\n",
    LONG, "x" * 300, "${oc.decode:[}", "\\", "!!python/none", "train", "@", "a@b", "hydra",
)  # fmt: skip


def overrides(sources: Sources, place: Path, rng: np.random.Generator) -> Any:
    """A command line."""
    given = [
        OVERRIDES[rng.integers(0, len(OVERRIDES))].format(GIVEN[rng.integers(0, len(GIVEN))])
        for _ in range(rng.integers(1, 3))
    ]
    entry = ["train", "sample", "evaluate", "generate_data"][rng.integers(0, 4)]
    settings: Any = compose.load(entry, given)
    if settings.name is not None:
        home = (Path("runs") / entry).resolve()
        assert (home / settings.name).resolve().parent == home, f"{given}: outside of its folder"
    return settings


DOORS: dict[Door, int] = {
    inspected: 6, compared: 5, mirrored: 5, loaded: 8, array_set: 5, structure_file: 5,
    overrides: 4, trained_again: 2, sampled_again: 2, evaluated: 1, evaluated_again: 1,
    searched_again: 1, experiment_file: 1, sweep_file: 1,
}  # fmt: skip
"""How often each is tried, in proportion: quick ones more often."""
