"""The one data type: an immutable batch of slabs with frozen and mobile atoms and their edges."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sdedata.cached import cached_property
from sdedata.frames import labels
from sdedata.frozen import freeze, frozen_mask
from sdedata.neighbours import Edges, Search, edge_vectors, neighbour_list


@dataclass(frozen=True, eq=False)
class Graph:
    """A batch of b structures with n atoms in all; Å, eV, cells as row vectors.

    Atoms of one structure are contiguous. Edges are computed on first use and cached, so that every
    model that reads the same graph shares one neighbour list; those between frozen atoms are reused
    while only mobile atoms move.
    """

    positions: Float[Tensor, "n 3"]
    numbers: Int[Tensor, " n"]
    """Atomic numbers."""
    batch: Int[Tensor, " n"]
    """Index of the structure that each atom belongs to."""
    mobile: Bool[Tensor, " n"]
    """False on the frozen (masked) substrate."""
    cell: Float[Tensor, "b 3 3"]
    pbc: Bool[Tensor, "b 3"]
    window: Float[Tensor, "b 2"]
    """Lowest and highest z (Å, absolute) of a mobile atom: the confinement."""
    cutoff: float
    energy: Float[Tensor, " b"] | None = None
    """In float64: totals of all-electron codes have more digits than float32."""
    forces: Float[Tensor, "n 3"] | None = None
    """NaN where they are not known."""
    backend: str = "auto"
    """Neighbour list: "auto", "torch" or "cluster" (see `sdedata.neighbours`)."""
    max_edges: int | None = None
    """Number of edges to the mobile atoms of each structure, padding included, and of edges from
    them (see `padded`); None: only edges within the cutoff."""

    @property
    def n_structures(self) -> int:
        return self.cell.shape[0]

    @property
    def counts(self) -> Int[Tensor, " b"]:
        """Number of atoms of each structure."""
        return torch.bincount(self.batch, minlength=self.n_structures)

    @cached_property
    def mobile_indices(self) -> Int[Tensor, " m"]:
        """Indices of the mobile atoms."""
        return torch.nonzero(self.mobile, as_tuple=True)[0]

    @cached_property
    def _frozen(self) -> Int[Tensor, " k"]:
        return torch.nonzero(~self.mobile, as_tuple=True)[0]

    @cached_property
    def _search(self) -> Search:
        """The search for edges to mobile atoms."""
        return Search.of(
            self.cell, self.pbc, self.batch, self.cutoff, self.backend, self.mobile, self.max_edges
        )

    @cached_property
    def edges(self) -> Edges:
        """Edges between frozen atoms, then to mobile atoms, then from mobile to frozen atoms."""
        to_mobile = self._search(self.positions)
        receivers, senders, offsets = to_mobile
        from_mobile = self._search.only(
            Edges(senders, receivers, -offsets), ~self.mobile[to_mobile.senders]
        )
        parts = zip(self._substrate, to_mobile, from_mobile, strict=True)
        return Edges(*(torch.cat(part) for part in parts))

    @cached_property
    def _substrate(self) -> Edges:
        """The edges between frozen atoms."""
        atoms = self._frozen
        senders, receivers, offsets = neighbour_list(
            self.positions[atoms], self.cell, self.pbc, self.batch[atoms], self.cutoff, self.backend
        )
        return Edges(atoms[senders], atoms[receivers], offsets)

    @property
    def senders(self) -> Int[Tensor, " e"]:
        return self.edges.senders

    @property
    def receivers(self) -> Int[Tensor, " e"]:
        return self.edges.receivers

    @property
    def offsets(self) -> Float[Tensor, "e 3"]:
        return self.edges.offsets

    @property
    def vectors(self) -> Float[Tensor, "e 3"]:
        """From each edge's receiver to its sender's image, Å; differentiable in the positions."""
        if self.positions.requires_grad:  # each use needs an autograd graph of its own
            return edge_vectors(self.positions, self.cell, self.batch, self.edges)
        return self._vectors

    @cached_property
    def _vectors(self) -> Float[Tensor, "e 3"]:
        return edge_vectors(self.positions, self.cell, self.batch, self.edges)

    @cached_property
    def memo(self) -> dict[str, Any]:
        """What models that read the graph compute of it alone: each looks here first."""
        return {}

    def at(self, positions: Float[Tensor, "n 3"]) -> "Graph":
        """Move the atoms to new positions (Å): new edges, and no energy or forces."""
        moved = replace(self, positions=positions, energy=None, forces=None)
        keep = ["mobile_indices", "_frozen", "_search"]
        if self._same_substrate(positions):
            keep.append("_substrate")
        moved.__dict__.update({name: getattr(self, name) for name in keep})
        return moved

    def _same_substrate(self, positions: Tensor) -> bool:
        """Are the frozen atoms where they were? (Assumed in a compiled step, which moves none.)"""
        return torch.compiler.is_compiling() or torch.equal(
            positions[self._frozen], self.positions[self._frozen]
        )

    def padded(self, factor: float = 1.5) -> "Graph":
        """Pad the edges so that their number stays the same while atoms move, for compiled steps.

        `max_edges` becomes `factor` times the largest present number of edges to the mobile atoms
        of a structure. A structure that later has more gets NaN edge vectors: no edge is dropped
        silently. Raises ValueError if no atom is mobile.
        """
        if len(self.mobile_indices) == 0:
            raise ValueError("no atom is mobile: there are no edges to pad")
        plain = replace(self, max_edges=None)
        receivers = plain._search(self.positions).receivers
        most = torch.bincount(self.batch[receivers], minlength=self.n_structures).max()
        return replace(self, max_edges=max(1, math.ceil(factor * int(most))))

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> "Graph":
        """Copy the graph to another device or floating-point type; energies keep theirs."""

        def moved(name: str, value: Tensor) -> Tensor:
            keeps = name == "energy" or not value.is_floating_point()
            return value.to(device=device, dtype=None if keeps else dtype)

        tensors: dict[str, Any] = {
            f.name: moved(f.name, value)
            for f in fields(self)
            if isinstance(value := getattr(self, f.name), Tensor)
        }
        return replace(self, **tensors)

    @staticmethod
    def from_atoms(
        atoms: Atoms,
        cutoff: float,
        window: tuple[float, float] | None = None,
        backend: str = "auto",
        dtype: torch.dtype = torch.float32,
    ) -> "Graph":
        """Convert one ASE structure; atoms held along all axes are frozen (`frozen_mask`).

        Energy (eV) and forces (eV/Å) are taken from the calculator where it has them; forces on
        *all* atoms (ASE's own getter zeroes them on fixed atoms). `window` is the lowest and the
        highest z (Å, absolute) of a mobile atom; without it, z is unbounded.
        """
        found = labels(atoms)
        known = "energy" in found
        energy = torch.tensor([float(found["energy"])], dtype=torch.float64) if known else None
        forces = torch.tensor(found["forces"], dtype=dtype) if "forces" in found else None
        bounds = window if window is not None else (-np.inf, np.inf)
        return Graph(
            positions=torch.tensor(atoms.positions, dtype=dtype),
            numbers=torch.tensor(atoms.numbers, dtype=torch.int64),
            batch=torch.zeros(len(atoms), dtype=torch.int64),
            mobile=torch.tensor(~frozen_mask(atoms)),
            cell=torch.tensor(np.asarray(atoms.cell)[None], dtype=dtype),
            pbc=torch.tensor(np.asarray(atoms.pbc)[None]),
            window=torch.tensor([list(bounds)], dtype=dtype),
            cutoff=float(cutoff),
            energy=energy,
            forces=forces,
            backend=backend,
        )

    def select(self, which: Bool[Tensor, " b"]) -> "Graph":
        """Select structures by a mask."""
        atoms = which[self.batch]
        number = which.cumsum(0) - 1
        return replace(
            self,
            positions=self.positions[atoms],
            numbers=self.numbers[atoms],
            mobile=self.mobile[atoms],
            batch=number[self.batch[atoms]],
            cell=self.cell[which],
            pbc=self.pbc[which],
            window=self.window[which],
            energy=self.energy[which] if self.energy is not None else None,
            forces=self.forces[atoms] if self.forces is not None else None,
        )

    def split(self) -> list["Graph"]:
        """Split the batch into one graph per structure."""
        counts = self.counts.tolist()
        positions, numbers, mobile = (
            torch.split(x, counts) for x in (self.positions, self.numbers, self.mobile)
        )
        forces = torch.split(self.forces, counts) if self.forces is not None else None
        return [
            replace(
                self,
                positions=positions[b],
                numbers=numbers[b],
                mobile=mobile[b],
                batch=torch.zeros_like(numbers[b]),
                cell=self.cell[b : b + 1],
                pbc=self.pbc[b : b + 1],
                window=self.window[b : b + 1],
                energy=self.energy[b : b + 1] if self.energy is not None else None,
                forces=forces[b] if forces is not None else None,
            )
            for b in range(self.n_structures)
        ]

    def to_atoms(self) -> list[Atoms]:
        """Convert to one `ase.Atoms` per structure, with FixAtoms, energy and forces."""
        return [_single_to_atoms(graph) for graph in self.split()]


def _single_to_atoms(graph: Graph) -> Atoms:
    atoms = Atoms(
        numbers=graph.numbers.cpu().numpy(),
        positions=graph.positions.detach().cpu().double().numpy(),
        cell=graph.cell[0].cpu().double().numpy(),
        pbc=graph.pbc[0].cpu().numpy(),
    )
    freeze(atoms, (~graph.mobile).cpu().numpy())
    results: dict[str, object] = {}
    if graph.energy is not None:
        results["energy"] = float(graph.energy[0])
    if graph.forces is not None:
        results["forces"] = graph.forces.detach().cpu().double().numpy()
    if results:
        atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def collate(graphs: Sequence[Graph]) -> Graph:
    """Join several graphs into one batch.

    Energies and forces are kept if all graphs have them; `max_edges` becomes the largest if all
    graphs are padded. Raises ValueError if the list is empty or the cutoffs differ.
    """
    if not graphs:
        raise ValueError("nothing to collate: the list of graphs is empty")
    first = graphs[0]
    if any(g.cutoff != first.cutoff for g in graphs):
        raise ValueError("graphs with different cutoffs cannot share a batch")
    starts = np.cumsum([0] + [g.n_structures for g in graphs[:-1]])
    energies = [g.energy for g in graphs if g.energy is not None]
    forces = [g.forces for g in graphs if g.forces is not None]
    padded = [g.max_edges for g in graphs if g.max_edges is not None]
    return replace(
        first,
        max_edges=max(padded) if len(padded) == len(graphs) else None,
        positions=torch.cat([g.positions for g in graphs]),
        numbers=torch.cat([g.numbers for g in graphs]),
        batch=torch.cat([g.batch + int(s) for g, s in zip(graphs, starts, strict=True)]),
        mobile=torch.cat([g.mobile for g in graphs]),
        cell=torch.cat([g.cell for g in graphs]),
        pbc=torch.cat([g.pbc for g in graphs]),
        window=torch.cat([g.window for g in graphs]),
        energy=torch.cat(energies) if len(energies) == len(graphs) else None,
        forces=torch.cat(forces) if len(forces) == len(graphs) else None,
    )
