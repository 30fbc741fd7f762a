"""One product of three tensors, with its first and second derivatives, in steps that fit a cache.

    out[b, i, c] = sum over j and r of pairs[b, i, (j, r)] x[b, j, c] w[r, c]

is the whole of a message block between few atoms: `pairs` has the geometry, `x` what the senders
say, `w` the filters. Automatic differentiation of the plain formula (`plain` in the tests)
gives the same numbers, but writes and reads its intermediates several times over.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable


def contract(
    pairs: Float[Tensor, "b i jr"],
    x: Float[Tensor, "b j c"],
    w: Float[Tensor, "r c"],
    step: int,
    symmetric: bool = False,
) -> Float[Tensor, "b i c"]:
    """The product above, `step` structures at a time; differentiable twice in all three.

    symmetric: says that `pairs` does not change when i and j change places, which is quicker.
    """
    return _Contract.apply(pairs, x, w, step, symmetric)


class _Contract(torch.autograd.Function):
    """With y = x w:  out = pairs y."""

    @staticmethod
    def forward(
        ctx: Any, pairs: Tensor, x: Tensor, w: Tensor, step: int, symmetric: bool
    ) -> Tensor:
        ctx.save_for_backward(pairs, x, w)
        ctx.how = step, symmetric
        return _product(pairs, x, w, step)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        needs = ctx.needs_input_grad[:3]
        return *_Gradients.apply(*ctx.saved_tensors, g, *ctx.how, needs), None, None


class _Gradients(torch.autograd.Function):
    """With v = pairsᵀ g:  g_pairs = g yᵀ,  g_x = sum over r of v w,  g_w = sum over j of v x."""

    @staticmethod
    def forward(
        ctx: Any,
        pairs: Tensor,
        x: Tensor,
        w: Tensor,
        g: Tensor,
        step: int,
        symmetric: bool,
        needs: tuple[bool, ...],
    ) -> tuple[Tensor | None, ...]:
        ctx.save_for_backward(pairs, x, w, g)
        ctx.step = step
        ctx.set_materialize_grads(False)
        g_pairs = torch.empty_like(pairs) if needs[0] else None
        if g_pairs is not None:
            for s in _steps(len(x), step):
                torch.bmm(g[s], _times(x[s], w).mT, out=g_pairs[s])
        if symmetric and not needs[2]:
            return g_pairs, _product(pairs, g, w, step) if needs[1] else None, None
        g_x = torch.empty_like(x) if needs[1] else None
        g_w = torch.zeros_like(w) if needs[2] else None
        if g_x is not None or g_w is not None:
            for s in _steps(len(x), step):
                v = _transposed(pairs[s], g[s], w)
                if g_x is not None:
                    torch.sum(v * w, 2, out=g_x[s])
                if g_w is not None:
                    g_w += (v * x[s, :, None]).sum((0, 1))
        return g_pairs, g_x, g_w

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, to_pairs: Tensor | None, to_x: Tensor | None, to_w: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        """As a tangent: with pairs', x', w' the arguments and y' = x' w + x w',

        g_g = pairs y' + pairs' y, and with v' = pairs'ᵀ g likewise for the others.
        """
        pairs, x, w, g = ctx.saved_tensors
        needs = ctx.needs_input_grad
        g_pairs = torch.zeros_like(pairs) if needs[0] else None
        g_x = torch.zeros_like(x) if needs[1] else None
        g_w = torch.zeros_like(w) if needs[2] else None
        g_g = torch.zeros_like(g) if needs[3] else None
        for s in _steps(len(x), ctx.step):
            tangents = []
            if to_x is not None:
                tangents.append(_times(to_x[s], w))
            if to_w is not None:
                tangents.append(_times(x[s], to_w))
            if tangents:
                y = sum(tangents[1:], tangents[0])
                v = _transposed(pairs[s], g[s], w)
                if g_g is not None:
                    g_g[s].baddbmm_(pairs[s], y)
                if g_pairs is not None:
                    g_pairs[s].baddbmm_(g[s], y.mT)
                if g_x is not None and to_w is not None:
                    g_x[s] += (v * to_w).sum(2)
                if g_w is not None and to_x is not None:
                    g_w += (v * to_x[s, :, None]).sum((0, 1))
            if to_pairs is not None:
                if g_g is not None:
                    g_g[s].baddbmm_(to_pairs[s], _times(x[s], w))
                v = _transposed(to_pairs[s], g[s], w)
                if g_x is not None:
                    g_x[s] += (v * w).sum(2)
                if g_w is not None:
                    g_w += (v * x[s, :, None]).sum((0, 1))
        return g_pairs, g_x, g_w, g_g, None, None, None


def _product(pairs: Tensor, x: Tensor, w: Tensor, step: int) -> Float[Tensor, "b i c"]:
    out = x.new_empty(*pairs.shape[:2], x.shape[2])
    for s in _steps(len(x), step):
        torch.bmm(pairs[s], _times(x[s], w), out=out[s])
    return out


def _steps(b: int, step: int) -> list[slice]:
    return [slice(k, min(k + step, b)) for k in range(0, b, step)]


def _times(x: Float[Tensor, "b j c"], w: Float[Tensor, "r c"]) -> Float[Tensor, "b jr c"]:
    """y: what each sender says through each radial function."""
    return (x[:, :, None] * w).flatten(1, 2)


def _transposed(
    pairs: Float[Tensor, "b i jr"], g: Float[Tensor, "b i c"], w: Float[Tensor, "r c"]
) -> Float[Tensor, "b j r c"]:
    """v: the gradient of y."""
    return torch.bmm(pairs.mT, g).unflatten(1, (-1, len(w)))
