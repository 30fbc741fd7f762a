"""Radial functions, and their products with the direction, summed over edges into tables.

What a pair of atoms hears of each other is the sum over their edges, one for each periodic image.
Automatic differentiation of the plain formula (`plain` in the tests) gives the same numbers, but
writes and reads several tensors the size of all edges.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from painnx.radial import cosine_cutoff, gaussians

EDGES = 2**11
"""Edges that are dealt with at a time on a CPU, so that what is between fits its cache."""


class Table(NamedTuple):
    """Where each edge goes: its row in a table of m senders for each receiver, of `size` rows."""

    receivers: Int[Tensor, " e"]
    senders: Int[Tensor, " e"]
    """Counted within the structure."""
    m: int
    size: int

    def of(self, edges: Int[Tensor, " k"]) -> "Table":
        """For some of the edges."""
        return self._replace(receivers=self.receivers[edges], senders=self.senders[edges])

    @property
    def scalar_rows(self) -> Int[Tensor, " e"]:
        return self.receivers * self.m + self.senders

    @property
    def vector_rows(self) -> Int[Tensor, "e 3"]:
        """Of x, y and z; the senders of a receiver's x come before those of its y."""
        axes = torch.arange(3, device=self.senders.device)
        return (3 * self.receivers[:, None] + axes) * self.m + self.senders[:, None]


Sums = list[tuple[Tensor, Tensor]]
"""For each table (k r) of the basis, and (3k r) of basis times direction."""


def sum_edges(
    vectors: Float[Tensor, "e 3"],
    tables: Sequence[Table],
    n_radial: int,
    cutoff: float,
    others: Sums | None = None,
) -> Sums:
    """For each table the sums of the radial basis and of basis times direction.

    `vectors` in Å. Differentiable twice in them. others: sums over other edges, to be added; they
    are constants.
    """
    rows = [(table.scalar_rows, table.vector_rows, table.size) for table in tables]
    begun = [x for pair in others for x in pair] if others is not None else None
    out = _SumEdges.apply(vectors, rows, n_radial, cutoff, begun)
    return list(zip(out[::2], out[1::2], strict=True))


class LastSums:
    """`sum_edges` for edges that are often those of the last call, whose sums it has kept."""

    def __init__(self) -> None:
        self.last: tuple[list[Any], Sums] = [], []  # as one, for threads that share a network

    def __call__(
        self, vectors: Float[Tensor, "e 3"], tables: Sequence[Table], n_radial: int, cutoff: float
    ) -> Sums:
        edges = [vectors, n_radial, cutoff, *(x for table in tables for x in table)]
        known, sums = self.last
        if len(edges) != len(known) or not all(map(_same, edges, known)):
            sums = sum_edges(vectors, tables, n_radial, cutoff)
            self.last = edges, sums
        return sums


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        return (a.dtype, a.device) == (b.dtype, b.device) and torch.equal(a, b)
    return bool(a == b)


class _SumEdges(torch.autograd.Function):
    """With Gaussians γ_r, cutoff c and direction u, the sums of  c γ_r  and of  u c γ_r."""

    @staticmethod
    def forward(
        ctx: Any,
        vectors: Tensor,
        rows: list[tuple[Tensor, Tensor, int]],
        n: int,
        cutoff: float,
        begun: list[Tensor] | None,
    ) -> tuple[Tensor, ...]:
        ctx.save_for_backward(vectors)
        ctx.arguments = rows, n, cutoff
        if begun is None:
            sums = [vectors.new_zeros(k * size, n + 1) for *_, size in rows for k in (1, 3)]
        else:
            sums = [x.clone() for x in begun]
        places = list(zip(rows, sums[::2], sums[1::2], strict=True))
        for s in _steps(vectors):
            d = torch.linalg.norm(vectors[s], dim=-1)
            basis = gaussians(d, n, cutoff) * cosine_cutoff(d, cutoff)[:, None]
            along = ((vectors[s] / d[:, None])[..., None] * basis[:, None]).flatten(0, 1)
            for (of_scalar, of_vector, _), scalar, vector in places:
                scalar.index_add_(0, of_scalar[s], basis)
                vector.index_add_(0, of_vector[s].flatten(), along)
        return tuple(sums)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """u (c' (a + u A) + c (b + u B)) + c/d (A - u (u A)),

        where a and A are what `grads` say of γ_r and of u γ_r, and b and B what of their slopes.
        """
        (vectors,) = ctx.saved_tensors
        rows, n, cutoff = ctx.arguments
        found = []
        for s in _steps(vectors):
            to_basis: Any = 0.0
            to_along: Any = 0.0
            for (of_scalar, of_vector, _), g, h in zip(rows, grads[::2], grads[1::2], strict=True):
                to_basis = to_basis + g.index_select(0, of_scalar[s])
                to_along = to_along + h.index_select(0, of_vector[s].flatten())
            d = torch.linalg.norm(vectors[s], dim=-1, keepdim=True)
            u, c = vectors[s] / d, cosine_cutoff(d[:, 0], cutoff)[:, None]
            dc = torch.sin(d * (math.pi / cutoff)) * (-0.5 * math.pi / cutoff)
            gamma = gaussians(d[:, 0], n, cutoff)
            a, b = _overlaps(to_basis[:, None], gamma, d, cutoff)
            aa, bb = _overlaps(to_along.unflatten(0, (-1, 3)), gamma, d, cutoff)
            along = (u * aa).sum(1, keepdim=True)
            radial = dc * (a + along) + c * (b + (u * bb).sum(1, keepdim=True))
            found.append(u * radial + (c / d) * (aa - u * along))
        return torch.cat(found), None, None, None, None


def _steps(vectors: Float[Tensor, "e 3"]) -> list[slice]:
    e = len(vectors)
    step = max(e, 1) if vectors.is_cuda else EDGES
    return [slice(k, k + step) for k in range(0, max(e, 1), step)]  # one of them may be empty


def _overlaps(
    g: Float[Tensor, "e k r"],
    gamma: Float[Tensor, "e r"],
    d: Float[Tensor, "e 1"],
    cutoff: float,
) -> tuple[Float[Tensor, "e k"], Float[Tensor, "e k"]]:
    """Sums over r of g γ_r, and of g times the slope of γ_r, by the distance."""
    n = gamma.shape[1] - 1
    spacing = cutoff / (n - 1)
    # γ_r' = (r - d / spacing) γ_r / spacing; the last function is constant
    weights = gamma.new_ones(n + 1, 3)
    weights[:, 1] = torch.arange(n + 1)
    weights[-1, 1:] = 0.0
    value, with_r, without = ((g * gamma[:, None]) @ weights).unbind(-1)
    return value, (with_r - (d / spacing) * without) / spacing
