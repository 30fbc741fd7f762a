"""What is timed: the project's own code as its commands run it, and nothing written for a race."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import torch

from experiments.harness.benchmarks.machine import clock
from experiments.harness.config import compose
from experiments.harness.config.settings import Benchmark, Sample, Train
from experiments.harness.execution.torch_setup import device_of
from experiments.harness.generation.process import Generation
from experiments.harness.generation.sample import prepare
from experiments.harness.training.checkpoint import save_model
from experiments.harness.training.data import training_data
from experiments.harness.training.objectives import make_task
from experiments.harness.training.trainer import Trainer, seeded
from sdedata import Template

NEVER = 10**6  # steps
KINDS = ("score", "forcefield")


class Timing(NamedTuple):
    seconds: float
    amount: float

    @property
    def each(self) -> float:
        """Seconds per unit."""
        return self.seconds / self.amount


@dataclass(frozen=True)
class Workload:
    """Something to time: `work(steps)` does it and returns how many units that was."""

    name: str
    unit: str
    work: Callable[[int], float]
    steps: int = 1
    """When timed."""
    brief: int = 1
    """To warm up, and to count operations; the same per unit."""
    definition: Callable[[int], float] | None = None
    """The same in plain operations, to be counted; None: it is not mostly a network."""

    def timed(self, device: torch.device) -> Timing:
        started = clock(device)
        amount = self.work(self.steps)
        return Timing(clock(device) - started, amount)


# Training


@dataclass
class Training:
    """A training under way, as `experiments.harness.training.train` does it."""

    config: Train
    trainer: Trainer
    facts: dict[str, Any]
    rows: Iterator[Any]

    def steps(self, n: int) -> float:
        """Take n optimiser steps; returns how many structures they saw."""
        for _ in islice(self.rows, n):
            pass
        return n * min(self.trainer.settings.batch_size, len(self.trainer.train))


def train_overrides(config: Benchmark, kind: str, device: torch.device) -> list[str]:
    """Overrides of `surfdiff train`; no repeated cells, for the peer knows none."""
    network = [f"task.network.{key}={value}" for key, value in config.network]
    network += ["task.network.backend=inductor"] if compiles(config, device) else []
    return [
        f"task={kind}", *network, f"cutoff={config.cutoff}", f"seed={config.seed}",
        f"train.batch_size={batch_size(config, device)}", "data.max_repeats=1",
        f"device={device}", f"threads={config.threads}",
    ]  # fmt: skip


def compiles(config: Benchmark, device: torch.device) -> bool:
    """Shall torch compile messages in training, and steps of sampling?"""
    return device.type != "cpu" if config.compile is None else config.compile


def batch_size(config: Benchmark, device: torch.device) -> int:
    return config.batch_size or (64 if device.type == "cpu" else 256)


@contextmanager
def training(overrides: Sequence[str], home: Path) -> Iterator[Training]:
    """A new network and its trainer; validation and checkpoints are left out of the time."""
    never = [f"train.{key}={NEVER}" for key in ("steps", "validate_every", "checkpoint_every")]
    config: Train = compose.load("train", [*overrides, *never])
    data = training_data(config, config.task.kind)
    facts, train = data.facts, data.train
    del data  # as in training
    seeded(config.seed)
    task = make_task(config, facts["elements"], train)
    device = device_of(config.device)
    trainer = Trainer(task, train, [], config.train, 1, config.seed, device)
    rows = trainer.run(home / f"{config.task.kind}.checkpoint")
    try:
        yield Training(config, trainer, facts, rows)
    finally:
        rows.close()


def save(trained: Training, path: Path) -> Path:
    """The network as it is, as a model file for `experiments.harness.generation.sample`."""
    task, facts = trained.trainer.task, trained.facts
    card = facts | {"cutoff": trained.config.cutoff, "sde": trained.config.sde.plain()}
    card |= {"steps": trained.trainer.step, "losses": {}}
    save_model(path, task.kind, task.network, card)
    return path


# Sampling


@dataclass(frozen=True)
class Cell:
    """A template, repeated in the plane; `steps` as a share of p(3x3)'s."""

    slab: str
    repeats: int
    composition: str
    steps: float

    def write(self, path: Path) -> Path:
        """The slab as a file for `experiments.harness.generation.sample`."""
        Template.ag111(self.slab).slab.repeat((self.repeats, self.repeats, 1)).write(path)
        return path


CELLS = {
    "p3x3": Cell("p3x3", 1, "Ag6O3", 1),
    "p4x4": Cell("p4x4", 1, "Ag12O6", 1 / 2),
    "p3x3_2x2": Cell("p3x3", 2, "Ag24O12", 1 / 10),
    "p4x4_2x2": Cell("p4x4", 2, "Ag48O24", 1 / 10),
}


@dataclass(frozen=True)
class Sampling:
    """Generation in one cell, as `surfdiff sample` does it; guidance pulls with no strength.

    The networks are untrained: their forces are computed as any, and would lead nowhere.
    """

    generation: Generation
    slab: Path
    n: int
    """Structures in the batch."""
    steps: int
    """When timed."""

    @property
    def composition(self) -> str:
        return self.generation.composition

    @property
    def window(self) -> tuple[float, float]:
        """Lowest and highest z of the overlayer, Å, absolute."""
        low, high = self.generation.start.window[0].tolist()
        return low, high

    @classmethod
    def of(
        cls, config: Benchmark, cell: str, guided: bool, models: dict[str, Path], home: Path,
        device: torch.device,
    ) -> "Sampling":  # fmt: skip
        wanted = CELLS[cell]
        n = config.structures or (32 if device.type == "cpu" else 256)
        slab = wanted.write(home / f"{cell}.extxyz")
        settings: Sample = compose.load(
            "sample", ["sampler=ancestral", "guide=paper" if guided else "guide=none"]
        )
        changes: dict[str, Any] = {
            "score": str(models["score"]),
            "device": str(device),
            "threads": config.threads,
            "seed": config.seed,
            "compile": compiles(config, device),
            "composition": wanted.composition,
            "template.slab": str(slab),
        }
        if guided:
            changes |= {"forcefield": str(models["forcefield"]), "guide.eta_dt": 0.0}
        steps = max(1, round(config.steps * wanted.steps))
        return cls(prepare(settings.changed(changes)), slab, n, steps)

    def work(self, steps: int) -> float:
        return self._generate(self.generation, steps)

    def plain(self, steps: int) -> float:
        """Without what torch compiles."""
        start = replace(self.generation.start, max_edges=None)
        return self._generate(replace(self.generation, start=start), steps)

    def _generate(self, generation: Generation, steps: int) -> float:
        sampler = generation.process.sampler.changed({"steps": steps})
        process = replace(generation.process, sampler=sampler)
        replace(generation, process=process).generate(list(range(self.n)), iter(()))
        return self.n * steps
