"""Potentials that compute many structures in one pass, as ASE calculators.

Their graphs come from the neighbour list of this project, so that a slab needs no third cell
vector. Forces are derivatives with respect to the vectors of the edges.
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from jaxtyping import Float, Int
from torch import Tensor

from sdedata.neighbours import edge_vectors, neighbour_list


@dataclass(frozen=True)
class Neighbours:
    """The atoms of b structures and their neighbours, e edges sorted by receiver."""

    numbers: Int[Tensor, " n"]
    batch: Int[Tensor, " n"]
    counts: Int[Tensor, " b"]
    senders: Int[Tensor, " e"]
    receivers: Int[Tensor, " e"]
    offsets: Float[Tensor, "e 3"]
    vectors: Float[Tensor, "e 3"]
    """From the receiver to the sender, Å."""

    @classmethod
    def of(cls, images: Sequence[Atoms], cutoff: float) -> "Neighbours":
        """Find the neighbours of each structure within `cutoff` (Å), in float64."""
        counts = torch.tensor([len(atoms) for atoms in images])
        batch = torch.repeat_interleave(counts)
        positions = torch.from_numpy(np.concatenate([atoms.positions for atoms in images]))
        cell = torch.from_numpy(np.array([atoms.cell.array for atoms in images]))
        pbc = torch.from_numpy(np.array([atoms.pbc for atoms in images]))
        edges = neighbour_list(positions, cell, pbc, batch, cutoff)
        numbers = torch.from_numpy(np.concatenate([atoms.numbers for atoms in images]))
        vectors = edge_vectors(positions, cell, batch, edges)
        return cls(numbers, batch, counts, *edges, vectors)

    def to(self, device: torch.device) -> "Neighbours":
        return Neighbours(**{key: value.to(device) for key, value in vars(self).items()})


class BatchedCalculator(Calculator):
    """An ASE calculator that computes one structure as a batch of one."""

    implemented_properties = ["energy", "free_energy", "forces"]

    @abstractmethod
    def batch(self, images: Sequence[Atoms]) -> list[tuple[float, np.ndarray]]:
        """Compute energy (eV) and forces on all atoms (eV/Å, shape (n, 3)) of each structure."""

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        image: Any = self.atoms  # the line above sets it
        ((energy, forces),) = self.batch([image])
        self.results = {"energy": energy, "free_energy": energy, "forces": forces}


class BatchedPotential(BatchedCalculator):
    """A network that computes several structures in one pass.

    Subclasses set `network`, `elements` (atomic numbers) and `cutoff` (Å), and compute energies.
    """

    network: Any
    elements: frozenset[int]
    cutoff: float
    at_once = 4
    """More structures in one pass are no quicker on a CPU, and need gigabytes."""

    @abstractmethod
    def energies(self, graph: Neighbours, vectors: Float[Tensor, "e 3"]) -> Float[Tensor, " b"]:
        """Compute the energy of each structure (eV) from the vectors of its edges (Å)."""

    def batch(self, images: Sequence[Atoms]) -> list[tuple[float, np.ndarray]]:
        found: list[tuple[float, np.ndarray]] = []
        for start in range(0, len(images), self.at_once):
            found += self._pass(images[start : start + self.at_once])
        return found

    def _pass(self, images: Sequence[Atoms]) -> list[tuple[float, np.ndarray]]:
        device = next(self.network.parameters()).device
        graph = Neighbours.of(images, self.cutoff).to(device)
        vectors = graph.vectors.float().requires_grad_()
        energies = self.energies(graph, vectors)
        (slope,) = torch.autograd.grad(energies.sum(), vectors)
        forces = slope.new_zeros(len(graph.numbers), 3, dtype=torch.float64)
        forces.index_add_(0, graph.receivers, slope.double())
        forces.index_add_(0, graph.senders, -slope.double())
        parts = forces.cpu().split(graph.counts.tolist())
        return [(e, f.numpy()) for e, f in zip(energies.tolist(), parts, strict=True)]
