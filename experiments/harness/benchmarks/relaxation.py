"""Relaxing many structures: in a batch, and one after the other with ASE.

All stop at the same largest force or after the same number of moves, without walls. On our force
field, the loop comes with the L-BFGS of ASE, which is what people run, and with that of
`guidance.relax`, which tells what is won by the batch and what by the moves. On a universal
potential it has the calculator of its own package and the moves of `guidance.relax`.
"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms, optimize
from ase.calculators.calculator import Calculator
from torch import Tensor

from experiments import calculators
from experiments.harness.benchmarks.workloads import train_overrides, training
from experiments.harness.config.settings import Benchmark
from experiments.harness.structure_search.reference import Reference
from guidance import LBFGS, ForceFieldCalculator, relax
from sdedata import Graph, collate, shipped

STARTS = "rss_ag6o3_p3x3"
DISPLACED = 0.2  # Å, standard deviation
BATCH = "batch"
OURS = "ASE with our moves"
OPTIMIZERS: dict[str, Any] = {"ASE": optimize.LBFGS, OURS: LBFGS}


Minima = dict[int, tuple[float, np.ndarray]]
"""By structure: energy (eV) and positions (Å) of the free atoms."""


@dataclass
class Relaxing:
    """Structures and two ways to their forces; what each relaxation took and found is collected."""

    atoms: list[Atoms]
    evaluate: Callable[[Graph], tuple[Tensor, Tensor]]
    """Energies and forces of a batch."""
    calculator: Callable[[], Calculator]
    """For the loops."""
    graph: Callable[[Atoms], Graph]
    fmax: float
    one_by_one: int
    """How many structures a loop takes at a time: it goes through all in turn."""
    moves: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    minima: dict[str, Minima] = field(default_factory=lambda: defaultdict(dict))

    def batch(self, max_steps: int) -> float:
        """All structures at once; those that are done leave the batch."""
        graph = collate([self.graph(atoms) for atoms in self.atoms])
        done = relax(graph, self.evaluate, self.fmax, max_steps, select=Graph.select)
        self.moves[BATCH] += done.steps.tolist()
        ends = done.graph.positions.split(done.graph.counts.tolist())
        for k, (energy, positions) in enumerate(zip(done.energy.tolist(), ends, strict=True)):
            self.minima[BATCH][k] = energy, positions.double().cpu().numpy()
        return len(self.atoms)

    def loop(self, optimizer: str, max_steps: int) -> float:
        """The next few structures, each with an optimizer of its own."""
        moves = self.moves[optimizer]
        for _ in range(self.one_by_one):
            k = len(moves) % len(self.atoms)
            atoms = self.atoms[k].copy()
            atoms.calc = self.calculator()
            one = OPTIMIZERS[optimizer](atoms, logfile=None)
            one.run(self.fmax, max_steps)
            moves.append(one.nsteps)
            self.minima[optimizer][k] = float(atoms.get_potential_energy()), atoms.positions
        return self.one_by_one

    def differences(self, optimizer: str) -> dict[str, float]:
        """How far the loop's minima are from the batch's, at most and in the median (eV, Å)."""
        ours, theirs = self.minima[BATCH], self.minima[optimizer]
        energy = [abs(ours[k][0] - theirs[k][0]) for k in theirs]
        moved = [np.linalg.norm(ours[k][1] - theirs[k][1], axis=1).max() for k in theirs]
        return {
            "compared": len(theirs),
            "energy_median": float(np.median(energy)),
            "energy_max": float(np.max(energy)),
            "displacement_median": float(np.median(moved)),
            "displacement_max": float(np.max(moved)),
        }


def relaxing(config: Benchmark, device: torch.device, home: Path) -> Relaxing:
    """On a force field after a short training."""
    settings = config.relaxation
    overrides = train_overrides(config, "forcefield", device)
    overrides += ["train.batch_size=16", "train.warmup=20"]
    with training(overrides, home) as trained:
        trained.steps(settings.training_steps)
        network = trained.trainer.best

    def graph(atoms: Atoms) -> Graph:
        return Graph.from_atoms(atoms, network.cutoff).to(device)

    return Relaxing(
        starts(settings.structures, config.seed),
        network, lambda: ForceFieldCalculator(network, graph), graph,
        settings.fmax, settings.one_by_one,
    )  # fmt: skip


def relaxing_on(name: str, config: Benchmark) -> Relaxing:
    """On a universal potential, by its name in `ORIGINALS`; the loops take its package's own."""
    settings, calculator = config.relaxation, getattr(calculators, name)()
    original = ORIGINALS[name]()
    return Relaxing(
        starts(settings.potential_structures, config.seed),
        Reference(calculator), lambda: original,
        lambda atoms: Graph.from_atoms(atoms, 1.0, dtype=torch.float64),
        settings.fmax, settings.one_by_one,
    )  # fmt: skip


def _sevennet() -> Calculator:
    return import_module("sevenn.calculator").SevenNetCalculator("7net-0", device="cpu")


def _chgnet() -> Calculator:
    network = import_module("chgnet.model").CHGNet.load(use_device="cpu", verbose=False)
    return import_module("chgnet.model.dynamics").CHGNetCalculator(network, use_device="cpu")


ORIGINALS: dict[str, Callable[[], Calculator]] = {"sevennet": _sevennet, "chgnet": _chgnet}
"""As the documentation of each package builds it, with the weights that `calculator=` takes."""


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
