"""Periodic neighbour lists of batched structures: any cell, any periodicity, no cap on neighbours.

An edge is a triple (sender, receiver, offset): the image of `sender` displaced by `offset` lattice
vectors lies closer than the cutoff to `receiver`. Every image is an edge of its own, both
directions are present, and edges come sorted by receiver, so that a network may reduce them by
segments.
"""

from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.autograd.forward_ad import unpack_dual

BACKENDS = ("auto", "torch", "cluster")
COMPILED = (torch.float32, torch.float64)
CANDIDATES = 2**20
"""Pairs times images looked at in one go: few enough to stay in a processor's cache."""
SLACK = 1e-4
"""Of the square of the cutoff, for rounding: by torch and torch-cluster searches find a little too
much, the rest is exact."""


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
    heard_by: Bool[Tensor, " n"] | None = None,
) -> Edges:
    """All pairs of images closer than `cutoff` (Å), without an atom's pair with itself.

    Atoms come in the order of their structures; they need not be wrapped into the cell. `backend`
    is "torch" (all pairs, on any device), "cluster" (torch-cluster's `radius` on explicit images)
    or "auto": compiled loops over all pairs on a CPU, else "torch". All give the same edges.
    `heard_by`: only edges to these receivers (None: to all). Raises ValueError for another
    backend, atoms in another order, a cutoff that is no length, and for a cell without volume where
    it is periodic.
    """
    if backend not in BACKENDS:
        raise ValueError(f"neighbour backend must be one of {BACKENDS}, not {backend!r}")
    hears = torch.ones_like(batch, dtype=torch.bool) if heard_by is None else heard_by
    _check(positions, cell, batch, cutoff, hears)
    positions = positions.detach()
    cell = _complete(cell, pbc)
    if backend == "auto" and _compiles(positions, cell):
        return _compiled(positions, cell.detach(), pbc, batch, cutoff, hears)
    inverse = _inverse(cell)
    heights = _heights(inverse)
    search = _cluster if backend == "cluster" else _all_pairs
    senders, receivers, offsets = search(
        positions, cell, pbc, batch, cutoff, inverse, heights, hears
    )
    vectors = edge_vectors(positions, cell, batch, Edges(senders, receivers, offsets))
    (keep,) = torch.nonzero(vectors.square().sum(-1) < cutoff**2, as_tuple=True)
    return Edges(senders[keep], receivers[keep], offsets[keep])


def edge_vectors(
    positions: Float[Tensor, "n 3"],
    cell: Float[Tensor, "b 3 3"],
    batch: Int[Tensor, " n"],
    edges: Edges,
) -> Float[Tensor, "e 3"]:
    """R[sender] + offset @ cell - R[receiver] in Å: from the receiver to the sender's image."""
    senders, receivers, offsets = edges
    variable = positions.requires_grad or cell.requires_grad
    if _compiles(positions, cell) and not variable:
        from sdedata import kernels

        out = positions.new_empty(len(senders), 3)
        given = positions, cell, batch, senders, receivers, offsets, out
        kernels.vectors(*(x.numpy() for x in given))
        return out
    a, b, c = cell[batch[receivers]].unbind(1)
    x, y, z = offsets.split(1, dim=1)
    return positions[senders] - positions[receivers] + (x * a + y * b + z * c)


def _complete(cell: Float[Tensor, "b 3 3"], pbc: Bool[Tensor, "b 3"]) -> Float[Tensor, "b 3 3"]:
    """The cell with missing vectors, where not periodic, replaced by independent unit vectors."""
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
    flat = ~(torch.linalg.det(cell).abs() > 1e-6)  # true of NaN, too
    if bool(flat.any()):
        structure = int(flat.nonzero()[0])
        raise ValueError(f"the cell vectors of structure {structure} of the batch span no volume")
    return torch.linalg.inv(cell)


def _heights(inverse: Float[Tensor, "b 3 3"]) -> Float[Tensor, "b 3"]:
    """The distances between opposite faces."""
    return 1.0 / inverse.norm(dim=1)


def _check(positions: Tensor, cell: Tensor, batch: Tensor, cutoff: float, hears: Tensor) -> None:
    if not len(positions) == len(batch) == len(hears):
        raise ValueError(
            f"{len(positions)} positions, {len(batch)} entries of `batch` and {len(hears)} of "
            "`heard_by`: give one for each atom"
        )
    ordered = len(batch) == 0 or (
        bool((batch[1:] >= batch[:-1]).all()) and 0 <= int(batch[0]) <= int(batch[-1]) < len(cell)
    )
    if not ordered:
        raise ValueError(f"atoms must come in the order of their structures, 0 to {len(cell) - 1}")
    if not 0 < cutoff < float("inf"):
        raise ValueError(f"the cutoff must be a length in Å, not {cutoff}")


def _compiles(positions: Tensor, cell: Tensor) -> bool:
    """Are there compiled loops for these, which know nothing of forward-mode derivatives?"""
    plain = positions.device.type == "cpu" and positions.dtype in COMPILED
    dual = any(unpack_dual(x).tangent is not None for x in (positions, cell))
    return plain and cell.dtype == positions.dtype and not dual


def _compiled(
    positions: Tensor,
    cell: Tensor,
    pbc: Tensor,
    batch: Tensor,
    cutoff: float,
    hears: Tensor,
) -> Edges:
    from sdedata import kernels  # Numba takes half a second to import

    inverse = _inverse(cell.double())
    structures = torch.arange(len(cell) + 1, device=batch.device)
    first = torch.searchsorted(batch.contiguous(), structures)
    given = positions, cell, inverse, _heights(inverse), pbc, first, hears
    arrays = [x.contiguous().numpy() for x in given]
    room = 64 * int(hears.sum())
    while True:
        senders, receivers = batch.new_empty(2, room)
        edges = Edges(senders, receivers, positions.new_empty(room, 3))
        found = kernels.edges(*arrays, cutoff, *(x.numpy() for x in edges))
        if found <= room:
            return Edges(*(x[:found] for x in edges))
        room = found


def _image_range(pbc: Tensor, heights: Tensor, cutoff: float, spread: float) -> list[int]:
    """Images needed per direction when fractional differences lie within ±spread."""
    needed = torch.floor(cutoff / heights + spread + 1e-6) * pbc
    return [int(m) for m in needed.max(dim=0).values.tolist()]


def _images(ranges: list[int], like: Tensor) -> Float[Tensor, "m 3"]:
    axes = [torch.arange(-r, r + 1, device=like.device, dtype=like.dtype) for r in ranges]
    return torch.cartesian_prod(*axes).reshape(-1, 3)


def _all_pairs(
    positions: Tensor,
    cell: Tensor,
    pbc: Tensor,
    batch: Tensor,
    cutoff: float,
    inverse: Tensor,
    heights: Tensor,
    hears: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    # With each pair folded to its nearest fractional image, only cutoff/height + 1/2 images remain.
    images = _images(_image_range(pbc, heights, cutoff, 0.5), positions)
    there = _side_by_side(positions, batch, torch.ones_like(hears), len(cell))
    here = _side_by_side(positions, batch, hears, len(cell))
    pairs = there.atoms.shape[1] * here.atoms.shape[1]
    step = max(1, CANDIDATES // max(1, pairs * len(images)))
    steps = (slice(k, k + step) for k in range(0, len(cell), step))
    found = [
        _within(there.of(s), here.of(s), cell[s], pbc[s], inverse[s], images, cutoff) for s in steps
    ]
    senders, receivers, offsets = (torch.cat(parts) for parts in zip(*found, strict=True))
    return senders, receivers, offsets


class _Table(NamedTuple):
    """Atoms of structures side by side; a place without an atom is nowhere, near nothing."""

    atoms: Int[Tensor, "b m"]
    positions: Float[Tensor, "3 b m"]

    def of(self, structures: slice) -> "_Table":
        return _Table(self.atoms[structures], self.positions[:, structures])


def _side_by_side(positions: Tensor, batch: Tensor, some: Tensor, b: int) -> _Table:
    """The atoms that are `some`."""
    (atoms,) = torch.nonzero(some, as_tuple=True)
    batch = batch[atoms]
    counts = torch.bincount(batch, minlength=b)
    place = torch.arange(len(atoms), device=batch.device) - (counts.cumsum(0) - counts)[batch]
    table = atoms.new_zeros(b, int(counts.max()))
    padded = positions.new_full((3, *table.shape), torch.nan)
    table[batch, place] = atoms
    padded[:, batch, place] = positions[atoms].T
    return _Table(table, padded)


def _within(
    senders: _Table,
    receivers: _Table,
    cell: Float[Tensor, "b 3 3"],
    pbc: Bool[Tensor, "b 3"],
    inverse: Float[Tensor, "b 3 3"],
    images: Float[Tensor, "k 3"],
    cutoff: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Sender, receiver and offset of all images hardly farther than the cutoff."""
    # Sums over products, not matrix products: these may be rounded to fewer bits.
    cell, inverse, periodic = cell.permute(1, 2, 0), inverse.permute(1, 2, 0), pbc.T
    shifts = (images.T[:, None, None] * cell.unsqueeze(-1)).sum(0)  # (3, b, k)
    forbidden = ((images.T[:, None] != 0) & ~periodic.unsqueeze(-1)).any(0)
    shifts = torch.where(forbidden, torch.inf, shifts)

    there, here = (
        (table.positions.unsqueeze(1) * inverse.unsqueeze(-1)).sum(0)
        for table in (senders, receivers)
    )
    apart = there.unsqueeze(-2) - here.unsqueeze(-1)  # (3, b, receiver, sender)
    fold = -torch.round(apart) * periodic[..., None, None]
    folded = ((apart + fold).unsqueeze(1) * cell[..., None, None]).sum(0)
    square: Any = 0.0  # (b, receiver, image, sender)
    for axis in range(3):
        square = square + (folded[axis].unsqueeze(2) + shifts[axis, :, None, :, None]).square()
    itself = receivers.atoms.unsqueeze(-1) == senders.atoms.unsqueeze(-2)
    square[:, :, len(images) // 2].masked_fill_(itself, torch.inf)
    structure, receiver, image, sender = torch.nonzero(
        square < cutoff**2 * (1 + SLACK), as_tuple=True
    )
    offsets = images[image] + fold[:, structure, receiver, sender].T
    return senders.atoms[structure, sender], receivers.atoms[structure, receiver], offsets


def _cluster(
    positions: Tensor,
    cell: Tensor,
    pbc: Tensor,
    batch: Tensor,
    cutoff: float,
    inverse: Tensor,
    heights: Tensor,
    hears: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    try:
        from torch_cluster import radius
    except ImportError as error:
        raise ValueError(
            "the neighbour backend 'cluster' needs torch-cluster: run `make cluster`, "
            "or choose neighbours=auto"
        ) from error
    # torch-cluster knows no periodicity: wrap, then lay out every image that can be in reach.
    fractional = torch.einsum("ni,nij->nj", positions, inverse[batch])
    wrap = -torch.floor(fractional) * pbc[batch]
    wrapped = positions + torch.einsum("nk,nkj->nj", wrap, cell[batch])
    images = _images(_image_range(pbc, heights, cutoff, 1.0), positions)
    shifts = torch.einsum("mk,bkj->bmj", images, cell)
    count = len(images)
    laid_out = (wrapped[:, None] + shifts[batch]).reshape(-1, 3)
    finite = wrapped.isfinite().all(-1)  # one that is not would hide others from its tree
    allowed = (pbc[:, None, :] | (images == 0)).all(-1)[batch]
    allowed = (allowed & finite[:, None]).reshape(-1)
    owner = torch.arange(len(positions), device=batch.device).repeat_interleave(count)[allowed]
    image = torch.arange(count, device=batch.device).repeat(len(positions))[allowed]
    # The default cap of 32 neighbours would silently drop edges.
    (atoms,) = torch.nonzero(finite, as_tuple=True)
    found_by, found = radius(
        laid_out[allowed].contiguous(),
        wrapped[atoms].contiguous(),
        cutoff * (1 + SLACK),
        batch_x=batch[owner],
        batch_y=batch[atoms],
        max_num_neighbors=int(torch.bincount(batch[owner], minlength=1).max()),
    )
    receivers, senders, offsets = atoms[found_by], owner[found], images[image[found]]
    offsets = offsets + wrap[senders] - wrap[receivers]
    others = hears[receivers] & ((senders != receivers) | (offsets != 0).any(-1))
    (others,) = torch.nonzero(others, as_tuple=True)
    order = others[torch.argsort(receivers[others], stable=True)]
    return senders[order], receivers[order], offsets[order]
