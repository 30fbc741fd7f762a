"""Relaxation of several structures at once, by a calculator or with a surrogate before it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator
from torch import Tensor

from experiments.harness.structure_search.reference import Reference, surrogate_of
from guidance import Relaxation, refine
from guidance import relax as relax_batch
from sdedata import Graph, StructureSet, collate
from sdedata.adsorption import is_adsorbed

PRERELAXATION: dict[str, Any] = {"fmax": 0.05, "max_steps": 100}
"""Of the relaxation on the surrogate alone, before the first call of the reference."""


@dataclass(frozen=True)
class Surrogate:
    """A force field that does most of a relaxation, so that the reference is called less often."""

    model: str
    """Its file or run folder."""
    trust_radius: float | None = None
    """Å that an atom may move for one call of the reference, which is called from the random start
    on; None: it is first called where a relaxation on the surrogate has ended.
    """


def relaxed(
    images: Sequence[Atoms],
    calculator: Calculator,
    settings: Mapping[str, Any],
    surrogate: Surrogate | None = None,
) -> "Paths":
    """Relax structures side by side, by the calculator alone or with a surrogate.

    `settings` are fmax (eV/Å), max_steps and max_step (Å). A calculator with a method `batch`
    computes all of them in one call.
    """
    reference = Reference(calculator)
    cutoff = 1.0 if surrogate is None else surrogate_of(surrogate.model).cutoff
    graph = collate([Graph.from_atoms(image, cutoff, dtype=torch.float64) for image in images])
    paths = Paths(graph, reference)
    common: Any = {"select": Graph.select, "observe": paths}
    common |= {"fmax": settings["fmax"], "max_steps": settings["max_steps"]}
    if surrogate is None:
        paths.last = relax_batch(graph, reference, max_step=settings["max_step"], **common)
    else:
        paths.last = _with_surrogate(graph, reference, surrogate, **common)
    return paths


def _with_surrogate(
    graph: Graph, reference: Reference, surrogate: Surrogate, **common: Any
) -> Relaxation[Graph]:
    network = surrogate_of(surrogate.model)

    def guess(graph: Graph) -> tuple[Tensor, Tensor]:
        energy, forces = network(graph.to(dtype=torch.float32))
        return energy.double(), forces.double()

    if surrogate.trust_radius is not None:
        return refine(graph, reference, guess, trust_radius=surrogate.trust_radius, **common)
    before = relax_batch(graph, guess, select=Graph.select, **PRERELAXATION)
    sound = before.finite[graph.batch, None]
    begin = graph.at(torch.where(sound, before.graph.positions, graph.positions))
    return refine(begin, reference, guess, fallback=graph.positions, **common)


class Paths:
    """What an observer of a relaxation has seen: the frames of each structure.

    A frame is positions (Å), energy (eV) and forces on all atoms (eV/Å); `failed` has the reasons
    of structures that the calculator refused.
    """

    last: Relaxation[Graph]

    def __init__(self, graph: Graph, reference: Reference) -> None:
        self.graph, self.reference = graph, reference
        self.frames: list[list[tuple[np.ndarray, float, np.ndarray]]] = []
        self.failed: dict[int, str] = {}
        for _ in range(graph.n_structures):
            self.frames.append([])

    def __call__(self, state: Relaxation[Graph]) -> None:
        counts = self.graph.counts.tolist()
        everything = zip(
            state.graph.positions.split(counts), state.forces.split(counts), strict=True
        )
        for b, (positions, forces) in enumerate(everything):
            frames = self.frames[b]
            if not state.finite[b]:
                if b not in self.failed:  # the reference was just called, in this order
                    self.failed[b] = self.reference.reasons.pop(0)
            elif not frames or not np.array_equal(frames[-1][0], positions.numpy()):
                frames.append((positions.numpy(), float(state.energy[b]), forces.numpy()))

    def row(self, b: int) -> dict[str, Any]:
        """What became of a structure."""
        steps, fmax = int(self.last.steps[b]), float(self.last.fmax[b])
        row: dict[str, Any] = {"relax_steps": steps, "converged": bool(self.last.converged[b])}
        if b in self.failed:
            return row | {"failed": self.failed[b]}
        row |= {"energy": float(self.last.energy[b]), "energy_initial": self.frames[b][0][1]}
        row["adsorbed"] = is_adsorbed(self.last.graph.to_atoms()[b])
        if not row["converged"]:
            row["failed"] = f"not converged after {steps} steps: a force of {fmax:.2g} eV/Å is left"
        elif not row["adsorbed"]:
            row["failed"] = "atoms have left the surface: no chain of bonds holds them"
        return row

    def structures(self, b: int, row: dict[str, Any]) -> StructureSet:
        """The frames of a structure, with the facts of its row."""
        graph, k = self.graph, len(self.frames[b])
        atoms = graph.batch == b
        n = int(atoms.sum())
        positions, energies, forces = zip(*self.frames[b], strict=True)
        facts = {key: row[key] for key in ("index", "relax_steps", "converged")}
        facts["energy_initial"] = energies[0]
        return StructureSet(
            counts=np.full(k, n),
            numbers=np.tile(graph.numbers[atoms].numpy(), k),
            positions=np.concatenate(positions),
            fixed=np.tile(~graph.mobile[atoms].numpy(), k),
            cell=np.tile(graph.cell[b].numpy(), (k, 1, 1)),
            pbc=np.tile(graph.pbc[b].numpy(), (k, 1)),
            energy=np.array(energies),
            forces=np.concatenate(forces),
            info={key: np.full(k, value) for key, value in facts.items()} | {"step": np.arange(k)},
        )
