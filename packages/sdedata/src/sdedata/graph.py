"""The one data type: an immutable batch of slabs, frozen and mobile atoms, with its periodic edges."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sdedata.neighbours import Edges, edge_vectors, neighbour_list


@dataclass(frozen=True, eq=False)
class Graph:
    """A batch of b structures with n atoms in all; lengths in Å, energies in eV, cells as row vectors.

    Atoms of one structure are contiguous. Edges are computed on first use and kept, so that every
    model that reads the same graph shares one neighbour list.
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
    backend: str = "torch"
    """Neighbour list: "torch" or "cluster" (see `sdedata.neighbours`)."""

    @property
    def n_structures(self) -> int:
        return self.cell.shape[0]

    @property
    def counts(self) -> Int[Tensor, " b"]:
        """Number of atoms of each structure."""
        return torch.bincount(self.batch, minlength=self.n_structures)

    @cached_property
    def edges(self) -> Edges:
        return neighbour_list(
            self.positions, self.cell, self.pbc, self.batch, self.cutoff, self.backend
        )

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
        """From each edge's receiver to its sender's image, in Å; differentiable in the positions."""
        return edge_vectors(self.positions, self.cell, self.batch, self.edges)

    def at(self, positions: Float[Tensor, "n 3"]) -> "Graph":
        """The same structures with other positions: new edges, no labels (they were of the old ones)."""
        return replace(self, positions=positions, energy=None, forces=None)

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> "Graph":
        """The same graph on another device or in another floating-point type."""

        def move(tensor: Tensor | None) -> Tensor | None:
            if tensor is None:
                return None
            return tensor.to(device=device, dtype=dtype if tensor.is_floating_point() else None)

        tensors = {k: move(v) for k, v in vars(self).items() if isinstance(v, Tensor)}
        return replace(self, **tensors)  # type: ignore[arg-type]

    @staticmethod
    def from_atoms(
        atoms: Atoms,
        cutoff: float,
        window: tuple[float, float] | None = None,
        backend: str = "torch",
        dtype: torch.dtype = torch.float32,
    ) -> "Graph":
        """One structure; atoms under FixAtoms are frozen, labels are taken along where present.

        Forces are those on *all* atoms (ASE's own getter zeroes them on fixed atoms). Without a
        window, z is unbounded.
        """
        frozen = frozen_mask(atoms)
        energy = forces = None
        if atoms.calc is not None and "energy" in atoms.calc.results:
            energy = torch.tensor([float(atoms.calc.results["energy"])], dtype=dtype)
        if atoms.calc is not None and "forces" in atoms.calc.results:
            forces = torch.tensor(np.asarray(atoms.calc.results["forces"]), dtype=dtype)
        bounds = window if window is not None else (-np.inf, np.inf)
        return Graph(
            positions=torch.tensor(atoms.positions, dtype=dtype),
            numbers=torch.tensor(atoms.numbers, dtype=torch.int64),
            batch=torch.zeros(len(atoms), dtype=torch.int64),
            mobile=torch.tensor(~frozen),
            cell=torch.tensor(np.asarray(atoms.cell)[None], dtype=dtype),
            pbc=torch.tensor(np.asarray(atoms.pbc)[None]),
            window=torch.tensor([list(bounds)], dtype=dtype),
            cutoff=float(cutoff),
            energy=energy,
            forces=forces,
            backend=backend,
        )

    def split(self) -> list["Graph"]:
        """One graph per structure."""
        counts = self.counts.tolist()
        per_atom = [
            torch.split(x, counts) for x in (self.positions, self.numbers, self.mobile)
        ]
        forces = torch.split(self.forces, counts) if self.forces is not None else None
        return [
            replace(
                self,
                positions=per_atom[0][b],
                numbers=per_atom[1][b],
                mobile=per_atom[2][b],
                batch=torch.zeros_like(per_atom[1][b]),
                cell=self.cell[b : b + 1],
                pbc=self.pbc[b : b + 1],
                window=self.window[b : b + 1],
                energy=self.energy[b : b + 1] if self.energy is not None else None,
                forces=forces[b] if forces is not None else None,
            )
            for b in range(self.n_structures)
        ]

    def to_atoms(self) -> list[Atoms]:
        """One `ase.Atoms` per structure, with FixAtoms on the frozen atoms and the labels attached."""
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


def frozen_mask(atoms: Atoms) -> np.ndarray:
    """True on atoms under a FixAtoms constraint, shape (n,)."""
    frozen = np.zeros(len(atoms), dtype=bool)
    for constraint in atoms.constraints:
        if isinstance(constraint, FixAtoms):
            frozen[constraint.get_indices()] = True
    return frozen


def collate(graphs: Sequence[Graph]) -> Graph:
    """One batch of several graphs; labels are kept if all have them.

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
    return replace(
        first,
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
