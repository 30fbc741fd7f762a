"""The convolution of SevenNet (NequIP) in compiled loops that store no message.

A message on an edge is the tensor product of the sender's features with the spherical harmonics of
the edge, weighted by a function of its length; a receiver sums its messages. e3nn computes all
messages of a path at once, and most of the time goes into writing and reading them. Here one loop
over the edges, sorted by receiver, does it all, and another its derivatives:

    out[r, k, u] = sum over edges s -> r, paths and i, j of  C[i, j, k] w[u] Y[j] x[s, i, u]

(Batzner et al., Nat. Commun. 13, 2453 (2022), Eq. 8; C are the Wigner 3j symbols times the path's
normalisation, u counts channels.) It is exact, in float32, for processors.
"""

from typing import Any, NamedTuple

import numba
import numpy as np
import torch
from torch import Tensor, nn

COMPILE: Any = {"fastmath": {"contract", "reassoc", "nsz"}, "cache": True, "nogil": True}


class Paths(NamedTuple):
    """The tensor product as a list of terms, in a layout with the channels innermost."""

    blocks: np.ndarray
    """(paths, 6): channels, first weight, first term, end of terms, components in, out."""
    terms: np.ndarray
    """(terms, 3): where component i of x, j of Y and k of the output begin."""
    factors: np.ndarray
    """(terms,): C[i, j, k]."""
    inwards: Tensor
    """e3nn's features in this layout: x[:, inwards]."""
    outwards: Tensor
    """This layout's output in that of e3nn: out[:, outwards]."""


def paths(product: Any) -> Paths | None:
    """Read e3nn's tensor product; None if it has other than channel-wise paths with weights."""
    from e3nn.o3 import wigner_3j

    first, second, out = product.irreps_in1, product.irreps_in2, product.irreps_out
    starts = [[s.start for s in irreps.slices()] for irreps in (first, second, out)]
    blocks: list[tuple[int, ...]] = []
    terms: list[tuple[int, ...]] = []
    factors: list[float] = []
    weight = 0
    for path in product.instructions:
        (mul, one), (single, two) = first[path.i_in1], second[path.i_in2]
        three = out[path.i_out].ir
        if path.connection_mode != "uvu" or not path.has_weight or single != 1:
            return None
        symbols = wigner_3j(one.l, two.l, three.l).numpy() * path.path_weight
        begin = len(terms)
        for i, j, k in zip(*np.nonzero(np.abs(symbols) > 1e-9), strict=True):
            x, y, z = (starts[n][m] for n, m in enumerate((path.i_in1, path.i_in2, path.i_out)))
            terms.append((x + i * mul, y + j, z + k * mul))
            factors.append(float(symbols[i, j, k]))
        blocks.append((mul, weight, begin, len(terms), one.dim, three.dim))
        weight += mul
    return Paths(
        np.array(blocks), np.array(terms), np.array(factors, dtype=np.float32),
        _channels_innermost(first), torch.argsort(_channels_innermost(out)),
    )  # fmt: skip


def _channels_innermost(irreps: Any) -> Tensor:
    """Return the index that sorts features (channel, component) as (component, channel)."""
    parts = [
        torch.arange(block.start, block.stop).reshape(mul, ir.dim).T.flatten()
        for (mul, ir), block in zip(irreps, irreps.slices(), strict=True)
    ]
    return torch.cat(parts)


@numba.njit(**COMPILE)
def _forward(x, y, w, senders, receivers, blocks, terms, factors, out):  # type: ignore[no-untyped-def]
    for e in range(len(senders)):
        s, r = senders[e], receivers[e]
        for p in range(len(blocks)):
            mul, first, begin, end = blocks[p, 0], blocks[p, 1], blocks[p, 2], blocks[p, 3]
            weight = w[e, first : first + mul]
            for t in range(begin, end):
                a = factors[t] * y[e, terms[t, 1]]
                source = x[s, terms[t, 0] : terms[t, 0] + mul]
                target = out[r, terms[t, 2] : terms[t, 2] + mul]
                for u in range(mul):
                    target[u] += a * weight[u] * source[u]


@numba.njit(**COMPILE)
def _backward(x, y, w, senders, receivers, blocks, terms, factors, slope, dx, dy, dw):  # type: ignore[no-untyped-def]
    for e in range(len(senders)):
        s, r = senders[e], receivers[e]
        for p in range(len(blocks)):
            mul, first, begin, end = blocks[p, 0], blocks[p, 1], blocks[p, 2], blocks[p, 3]
            weight, d_weight = w[e, first : first + mul], dw[e, first : first + mul]
            for t in range(begin, end):
                j, c = terms[t, 1], factors[t]
                a = c * y[e, j]
                source = x[s, terms[t, 0] : terms[t, 0] + mul]
                d_source = dx[s, terms[t, 0] : terms[t, 0] + mul]
                g = slope[r, terms[t, 2] : terms[t, 2] + mul]
                total = np.float32(0.0)
                for u in range(mul):
                    product = source[u] * g[u]
                    d_weight[u] += a * product
                    d_source[u] += a * weight[u] * g[u]
                    total += weight[u] * product
                dy[e, j] += c * total


class _Convolve(torch.autograd.Function):
    """The sum of messages, differentiable once with respect to features, harmonics and weights."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, x: Tensor, y: Tensor, w: Tensor, edges: Tensor, tables: Paths, width: int
    ) -> Tensor:
        ctx.tables, ctx.edges = tables, edges
        x, y, w = (one.detach().contiguous() for one in (x, y, w))
        ctx.save_for_backward(x, y, w)
        out = x.new_zeros(len(x), width)
        arrays = (one.numpy() for one in (x, y, w, edges[1], edges[0]))
        _forward(*arrays, tables.blocks, tables.terms, tables.factors, out.numpy())
        return out

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Any:  # type: ignore[override]
        tables, edges, inputs = ctx.tables, ctx.edges, ctx.saved_tensors
        slopes = [torch.zeros_like(one) for one in inputs]
        arrays = [one.numpy() for one in (*inputs, edges[1], edges[0])]
        results = [one.numpy() for one in (slope.contiguous(), *slopes)]
        _backward(*arrays, tables.blocks, tables.terms, tables.factors, *results)
        return (*slopes, None, None, None)


class Convolution(nn.Module):
    """Take the place of a convolution of SevenNet, with its weights."""

    def __init__(self, original: Any, tables: Paths) -> None:
        super().__init__()
        self.original, self.tables = original, tables

    def forward(self, data: dict[str, Tensor]) -> dict[str, Tensor]:
        own, tables = self.original, self.tables
        x = data[own.key_x].index_select(1, tables.inwards)
        weight = own.weight_nn(data[own.key_weight_input])
        out = _Convolve.apply(
            x, data[own.key_filter], weight, data[own.key_edge_idx], tables, len(tables.outwards)
        )
        data[own.key_x] = out.index_select(1, tables.outwards).div(own.denominator)
        return data


def compile_convolutions(network: Any) -> None:
    """Replace the convolutions of a SevenNet on a processor by compiled ones, where they apply."""
    if next(network.parameters()).device.type != "cpu":
        return
    for name, layer in list(network._modules.items()):
        if type(layer).__name__ == "IrrepsConvolution":
            tables = paths(layer.convolution)
            if tables is not None:
                network._modules[name] = Convolution(layer, tables)
