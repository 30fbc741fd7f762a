"""Periodic neighbour lists of batched structures: any cell, any periodicity, no cap on neighbours.

An edge is a triple (sender, receiver, offset): the image of `sender` displaced by `offset` lattice
vectors lies closer than the cutoff to `receiver`. Every image is an edge of its own, both
directions are present, and edges are sorted by receiver, so that a network can reduce them by
segments.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.autograd.forward_ad import unpack_dual

from sdedata.all_pairs import Pairs, first_of_each, side_by_side, with_missing
from sdedata.cached import cached_property

BACKENDS = ("auto", "torch", "cluster")
PRECISIONS = (torch.float32, torch.float64)
CANDIDATES = {"cpu": 2**20, "gpu": 2**25}
"""Pairs times images tested at once: few enough for a processor's cache, or for memory."""
SLACK = 5e-5
"""Relative margin of the cutoff for rounding: the searches by torch and torch-cluster find slightly
too many edges, and those that are too long are removed."""


class Edges(NamedTuple):
    """Edges of a batch, sorted by receiver.

    `offsets` counts lattice vectors (integer valued, in the dtype of the positions).
    """

    senders: Int[Tensor, " e"]
    receivers: Int[Tensor, " e"]
    offsets: Float[Tensor, "e 3"]


def neighbour_list(
    positions: Float[Tensor, "n 3"],
    cell: Float[Tensor, "b 3 3"],
    pbc: Bool[Tensor, "b 3"],
    batch: Int[Tensor, " n"],
    cutoff: float,
    backend: str = "auto",
    is_receiver: Bool[Tensor, " n"] | None = None,
) -> Edges:
    """Find all pairs of images closer than `cutoff` (Å), without an atom's pair with itself.

    Args:
        positions: Å; atoms in the order of their structures, not necessarily inside the cell.
        cell: Lattice vectors as rows, Å.
        backend: "torch" (all pairs, on any device), "cluster" (torch-cluster's `radius` on explicit
            images) or "auto" (loops compiled by Numba on a CPU, else "torch"). All give the same
            edges.
        is_receiver: Return only edges to these atoms (None: to all).

    Raises:
        ValueError: for an unknown backend, unordered atoms, a cutoff that is not positive and
            finite, or a periodic cell without volume.
    """
    return Search.of(cell, pbc, batch, cutoff, backend, is_receiver)(positions)


@dataclass(frozen=True, eq=False)
class Search:
    """`neighbour_list` as a function of the positions: everything else is prepared once.

    Saves time where atoms move: on a GPU every size or check that the host has to read stalls it.
    With `max_edges` no such synchronisation is left: every structure has exactly `max_edges` edges,
    padded by edges from an atom to an image of itself beyond the cutoff. Where a structure has more
    neighbours than `max_edges`, all its offsets are NaN.
    """

    cell: Float[Tensor, "b 3 3"]
    pbc: Bool[Tensor, "b 3"]
    batch: Int[Tensor, " n"]
    cutoff: float
    backend: str
    is_receiver: Bool[Tensor, " n"]
    max_edges: int | None

    @classmethod
    def of(
        cls,
        cell: Float[Tensor, "b 3 3"],
        pbc: Bool[Tensor, "b 3"],
        batch: Int[Tensor, " n"],
        cutoff: float,
        backend: str = "auto",
        is_receiver: Bool[Tensor, " n"] | None = None,
        max_edges: int | None = None,
    ) -> "Search":
        """Prepare a search; arguments and errors as for `neighbour_list`.

        With `max_edges` torch searches, whatever `backend`. Also raises ValueError if `max_edges`
        is below 1, or given without a first cell vector.
        """
        if backend not in BACKENDS:
            raise ValueError(f"neighbour backend must be one of {BACKENDS}, not {backend!r}")
        if is_receiver is None:
            is_receiver = torch.ones_like(batch, dtype=torch.bool)
        _check(len(cell), batch, cutoff, is_receiver)
        if max_edges is not None and (
            max_edges < 1 or bool((cell[:, 0].norm(dim=-1) < 1e-6).any())
        ):
            raise ValueError(
                f"max_edges={max_edges} must be 1 or more, and needs a first cell vector"
            )
        full = _complete(cell.detach(), pbc)
        return cls(full, pbc, batch, cutoff, backend, is_receiver, max_edges)

    def __call__(self, positions: Float[Tensor, "n 3"]) -> Edges:
        """Find the edges at these positions (Å); ValueError unless there is one for each atom."""
        if len(positions) != len(self.batch):
            raise ValueError(f"{len(positions)} positions for {len(self.batch)} atoms")
        positions = positions.detach()
        if self.max_edges is not None:
            return self._padded_pairs(positions, self.max_edges)
        if self.backend == "auto" and _has_loops(positions, self.cell):
            return self._by_loops(positions)
        edges = (self._cluster if self.backend == "cluster" else self._all_pairs)(positions)
        vectors = edge_vectors(positions, self.cell, self.batch, edges)
        return self.only(edges, vectors.square().sum(-1) < self.cutoff**2)

    def only(self, edges: Edges, selected: Bool[Tensor, " e"]) -> Edges:
        """Select edges; with `max_edges` the others become padding, so that none is removed."""
        if self.max_edges is None:
            (left,) = torch.nonzero(selected, as_tuple=True)
            return Edges(*(x[left] for x in edges))
        senders, receivers, offsets = edges
        return Edges(
            torch.where(selected, senders, receivers),
            receivers,
            torch.where(selected[:, None], offsets, self._far[self.batch[receivers]]),
        )

    @cached_property
    def _far(self) -> Float[Tensor, "b 3"]:
        """Offset from an atom to an image of itself beyond the cutoff: the padding."""
        far = torch.zeros_like(self.heights)
        far[:, 0] = torch.ceil(self.cutoff / self.heights[:, 0]) + 1
        return far

    @cached_property
    def inverse(self) -> Float[Tensor, "b 3 3"]:
        return _inverse(self.cell)

    @cached_property
    def heights(self) -> Float[Tensor, "b 3"]:
        return _heights(self.inverse)

    def _images(self, spread: float) -> Float[Tensor, "k 3"]:
        """Images within reach for fractional differences up to ±spread; the middle one is zero."""
        needed = torch.floor(self.cutoff / self.heights + spread + 1e-6) * self.pbc
        axes = [
            torch.arange(-r, r + 1, device=self.cell.device, dtype=self.cell.dtype)
            for r in needed.max(dim=0).values.tolist()
        ]
        return torch.cartesian_prod(*axes).reshape(-1, 3)

    # Loops compiled by Numba

    @cached_property
    def _arrays(self) -> list[Any]:
        inverse = _inverse(self.cell.double())
        structures = torch.arange(len(self.cell) + 1, device=self.batch.device)
        first = torch.searchsorted(self.batch.contiguous(), structures)
        given = self.cell, inverse, _heights(inverse), self.pbc, first, self.is_receiver
        return [x.contiguous().numpy() for x in given]

    @cached_property
    def _expected(self) -> list[int]:
        """Expected number of edges: a little more than the last search found."""
        return [64 * int(self.is_receiver.sum())]

    def _by_loops(self, positions: Tensor) -> Edges:
        from sdedata import kernels  # Numba takes half a second to import

        given = positions.contiguous().numpy(), *self._arrays
        while True:
            (expected,) = self._expected
            senders, receivers = self.batch.new_empty(2, expected)
            edges = Edges(senders, receivers, positions.new_empty(expected, 3))
            found = kernels.edges(*given, self.cutoff, *(x.numpy() for x in edges))
            if found <= expected:
                return Edges(*(x[:found] for x in edges))
            self._expected[0] = found + found // 8

    # All pairs, by torch

    @cached_property
    def _pairs(self) -> list[Pairs]:
        """The pairs of all structures, in parts of at most `CANDIDATES` that are tested in turn."""
        images, b = self._images(0.5), len(self.cell)
        there = side_by_side(self.batch, torch.ones_like(self.is_receiver), b)
        here = side_by_side(self.batch, self.is_receiver, b)
        at_once = CANDIDATES["cpu" if self.cell.device.type == "cpu" else "gpu"]
        each = there.shape[1] * here.shape[1] * len(images)
        step = max(1, at_once // max(1, each)) if self.max_edges is None else b
        parts = (slice(k, k + step) for k in range(0, b, step))
        return [
            Pairs.of(there[s], here[s], self.cell[s], self.pbc[s], self.inverse[s], images)
            for s in parts
        ]

    def _all_pairs(self, positions: Tensor) -> Edges:
        places, found = with_missing(positions), []
        for pairs in self._pairs:
            near, fold = pairs.near(places, self._slack)
            found.append(pairs.edges(torch.nonzero(near), fold))
        return Edges(*(torch.cat(parts) for parts in zip(*found, strict=True)))

    def _padded_pairs(self, positions: Tensor, max_edges: int) -> Edges:
        (pairs,) = self._pairs
        near, fold = pairs.near(with_missing(positions), self._slack)
        index, found = first_of_each(near, max_edges)
        senders, receivers, offsets = pairs.edges(index, fold)
        receivers = receivers.clamp(max=len(positions) - 1)  # padding may name a missing atom
        edges = self.only(Edges(senders, receivers, offsets), found)
        complete = (near.flatten(1).sum(1) <= max_edges).repeat_interleave(max_edges)
        return edges._replace(offsets=torch.where(complete[:, None], edges.offsets, torch.nan))

    @property
    def _slack(self) -> float:
        """The cutoff with its margin for rounding, Å."""
        return self.cutoff * (1 + SLACK)

    # By torch-cluster

    def _cluster(self, positions: Tensor) -> Edges:
        try:
            from torch_cluster import radius
        except ImportError as error:
            raise ValueError(
                "the neighbour backend 'cluster' needs torch-cluster: run `make cluster`, "
                "or choose neighbours=auto"
            ) from error
        # torch-cluster has no periodicity: wrap, then add every image that can be within reach.
        cell, pbc, batch = self.cell, self.pbc, self.batch
        fractional = torch.einsum("ni,nij->nj", positions, self.inverse[batch])
        wrap = -torch.floor(fractional) * pbc[batch]
        wrapped = positions + torch.einsum("nk,nkj->nj", wrap, cell[batch])
        images = self._images(1.0)
        shifts = torch.einsum("mk,bkj->bmj", images, cell)
        count = len(images)
        laid_out = (wrapped[:, None] + shifts[batch]).reshape(-1, 3)
        finite = wrapped.isfinite().all(-1)  # a NaN would hide other atoms in its search tree
        allowed = (pbc[:, None, :] | (images == 0)).all(-1)[batch]
        allowed = (allowed & finite[:, None]).reshape(-1)
        atoms = torch.arange(len(positions), device=batch.device)
        owner = atoms.repeat_interleave(count)[allowed]
        image = torch.arange(count, device=batch.device).repeat(len(positions))[allowed]
        # The default cap of 32 neighbours would silently drop edges.
        atoms = atoms[finite]
        found_by, found = radius(
            laid_out[allowed].contiguous(),
            wrapped[atoms].contiguous(),
            self._slack,
            batch_x=batch[owner],
            batch_y=batch[atoms],
            max_num_neighbors=int(torch.bincount(batch[owner], minlength=1).max()),
        )
        receivers, senders, offsets = atoms[found_by], owner[found], images[image[found]]
        offsets = offsets + wrap[senders] - wrap[receivers]
        others = self.is_receiver[receivers] & ((senders != receivers) | (offsets != 0).any(-1))
        (others,) = torch.nonzero(others, as_tuple=True)
        order = others[torch.argsort(receivers[others], stable=True)]
        return Edges(senders[order], receivers[order], offsets[order])


def edge_vectors(
    positions: Float[Tensor, "n 3"],
    cell: Float[Tensor, "b 3 3"],
    batch: Int[Tensor, " n"],
    edges: Edges,
) -> Float[Tensor, "e 3"]:
    """Compute R[sender] + offset @ cell - R[receiver], Å: from receiver to the sender's image."""
    senders, receivers, offsets = edges
    variable = positions.requires_grad or cell.requires_grad
    if _has_loops(positions, cell) and not variable:
        from sdedata import kernels

        out = positions.new_empty(len(senders), 3)
        given = positions, cell, batch, senders, receivers, offsets, out
        kernels.vectors(*(x.numpy() for x in given))
        return out
    a, b, c = cell[batch[receivers]].unbind(1)
    x, y, z = offsets.split(1, dim=1)
    return positions[senders] - positions[receivers] + (x * a + y * b + z * c)


def _complete(cell: Float[Tensor, "b 3 3"], pbc: Bool[Tensor, "b 3"]) -> Float[Tensor, "b 3 3"]:
    """Replace missing (zero) vectors of non-periodic directions by independent unit vectors."""
    missing = cell.norm(dim=-1) < 1e-6
    if bool((missing & pbc).any()):
        raise ValueError("a periodic direction has a cell vector of zero length: give it a cell")
    if not bool(missing.any()):
        return cell
    full = cell.clone()
    for b in missing.any(-1).nonzero().flatten().tolist():
        # Rows of `basis` beyond the rank of the given vectors span their orthogonal complement.
        given = cell[b][~missing[b]]
        basis = torch.linalg.svd(torch.cat([given, given.new_zeros(3 - len(given), 3)])).Vh
        full[b, missing[b]] = basis[len(given) :]
    return full


def _inverse(cell: Float[Tensor, "b 3 3"]) -> Float[Tensor, "b 3 3"]:
    flat = ~(torch.linalg.det(cell).abs() > 1e-6)  # true for NaN, too
    if bool(flat.any()):
        structure = int(flat.nonzero()[0])
        raise ValueError(f"the cell vectors of structure {structure} of the batch span no volume")
    return torch.linalg.inv(cell)


def _heights(inverse: Float[Tensor, "b 3 3"]) -> Float[Tensor, "b 3"]:
    """Distances between opposite faces of each cell, Å."""
    return 1.0 / inverse.norm(dim=1)


def _check(structures: int, batch: Tensor, cutoff: float, is_receiver: Tensor) -> None:
    if len(batch) != len(is_receiver):
        raise ValueError(
            f"{len(batch)} entries of `batch` and {len(is_receiver)} of `is_receiver`: "
            "give one for each atom"
        )
    ordered = len(batch) == 0 or (
        bool((batch[1:] >= batch[:-1]).all()) and 0 <= int(batch[0]) <= int(batch[-1]) < structures
    )
    if not ordered:
        raise ValueError(f"atoms must come in the order of their structures, 0 to {structures - 1}")
    if not 0 < cutoff < float("inf"):
        raise ValueError(f"the cutoff must be a length in Å, not {cutoff}")


def _has_loops(positions: Tensor, cell: Tensor) -> bool:
    """Do the compiled loops apply (a CPU, float32 or float64, no forward-mode derivative)?"""
    if torch.compiler.is_compiling():
        return False
    plain = positions.device.type == "cpu" and positions.dtype in PRECISIONS
    dual = any(unpack_dual(x).tangent is not None for x in (positions, cell))
    return plain and cell.dtype == positions.dtype and not dual
