"""The one data type: an immutable batch of slabs with frozen and mobile atoms and their edges."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sdedata.frames import frozen_mask, labels
from sdedata.kept import kept
from sdedata.neighbours import Edges, Search, edge_vectors, neighbour_list


@dataclass(frozen=True, eq=False)
class Graph:
    """A batch of b structures with n atoms in all; Å, eV, cells as row vectors.

    Atoms of one structure are contiguous. Edges are computed on first use and kept, so that every
    model that reads the same graph shares one neighbour list; those between frozen atoms are kept
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
    forces: Float[Tensor, "n 3"] | None = None
    backend: str = "auto"
    """Neighbour list: "auto", "torch" or "cluster" (see `sdedata.neighbours`)."""
    room: int | None = None
    """How many edges each structure has to mobile atoms, silent ones among them, and as many from
    them (see `with_room`); None: those that there are."""

    @property
    def n_structures(self) -> int:
        return self.cell.shape[0]

    @property
    def counts(self) -> Int[Tensor, " b"]:
        """Number of atoms of each structure."""
        return torch.bincount(self.batch, minlength=self.n_structures)

    @kept
    def movers(self) -> Int[Tensor, " m"]:
        """Indices of the mobile atoms."""
        return torch.nonzero(self.mobile, as_tuple=True)[0]

    @kept
    def _frozen(self) -> Int[Tensor, " k"]:
        return torch.nonzero(~self.mobile, as_tuple=True)[0]

    @kept
    def _search(self) -> Search:
        """For the neighbours of mobile atoms."""
        return Search.of(
            self.cell, self.pbc, self.batch, self.cutoff, self.backend, self.mobile, self.room
        )

    @kept
    def edges(self) -> Edges:
        """Those between frozen atoms first, then those to mobile atoms, then those from them."""
        to_mobile = self._search(self.positions)
        receivers, senders, offsets = to_mobile
        from_mobile = self._search.only(
            Edges(senders, receivers, -offsets), ~self.mobile[to_mobile.senders]
        )
        parts = zip(self._substrate, to_mobile, from_mobile, strict=True)
        return Edges(*(torch.cat(part) for part in parts))

    @kept
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
        if self.positions.requires_grad:  # whoever differentiates needs a way back of its own
            return edge_vectors(self.positions, self.cell, self.batch, self.edges)
        return self._vectors

    @kept
    def _vectors(self) -> Float[Tensor, "e 3"]:
        return edge_vectors(self.positions, self.cell, self.batch, self.edges)

    def at(self, positions: Float[Tensor, "n 3"]) -> "Graph":
        """The same structures elsewhere: new edges, and no labels (they were of the old places)."""
        moved = replace(self, positions=positions, energy=None, forces=None)
        keep = ["movers", "_frozen", "_search"]
        if self._same_substrate(positions):
            keep.append("_substrate")
        moved.__dict__.update({name: getattr(self, name) for name in keep})
        return moved

    def _same_substrate(self, positions: Tensor) -> bool:
        """Are the frozen atoms where they were? A compiled step cannot look, and moves none."""
        return torch.compiler.is_compiling() or torch.equal(
            positions[self._frozen], self.positions[self._frozen]
        )

    def with_room(self, share: float = 1.5) -> "Graph":
        """The same in shapes that stay as they are while atoms move, as compiled steps want them.

        The mobile atoms of a structure have room for `share` times the neighbours that those of any
        structure have now. Where they ever have more, edges are NaN, so that nothing is left out.
        """
        if len(self.movers) == 0:
            raise ValueError("no atom is mobile: there is nothing to make room for")
        plain = replace(self, room=None)
        receivers = plain._search(self.positions).receivers
        most = torch.bincount(self.batch[receivers], minlength=self.n_structures).max()
        return replace(self, room=max(1, math.ceil(share * int(most))))

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> "Graph":
        """The same graph on another device or in another floating-point type."""

        tensors: dict[str, Any] = {
            f.name: value.to(device=device, dtype=dtype if value.is_floating_point() else None)
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
        """One structure; atoms under FixAtoms are frozen, labels are taken along where present.

        Forces are those on *all* atoms (ASE's own getter zeroes them on fixed atoms). Without a
        window (lowest and highest z in Å, absolute), z is unbounded.
        """
        found = labels(atoms)
        energy = torch.tensor([float(found["energy"])], dtype=dtype) if "energy" in found else None
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
        """The structures that are True."""
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
        """One graph per structure."""
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
        """One `ase.Atoms` per structure, FixAtoms on the frozen atoms, the labels attached."""
        return [_single_to_atoms(graph) for graph in self.split()]


def _single_to_atoms(graph: Graph) -> Atoms:
    atoms = Atoms(
        numbers=graph.numbers.cpu().numpy(),
        positions=graph.positions.detach().cpu().double().numpy(),
        cell=graph.cell[0].cpu().double().numpy(),
        pbc=graph.pbc[0].cpu().numpy(),
    )
    frozen = (~graph.mobile).cpu().numpy()
    if frozen.any():
        atoms.set_constraint(FixAtoms(mask=frozen))
    results: dict[str, object] = {}
    if graph.energy is not None:
        results["energy"] = float(graph.energy[0])
    if graph.forces is not None:
        results["forces"] = graph.forces.detach().cpu().double().numpy()
    if results:
        atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def collate(graphs: Sequence[Graph]) -> Graph:
    """One batch of several graphs; labels are kept if all have them, and room, the largest.

    Raises ValueError if there is nothing to collate or the cutoffs differ.
    """
    if not graphs:
        raise ValueError("nothing to collate: the list of graphs is empty")
    first = graphs[0]
    if any(g.cutoff != first.cutoff for g in graphs):
        raise ValueError("graphs with different cutoffs cannot share a batch")
    starts = np.cumsum([0] + [g.n_structures for g in graphs[:-1]])
    energies = [g.energy for g in graphs if g.energy is not None]
    forces = [g.forces for g in graphs if g.forces is not None]
    rooms = [g.room for g in graphs if g.room is not None]
    return replace(
        first,
        room=max(rooms) if len(rooms) == len(graphs) else None,
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
