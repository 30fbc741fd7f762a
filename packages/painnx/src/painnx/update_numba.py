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

import numpy as np
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


# Loops over features, for one of the three components of vectors.


@inner
def _invariants_of(f, v, u, n, p, out):  # type: ignore
    for c in range(f):
        n[c] += v[c] * v[c]
        p[c] += v[c] * u[c]
        out[c] = u[c]


@inner
def _invariants_back(f, h, dp, v, u, du, dv, out):  # type: ignore
    for c in range(f):
        dv[c] = h[c] * v[c] + dp[c] * u[c]
        out[c] = dp[c] * v[c] + du[c]


@inner
def _invariants_along(f, v, u, n, at_v, at_u, of_n, of_p, of_u):  # type: ignore
    for c in range(f):
        of_n[c] += at_v[c] * v[c] / n[c]
        of_p[c] += at_v[c] * u[c] + at_u[c] * v[c]
        of_u[c] = at_u[c]


@inner
def _invariants_again(f, h, dp, v, n, at_v, at_u, of_n, to_v, to_u):  # type: ignore
    for c in range(f):
        to_v[c] = h[c] * (at_v[c] - v[c] * of_n[c] / n[c]) + dp[c] * at_u[c]
        to_u[c] = dp[c] * at_v[c]


@inner
def _root(f, x):  # type: ignore
    for c in range(f):
        x[c] = math.sqrt(x[c])


@inner
def _ratio(f, x, y, out):  # type: ignore
    for c in range(f):
        out[c] = x[c] / y[c]


@inner
def _scalars(f, s, c0, c2, p, out):  # type: ignore
    for c in range(f):
        out[c] = s[c] + c0[c] + c2[c] * p[c]


@inner
def _vectors(f, v, c1, u, out):  # type: ignore
    for c in range(f):
        out[c] = v[c] + c1[c] * u[c]


@inner
def _scalars_back(f, ds, c2, p, dc0, dc2, dp):  # type: ignore
    for c in range(f):
        dc0[c], dc2[c], dp[c] = ds[c], ds[c] * p[c], ds[c] * c2[c]


@inner
def _vectors_back(f, dv, c1, u, dc1, du):  # type: ignore
    for c in range(f):
        dc1[c] += dv[c] * u[c]
        du[c] = c1[c] * dv[c]


@inner
def _scalars_again(f, ds, c2, p, at_c0, at_c2, at_p, to_s, to_c2, to_p):  # type: ignore
    for c in range(f):
        to_s[c] = at_c0[c] + at_c2[c] * p[c] + at_p[c] * c2[c]
        to_c2[c] = at_p[c] * ds[c]
        to_p[c] = at_c2[c] * ds[c]


@inner
def _vectors_again(f, dv, c1, u, at_c1, at_u, to_v, to_c1, to_u):  # type: ignore
    for c in range(f):
        to_v[c] = at_c1[c] * u[c] + c1[c] * at_u[c]
        to_c1[c] += at_u[c] * dv[c]
        to_u[c] = at_c1[c] * dv[c]


# The kernels: for the atoms from `begin` to `end`. x (2 f) is s and n.


@kernel
def _invariants(begin, end, epsilon, s, m, x, p, u):  # type: ignore
    f = s.shape[1]
    for i in range(begin, end):
        x[i, :f], x[i, f:], p[i] = s[i], epsilon, 0
        for k in range(3):
            _invariants_of(f, m[i, k, :f], m[i, k, f:], x[i, f:], p[i], u[i, k])
        _root(f, x[i, f:])


@kernel
def _invariants_backward(begin, end, m, x, dx, dp, du, ds, dm):  # type: ignore
    f = dp.shape[1]
    h = np.empty(f, x.dtype)
    for i in range(begin, end):
        ds[i] = dx[i, :f]
        _ratio(f, dx[i, f:], x[i, f:], h)
        for k in range(3):
            v, u = m[i, k, :f], m[i, k, f:]
            _invariants_back(f, h, dp[i], v, u, du[i, k], dm[i, k, :f], dm[i, k, f:])


@kernel
def _invariants_backward_again(  # type: ignore
    begin, end, m, x, dx, dp, at_s, at_m, to_m, to_x, to_p, to_u
):
    f = dp.shape[1]
    h = np.empty(f, x.dtype)
    for i in range(begin, end):
        n = x[i, f:]
        _ratio(f, dx[i, f:], n, h)
        to_x[i, :f], to_x[i, f:], to_p[i] = at_s[i], 0, 0
        for k in range(3):
            v, u, at_v, at_u = m[i, k, :f], m[i, k, f:], at_m[i, k, :f], at_m[i, k, f:]
            _invariants_along(f, v, u, n, at_v, at_u, to_x[i, f:], to_p[i], to_u[i, k])
        for k in range(3):
            v, at_v, at_u = m[i, k, :f], at_m[i, k, :f], at_m[i, k, f:]
            to_v, to_w = to_m[i, k, :f], to_m[i, k, f:]
            _invariants_again(f, h, dp[i], v, n, at_v, at_u, to_x[i, f:], to_v, to_w)


@kernel
def _update(begin, end, s, v, c, p, u, new_s, new_v):  # type: ignore
    f = s.shape[1]
    for i in range(begin, end):
        _scalars(f, s[i], c[i, 0], c[i, 2], p[i], new_s[i])
        for k in range(3):
            _vectors(f, v[i, k], c[i, 1], u[i, k], new_v[i, k])


@kernel
def _update_backward(begin, end, c, p, u, ds, dv, dc, dp, du):  # type: ignore
    f = p.shape[1]
    for i in range(begin, end):
        _scalars_back(f, ds[i], c[i, 2], p[i], dc[i, 0], dc[i, 2], dp[i])
        dc[i, 1] = 0
        for k in range(3):
            _vectors_back(f, dv[i, k], c[i, 1], u[i, k], dc[i, 1], du[i, k])


@kernel
def _update_backward_again(  # type: ignore
    begin, end, c, p, u, ds, dv, at_c, at_p, at_u, to_c, to_p, to_u, to_s, to_v
):
    f = p.shape[1]
    for i in range(begin, end):
        to_c[i] = 0
        _scalars_again(
            f, ds[i], c[i, 2], p[i], at_c[i, 0], at_c[i, 2], at_p[i],
            to_s[i], to_c[i, 2], to_p[i],
        )  # fmt: skip
        for k in range(3):
            _vectors_again(
                f, dv[i, k], c[i, 1], u[i, k], at_c[i, 1], at_u[i, k],
                to_v[i, k], to_c[i, 1], to_u[i, k],
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
