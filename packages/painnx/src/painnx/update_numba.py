"""The update block of PaiNN between its layers, in one pass over the atoms, for CPUs.

The same numbers as `invariants` and `update` of `painnx.blocks`, where torch writes each product of
vectors to memory and reads it again. Differentiable twice in all arguments (docs/kernels.md).

Notation, for an atom and every feature: s its scalar, m = (v u) its mixed vectors,
n = sqrt(v² + EPSILON), p = v . u, and c (3 f) the context. Gradients are ds, dm, ...; `at_` are
directions of second derivatives, `of_n` and `of_p` the changes of n and p along them, and `to_` the
resulting gradients by each argument.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from painnx.blocks import EPSILON
from painnx.jit import Last, even_parts, inner, kernel, run


def invariants(
    scalars: Float[Tensor, "n f"], mixed: Float[Tensor, "n 3 2*f"]
) -> tuple[Float[Tensor, "n 2*f"], Float[Tensor, "n f"], Float[Tensor, "n 3 f"]]:
    """Return the input of the context, s and n; v . u; and u, for `update`."""
    n, f = scalars.shape
    _require(scalars, (n, f), mixed, (n, 3, 2 * f))
    return _Invariants.apply(scalars, mixed)


def update(
    scalars: Float[Tensor, "n f"],
    vectors: Float[Tensor, "n 3 f"],
    context: Float[Tensor, "n 3 f"],
    products: Float[Tensor, "n f"],
    u: Float[Tensor, "n 3 f"],
) -> tuple[Float[Tensor, "n f"], Float[Tensor, "n 3 f"]]:
    """Return scalars + c_0 + c_2 (v . u), and vectors + c_1 u."""
    n, f = scalars.shape
    _require(vectors, (n, 3, f), context, (n, 3, f), products, (n, f), u, (n, 3, f))
    return _Update.apply(scalars, vectors, context, products, u)


def _require(*tensors_and_shapes: Any) -> None:
    """Raise ValueError for a tensor of another shape: the kernels check no bounds."""
    for tensor, shape in zip(tensors_and_shapes[::2], tensors_and_shapes[1::2], strict=True):
        if tensor.shape != shape:
            raise ValueError(f"a tensor of shape {tuple(tensor.shape)} must be {shape}")


# Loops over the features j of an atom. x (2 f) is s and n; m (3, 2 f) is v and u, side by side.


@inner
def _invariants_of(f, epsilon, s, m, x, p, u):  # type: ignore
    for j in range(f):
        v0, v1, v2 = m[0, j], m[1, j], m[2, j]
        u0, u1, u2 = m[0, f + j], m[1, f + j], m[2, f + j]
        x[j], x[f + j] = s[j], math.sqrt(v0 * v0 + v1 * v1 + v2 * v2 + epsilon)
        p[j] = v0 * u0 + v1 * u1 + v2 * u2
        u[0, j], u[1, j], u[2, j] = u0, u1, u2


@inner
def _invariants_back(f, m, x, dx, dp, du, ds, dm):  # type: ignore
    for j in range(f):
        h, v0, v1, v2 = dx[f + j] / x[f + j], m[0, j], m[1, j], m[2, j]
        ds[j] = dx[j]
        dm[0, j] = h * v0 + dp[j] * m[0, f + j]
        dm[1, j] = h * v1 + dp[j] * m[1, f + j]
        dm[2, j] = h * v2 + dp[j] * m[2, f + j]
        dm[0, f + j] = dp[j] * v0 + du[0, j]
        dm[1, f + j] = dp[j] * v1 + du[1, j]
        dm[2, f + j] = dp[j] * v2 + du[2, j]


@inner
def _invariants_again(f, m, x, dx, dp, at_s, at_m, to_m, to_x, to_p, to_u):  # type: ignore
    for j in range(f):
        n = x[f + j]
        h, v0, v1, v2 = dx[f + j] / n, m[0, j], m[1, j], m[2, j]
        at_v0, at_v1, at_v2 = at_m[0, j], at_m[1, j], at_m[2, j]
        at_u0, at_u1, at_u2 = at_m[0, f + j], at_m[1, f + j], at_m[2, f + j]
        of_n = (at_v0 * v0 + at_v1 * v1 + at_v2 * v2) / n
        of_p = at_v0 * m[0, f + j] + at_v1 * m[1, f + j] + at_v2 * m[2, f + j]
        to_p[j] = of_p + at_u0 * v0 + at_u1 * v1 + at_u2 * v2
        to_x[j], to_x[f + j] = at_s[j], of_n
        to_u[0, j], to_u[1, j], to_u[2, j] = at_u0, at_u1, at_u2
        to_m[0, j] = h * (at_v0 - v0 * of_n / n) + dp[j] * at_u0
        to_m[1, j] = h * (at_v1 - v1 * of_n / n) + dp[j] * at_u1
        to_m[2, j] = h * (at_v2 - v2 * of_n / n) + dp[j] * at_u2
        to_m[0, f + j], to_m[1, f + j] = dp[j] * at_v0, dp[j] * at_v1
        to_m[2, f + j] = dp[j] * at_v2


@inner
def _update_of(f, s, v, c, p, u, new_s, new_v):  # type: ignore
    for j in range(f):
        new_s[j] = s[j] + c[0, j] + c[2, j] * p[j]
        new_v[0, j] = v[0, j] + c[1, j] * u[0, j]
        new_v[1, j] = v[1, j] + c[1, j] * u[1, j]
        new_v[2, j] = v[2, j] + c[1, j] * u[2, j]


@inner
def _update_back(f, c, p, u, ds, dv, dc, dp, du):  # type: ignore
    for j in range(f):
        dc[0, j], dc[2, j], dp[j] = ds[j], ds[j] * p[j], ds[j] * c[2, j]
        dc[1, j] = dv[0, j] * u[0, j] + dv[1, j] * u[1, j] + dv[2, j] * u[2, j]
        du[0, j], du[1, j], du[2, j] = c[1, j] * dv[0, j], c[1, j] * dv[1, j], c[1, j] * dv[2, j]


@inner
def _update_again(  # type: ignore
    f, c, p, u, ds, dv, at_c, at_p, at_u, to_c, to_p, to_u, to_s, to_v
):
    for j in range(f):
        at_c1, c1 = at_c[1, j], c[1, j]
        to_s[j] = at_c[0, j] + at_c[2, j] * p[j] + at_p[j] * c[2, j]
        to_c[0, j], to_c[2, j], to_p[j] = 0, at_p[j] * ds[j], at_c[2, j] * ds[j]
        to_c[1, j] = at_u[0, j] * dv[0, j] + at_u[1, j] * dv[1, j] + at_u[2, j] * dv[2, j]
        to_u[0, j], to_u[1, j], to_u[2, j] = at_c1 * dv[0, j], at_c1 * dv[1, j], at_c1 * dv[2, j]
        to_v[0, j] = at_c1 * u[0, j] + c1 * at_u[0, j]
        to_v[1, j] = at_c1 * u[1, j] + c1 * at_u[1, j]
        to_v[2, j] = at_c1 * u[2, j] + c1 * at_u[2, j]


# The kernels: for the atoms from `begin` to `end`.


@kernel
def _invariants(begin, end, epsilon, s, m, x, p, u):  # type: ignore
    small = s.dtype.type(epsilon)  # else the sum would be in float64
    for i in range(begin, end):
        _invariants_of(s.shape[1], small, s[i], m[i], x[i], p[i], u[i])


@kernel
def _invariants_backward(begin, end, m, x, dx, dp, du, ds, dm):  # type: ignore
    for i in range(begin, end):
        _invariants_back(dp.shape[1], m[i], x[i], dx[i], dp[i], du[i], ds[i], dm[i])


@kernel
def _invariants_backward_again(  # type: ignore
    begin, end, m, x, dx, dp, at_s, at_m, to_m, to_x, to_p, to_u
):
    for i in range(begin, end):
        _invariants_again(
            dp.shape[1], m[i], x[i], dx[i], dp[i], at_s[i], at_m[i],
            to_m[i], to_x[i], to_p[i], to_u[i],
        )  # fmt: skip


@kernel
def _update(begin, end, s, v, c, p, u, new_s, new_v):  # type: ignore
    for i in range(begin, end):
        _update_of(s.shape[1], s[i], v[i], c[i], p[i], u[i], new_s[i], new_v[i])


@kernel
def _update_backward(begin, end, c, p, u, ds, dv, dc, dp, du):  # type: ignore
    for i in range(begin, end):
        _update_back(p.shape[1], c[i], p[i], u[i], ds[i], dv[i], dc[i], dp[i], du[i])


@kernel
def _update_backward_again(  # type: ignore
    begin, end, c, p, u, ds, dv, at_c, at_p, at_u, to_c, to_p, to_u, to_s, to_v
):
    for i in range(begin, end):
        _update_again(
            p.shape[1], c[i], p[i], u[i], ds[i], dv[i], at_c[i], at_p[i], at_u[i],
            to_c[i], to_p[i], to_u[i], to_s[i], to_v[i],
        )  # fmt: skip


def _with_epsilon(begin: int, end: int, *arrays: Any) -> None:
    _invariants(begin, end, EPSILON, *arrays)  # not a compiled-in constant


def _run(function: Any, given: Sequence[Tensor], *out: Tensor) -> tuple[Tensor, ...]:
    run(function, even_parts(len(given[0])), *given, *out)
    return out


class _Invariants(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, s: Tensor, m: Tensor) -> tuple[Tensor, ...]:
        n, f = s.shape
        out = s.new_empty(n, 2 * f), s.new_empty(n, f), s.new_empty(n, 3, f)
        x, p, u = _run(_with_epsilon, (s, m), *out)
        ctx.save_for_backward(m, x)
        return x, p, u

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        return _InvariantsBackward.apply(*ctx.saved_tensors, *_contiguous(grads))


class _InvariantsBackward(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, m: Tensor, x: Tensor, dx: Tensor, dp: Tensor, du: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.save_for_backward(m, x, dx, dp)
        return _run(_invariants_backward, (m, x, dx, dp, du), *_like(dp, m))

    @staticmethod
    def backward(ctx: Any, *at: Tensor) -> tuple[Tensor | None, ...]:
        given = *ctx.saved_tensors, *_contiguous(at)
        to_m, *others = Last.apply(_twice_invariants, *given)
        return to_m, None, *others  # x is a function of m and included there


class _Update(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, s: Tensor, v: Tensor, c: Tensor, p: Tensor, u: Tensor) -> Any:
        ctx.save_for_backward(c, p, u)
        return _run(_update, (s, v, c, p, u), *_like(s, v))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        ds, dv = _contiguous(grads)
        return ds, dv, *_UpdateBackward.apply(*ctx.saved_tensors, ds, dv)


class _UpdateBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, c: Tensor, p: Tensor, u: Tensor, ds: Tensor, dv: Tensor) -> Any:
        ctx.save_for_backward(c, p, u, ds, dv)
        return _run(_update_backward, (c, p, u, ds, dv), *_like(c, p, u))

    @staticmethod
    def backward(ctx: Any, *at: Tensor) -> tuple[Tensor, ...]:
        return Last.apply(_twice_update, *ctx.saved_tensors, *_contiguous(at))


def _twice_invariants(*given: Tensor) -> tuple[Tensor, ...]:
    m, x, _, dp = given[:4]
    out = *_like(m, x, dp), m.new_empty(len(m), 3, dp.shape[1])
    return _run(_invariants_backward_again, given, *out)


def _twice_update(*given: Tensor) -> tuple[Tensor, ...]:
    return _run(_update_backward_again, given, *_like(*given[:5]))


def _contiguous(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [x.contiguous() for x in tensors]


def _like(*tensors: Tensor) -> list[Tensor]:
    return [torch.empty_like(x) for x in tensors]
