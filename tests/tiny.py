"""The whole method at its smallest: EMT as the calculator, networks of a few weights, few steps."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.figure
import numpy as np
import pytest
from ase import Atoms
from ase.build import add_adsorbate, fcc111
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms

from experiments.harness.benchmarks import benchmark
from experiments.harness.config import compose
from experiments.harness.figures import spheres
from experiments.harness.generation import evaluate, sample
from experiments.harness.structure_search import generate_data, search_cost
from experiments.harness.training import train

ROOT = Path(__file__).parents[1]
RUN = {
    m.__name__.split(".")[-1]: m.run
    for m in (generate_data, train, sample, evaluate, benchmark, search_cost)
}
SEARCH = ["calculator=emt", "executor=threads", "tracking.mode=disabled"]
NETWORK = [
    "cutoff=4.0", "task.network.features=8", "task.network.blocks=2", "task.network.n_radial=6",
]  # fmt: skip
TRAIN = [
    *NETWORK, "threads=1", "device=cpu", "tracking.mode=disabled", "data.max_repeats=1",
    "train.batch_size=4", "train.warmup=2", "train.log_every=1", "train.validate_every=10",
    "train.checkpoint_every=4",
]  # fmt: skip
SAMPLE = ["threads=1", "device=cpu", "tracking.mode=disabled", "sampler.steps=4", "n=4"]
GUIDED = [*SAMPLE, "guide=paper", "guide.descent_steps=10"]


class NoOxygen(EMT):
    """Fails as calculators do: for some structures."""

    def calculate(self, atoms=None, *arguments):
        if 8 in atoms.numbers:
            raise RuntimeError("SCF did not converge")
        super().calculate(atoms, *arguments)


def run(entry: str, *overrides: str) -> dict[str, Any]:
    """An entry point in this process."""
    return RUN[entry](compose.load(entry, overrides))


def start(
    entry: str, *arguments: str, env_more: dict[str, str] | None = None, **more: Any
) -> subprocess.Popen:
    """An entry point as people start it."""
    command = [sys.executable, "-m", "experiments", entry, *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)} | (env_more or {})
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=environment, cwd=ROOT, **pipes | more)


PATIENCE = 600.0
"""Seconds after which a test gives up: far more than a busy machine needs."""


def until(condition: Callable[[], bool], seconds: float = PATIENCE) -> None:
    """Wait until `condition` holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came so far"
        time.sleep(0.02)


def wait_for(
    condition: Callable[[], bool], process: subprocess.Popen, seconds: float = PATIENCE
) -> None:
    """Until `condition` holds; the process must still be at work then."""

    def holds() -> bool:
        if condition():
            return True
        if process.poll() is not None:
            raise AssertionError(f"it ended too soon: {process.communicate()[1]}")
        return False

    try:
        until(holds, seconds)
    except AssertionError:
        process.kill()
        raise


@contextmanager
def small_pictures() -> Iterator[None]:
    """Draw all figures with few pixels and without arranging them, which takes four fifths of an
    evaluation's time: most tests only need that they are there."""
    save = matplotlib.figure.Figure.savefig

    def save_small(figure, *arguments, **more):
        figure.set_layout_engine("none")
        return save(figure, *arguments, **more | {"dpi": 20, "bbox_inches": None})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matplotlib.figure.Figure, "savefig", save_small)
        patch.setattr(spheres, "PIXELS", 4)
        yield


@contextmanager
def no_pictures() -> Iterator[None]:
    """Save figures as blank ones, where drawing would take longer than all else."""
    save = matplotlib.figure.Figure.savefig

    def save_blank(figure, *arguments, **more):
        blank = matplotlib.figure.Figure((0.1, 0.1))
        return save(blank, *arguments, **more | {"dpi": 20, "bbox_inches": None})

    with small_pictures(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(matplotlib.figure.Figure, "savefig", save_blank)
        yield


@dataclass(frozen=True)
class World:
    """Data made by EMT in c(2x8) and in p(3x3), and both networks trained on the first."""

    output: Path

    @property
    def minima(self) -> Path:
        return self.output / "generate_data/c2x8/minima.npz"

    @property
    def frames(self) -> Path:
        return self.output / "generate_data/c2x8/frames.npz"

    @property
    def reference(self) -> Path:
        return self.output / "generate_data/p3x3/minima.npz"

    @property
    def score(self) -> Path:
        return self.output / "train/score"

    @property
    def forcefield(self) -> Path:
        return self.output / "train/forcefield"

    @property
    def networks(self) -> list[str]:
        return [f"score={self.score}", f"forcefield={self.forcefield}"]


def make_world(output: Path) -> World:
    world = World(output)
    common = [*SEARCH, f"output={output}"]
    run("generate_data", *common, "name=c2x8", "compositions=[Ag3,Ag2O]", "n_per_composition=4")
    run(
        "generate_data", *common, "name=p3x3", "compositions=[Ag2O]", "n_per_composition=4",
        "template.slab=ag111_p3x3",
    )  # fmt: skip
    for task, steps in (("score", 12), ("forcefield", 12)):
        run(
            "train", *TRAIN, f"task={task}", f"output={output}", f"train.steps={steps}",
            f"data.path={world.minima}", f"data.frames={world.frames}",
        )  # fmt: skip
    return world


def platinum(n: int, seed: int = 0) -> list[Atoms]:
    """Somebody's own data: Pt trimers on Pt(111), labelled by EMT, the substrate under FixAtoms."""
    rng = np.random.default_rng(seed)
    frames = []
    for _ in range(n):
        atoms = fcc111("Pt", (3, 3, 2), vacuum=8.0, periodic=True)
        for hollow in ((0, 0), (1, 0), (0, 1)):
            add_adsorbate(atoms, "Pt", 2.0, "fcc", offset=hollow)
        atoms.positions[18:] += rng.normal(scale=0.1, size=(3, 3))
        atoms.set_constraint(FixAtoms(indices=range(18)))
        atoms.calc = EMT()
        energy, forces = atoms.get_potential_energy(), atoms.get_forces(apply_constraint=False)
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
        frames.append(atoms)
    return frames
