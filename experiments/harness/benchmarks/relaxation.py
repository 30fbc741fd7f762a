"""Relaxing many structures on one force field: in a batch, and one after the other with ASE.

All stop at the same largest force or after the same number of moves, without walls. The loop comes
with the L-BFGS of ASE, which is what people run, and with that of `guidance.relax`, which tells
what is won by the batch and what by the moves.
"""

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms, optimize

from experiments.harness.benchmarks.workloads import train_overrides, training
from experiments.harness.config.settings import Benchmark
from guidance import LBFGS, ForceFieldCalculator, relax
from painnx import ForceField
from sdedata import Graph, collate, shipped

STARTS = "rss_ag6o3_p3x3"
DISPLACED = 0.2  # Å, standard deviation
BATCH = "batch"
OPTIMIZERS: dict[str, Any] = {"ASE": optimize.LBFGS, "ASE with our moves": LBFGS}


@dataclass
class Relaxing:
    """Structures, a force field, and the ways; `moves` collects how many each structure took."""

    atoms: list[Atoms]
    force_field: ForceField
    fmax: float
    one_by_one: int
    """How many structures a loop takes at a time: it goes through all in turn."""
    device: torch.device
    moves: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))

    def graph(self, atoms: Atoms) -> Graph:
        return Graph.from_atoms(atoms, self.force_field.cutoff).to(self.device)

    def batch(self, max_steps: int) -> float:
        """All structures at once; those that are done leave the batch."""
        graph = collate([self.graph(atoms) for atoms in self.atoms])
        done = relax(graph, self.force_field, self.fmax, max_steps, select=Graph.select)
        self.moves[BATCH] += done.steps.tolist()
        return len(self.atoms)

    def loop(self, optimizer: str, max_steps: int) -> float:
        """The next few structures, each with a calculator and an optimizer of its own."""
        moves = self.moves[optimizer]
        for _ in range(self.one_by_one):
            atoms = self.atoms[len(moves) % len(self.atoms)].copy()
            atoms.calc = ForceFieldCalculator(self.force_field, self.graph)
            one = OPTIMIZERS[optimizer](atoms, logfile=None)
            one.run(self.fmax, max_steps)
            moves.append(one.nsteps)
        return self.one_by_one


def relaxing(config: Benchmark, device: torch.device, home: Path) -> Relaxing:
    """A force field after a short training, and what it shall relax."""
    settings = config.relaxation
    overrides = train_overrides(config, "forcefield", device)
    overrides += ["train.batch_size=16", "train.warmup=20"]
    with training(overrides, home) as trained:
        trained.steps(settings.training_steps)
        network = trained.trainer.best
    atoms = starts(settings.structures, config.seed)
    return Relaxing(atoms, network, settings.fmax, settings.one_by_one, device)


def starts(n: int, seed: int) -> list[Atoms]:
    """Shipped minima in p(3x3), their overlayers displaced at random."""
    structures, rng = shipped.load(STARTS), np.random.default_rng(seed)
    frames = []
    for k in range(n):
        atoms = structures.atoms(k % len(structures))
        free = np.setdiff1d(np.arange(len(atoms)), atoms.constraints[0].index)
        atoms.positions[free] += rng.normal(scale=DISPLACED, size=(len(free), 3))
        atoms.calc = None
        frames.append(atoms)
    return frames
