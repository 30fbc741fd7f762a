"""PaiNN's message sums in one pass over the edges, with derivatives, compiled by Numba for CPUs.

A pair's filter, its two messages and their derivatives live in a core's cache and are gone with the
pair; nothing with features for every edge is written. `painnx.messages_numba` lets torch
differentiate it; `painnx.messages_eager.EagerMessages` defines the sums.

Notation, for an edge from j to i and every feature c: x (3 f) the context of j, v (3 f) its
vectors, u the direction and d the length of the edge, b (r) the radial basis, g = b w (3 f) the
gates;

    s_i += x_0 g_0,      t_i += u x_1 g_1 + v x_2 g_2.

`ds` and `dt` are the gradients of s and t, h = dt . u and k = dt . v; q is the gradient of g, and m
the derivative of g by d. x, g and vectors have three parts: one row of 3 f numbers, which begin at
0, f and 2 f. docs/kernels.md derives the sums and their derivatives.

The radial basis is that of B-splines on a fine grid, of which only R = 6 are not zero at a length
(`painnx.radial.spline_coefficients` turns filters of Gaussians into filters of these).

g and its like depend on the length alone. Edges therefore come in pairs: `there` leads from `other`
to atom a, `back` from a to `other`, with the same length and the opposite direction (see `Pairs`).
"""

import math
from typing import NamedTuple

import numpy as np

from painnx.jit import inner, kernel
from painnx.radial import DEGREE

SPECIALIZED_FEATURES = 64
"""Number of features for which the kernels are compiled a second time, a fifth faster."""


class Pairs(NamedTuple):
    """Pairs of opposite edges and their geometry; p pairs of n atoms."""

    start: np.ndarray
    """(n + 1,) index of each atom's first pair"""
    other: np.ndarray
    """(p,) the other atom"""
    there: np.ndarray
    """(p,) the edge from the other atom to this one"""
    back: np.ndarray
    """(p,) the edge from this atom to the other, or -1"""
    moving: np.ndarray
    """(p,) is one of the two atoms mobile?"""
    source: np.ndarray
    """(n,) row of the features that an atom sends"""
    target: np.ndarray
    """(n,) row of an atom's sums, or -1"""
    unit: np.ndarray
    """(p, 3) direction of `there`, from this atom to the other"""
    length: np.ndarray
    """(p,) Å"""
    first: np.ndarray
    """(p,) the first of the radial functions that are not zero"""
    basis: np.ndarray
    """(p, 6) their values"""
    slope: np.ndarray
    """(p, 6) their derivatives by the length"""


class Inputs(NamedTuple):
    """What the sums depend on beside the geometry; v is empty where vectors are zero."""

    w: np.ndarray
    """(r, 3 f) filters"""
    x: np.ndarray
    """(s, 3 f) contexts"""
    v: np.ndarray
    """(s, 3 f) vectors"""


class Gradients(NamedTuple):
    """Gradients by edge vectors, contexts and vectors; an empty array is not needed."""

    r: np.ndarray
    x: np.ndarray
    v: np.ndarray


class Directions(NamedTuple):
    """The directions of second derivatives: changes of edge vectors and inputs; empty means zero.

    x must not be empty.
    """

    r: np.ndarray
    w: np.ndarray
    x: np.ndarray
    v: np.ndarray


class SecondGradients(NamedTuple):
    """Gradients of a directional derivative; an empty r, x or v is not needed."""

    s: np.ndarray
    t: np.ndarray
    r: np.ndarray
    x: np.ndarray
    v: np.ndarray


@kernel
def find_pairs(  # type: ignore
    senders, receivers, vectors, mobile, batch, start, other, there, back, moving
):
    """Find the pairs of edges, a's from start[a] to start[a + 1]; return their number.

    start (n + 1) must be zero. The other kernels check no bounds; here IndexError is raised for an
    edge to a missing atom, or between two structures.
    """
    n, m = len(start) - 1, len(receivers)
    first = np.zeros(n + 1, np.int64)
    for e in range(m):
        i, j = receivers[e], senders[e]
        if not (0 <= i < n and 0 <= j < n and batch[i] == batch[j]):
            raise IndexError("an edge does not join two atoms of one structure of the graph")
        first[i + 1] += 1
    for i in range(n):
        first[i + 1] += first[i]
    place = first.copy()
    order, sender, free = np.empty(m, np.int64), np.empty(m, np.int64), np.ones(m, np.bool_)
    for e in range(m):
        k = place[receivers[e]]
        place[receivers[e]] += 1
        order[k], sender[k] = e, senders[e]
    found, taken = 0, first.copy()  # an atom's edges before taken[atom] are all in pairs
    for a in range(n):
        for k in range(first[a], first[a + 1]):
            if not free[k]:
                continue
            free[k] = False
            e, b = order[k], sender[k]
            other[found], there[found], back[found] = b, e, -1
            moving[found] = mobile[a] or mobile[b]
            x, y, z = vectors[e]
            while taken[b] < first[b + 1] and not free[taken[b]]:
                taken[b] += 1
            for o in range(taken[b] if b >= a else first[b + 1], first[b + 1]):
                if sender[o] == a and free[o]:
                    r = vectors[order[o]]
                    if r[0] == -x and r[1] == -y and r[2] == -z:
                        free[o], back[found] = False, order[o]
                        break
            found += 1
        start[a + 1] = found
    return found


@kernel
def radial(vectors, edges, cutoff, nodes, unit, length, first, basis, slope):  # type: ignore
    """Write direction and length of these edges, and the B-splines there with their derivatives.

    The grid has `nodes` intervals up to the cutoff (Å); beyond it all are zero.
    """
    density = nodes / cutoff
    b = np.empty(DEGREE + 1)
    for e in range(len(edges)):
        x, y, z = vectors[edges[e]]
        d = math.sqrt(x * x + y * y + z * z)
        length[e] = d
        unit[e, 0], unit[e, 1], unit[e, 2] = x / d, y / d, z / d
        first[e] = _place(d, cutoff, nodes)
        at = d * density - first[e]
        _raise(b, 0, DEGREE - 1, at)
        for j in range(DEGREE + 1):
            slope[e, j] = ((b[j - 1] if j > 0 else 0.0) - b[j]) * density
        _raise(b, DEGREE - 1, DEGREE, at)
        for j in range(DEGREE + 1):
            basis[e, j] = b[j]
        if d >= cutoff:
            basis[e], slope[e] = 0, 0


@kernel
def curvature(length, cutoff, nodes, first, out):  # type: ignore
    """Write the second derivatives of the radial basis by the length."""
    h = cutoff / nodes
    b = np.empty(DEGREE + 1)
    for e in range(len(length)):
        _raise(b, 0, DEGREE - 2, length[e] / h - first[e])
        for j in range(DEGREE + 1):
            left = (b[j - 2] if j > 1 else 0.0) - (b[j - 1] if j > 0 else 0.0)
            out[e, j] = (left - (b[j - 1] if j > 0 else 0.0) + b[j]) / (h * h)
        if length[e] >= cutoff:
            out[e] = 0


@inner
def _place(d, cutoff, nodes):  # type: ignore
    """Return the interval of the grid that d is in; 0 beyond the cutoff and for NaN."""
    return min(int(d / cutoff * nodes), nodes - 1) if d < cutoff else 0


@inner
def _raise(b, before, degree, x):  # type: ignore
    """Raise the degree of the B-splines b at x intervals from the begin of one (de Boor)."""
    if before == 0:
        b[0], b[1:] = 1, 0
    for p in range(before + 1, degree + 1):
        share = 1.0 / p
        b[p] = x * b[p - 1] * share
        for j in range(p - 1, 0, -1):
            b[j] = ((x + p - j) * b[j - 1] + (j + 1 - x) * b[j]) * share
        b[0] *= (1 - x) * share


@inner
def _set_sum(f, out, a, x, y):  # type: ignore
    for c in range(f):
        out[c] = a * x[c] + y[c]


@inner
def _sum(f, out, b0, b1, b2, b3, b4, b5, x0, x1, x2, x3, x4, x5):  # type: ignore
    for c in range(f):
        low, high = b0 * x0[c] + b1 * x1[c] + b2 * x2[c], b3 * x3[c] + b4 * x4[c] + b5 * x5[c]
        out[c] = low + high


@inner
def _gates(f, out, b, r, w):  # type: ignore
    """out = b w"""
    _sum(
        f, out, b[0], b[1], b[2], b[3], b[4], b[5],
        w[r], w[r + 1], w[r + 2], w[r + 3], w[r + 4], w[r + 5],
    )  # fmt: skip


@inner
def _sums(  # type: ignore
    f, out, other, b0, b1, b2, b3, b4, b5, s0, s1, s2, s3, s4, s5, x0, x1, x2, x3, x4, x5
):
    for c in range(f):
        y0, y1, y2, y3, y4, y5 = x0[c], x1[c], x2[c], x3[c], x4[c], x5[c]
        out[c] = (b0 * y0 + b1 * y1 + b2 * y2) + (b3 * y3 + b4 * y4 + b5 * y5)
        other[c] = (s0 * y0 + s1 * y1 + s2 * y2) + (s3 * y3 + s4 * y4 + s5 * y5)


@inner
def _gates_and_slopes(f, g, m, b, slope, r, w):  # type: ignore
    """g = b w and m = slope w, reading w once."""
    _sums(
        f, g, m, b[0], b[1], b[2], b[3], b[4], b[5],
        slope[0], slope[1], slope[2], slope[3], slope[4], slope[5],
        w[r], w[r + 1], w[r + 2], w[r + 3], w[r + 4], w[r + 5],
    )  # fmt: skip


@inner
def _add(f, out, a, x):  # type: ignore
    for c in range(f):
        out[c] += a * x[c]


@inner
def _outer(f, out, b, r, a):  # type: ignore
    """out_r += b_r a"""
    for k in range(DEGREE + 1):
        _add(f, out[r + k], b[k], a)


@inner
def _add_both(f, out, a, x, b, y):  # type: ignore
    for c in range(f):
        out[c] += a * x[c] + b * y[c]


@inner
def _outer_both(f, out, b, x, slope, y, r):  # type: ignore
    """out_r += b_r x + slope_r y"""
    for k in range(DEGREE + 1):
        _add_both(f, out[r + k], b[k], x, slope[k], y)


@inner
def _receive_scalars(f, s, t, x, g, u0, u1, u2):  # type: ignore
    for c in range(f):
        s[c] += x[c] * g[c]
        a = x[f + c] * g[f + c]
        t[c] += a * u0
        t[f + c] += a * u1
        t[2 * f + c] += a * u2


@inner
def _receive(f, s, t, x, g, v, u0, u1, u2):  # type: ignore
    for c in range(f):
        s[c] += x[c] * g[c]
        a, b = x[f + c] * g[f + c], x[2 * f + c] * g[2 * f + c]
        t[c] += a * u0 + b * v[c]
        t[f + c] += a * u1 + b * v[f + c]
        t[2 * f + c] += a * u2 + b * v[2 * f + c]


@inner
def _sides(a, k, other, back, source, target, unit):  # type: ignore
    """Return receiver row (-1: none), sender row and direction of both edges of a's pair k."""
    b, u0, u1, u2 = other[k], unit[k, 0], unit[k, 1], unit[k, 2]
    receiver = target[b] if back[k] >= 0 else -1
    there = (target[a], source[b], u0, u1, u2)
    return there, (receiver, source[a], -u0, -u1, -u2)


@inner
def _forward(f, begin, end, pairs, inputs, s, t):  # type: ignore
    start, other, there, back, moving, source, target, unit, length, first, basis, slope = pairs
    w, x, v = inputs
    g, none = np.empty(3 * f, s.dtype), len(v) == 0
    for a in range(begin, end):
        for k in range(start[a], start[a + 1]):
            sides = _sides(a, k, other, back, source, target, unit)
            if sides[0][0] < 0 and sides[1][0] < 0:
                continue
            if none:
                _gates(2 * f, g, basis[k], first[k], w)
            else:
                _gates(3 * f, g, basis[k], first[k], w)
            for i, j, u0, u1, u2 in sides:
                if i < 0:
                    continue
                if none:
                    _receive_scalars(f, s[i], t[i], x[j], g, u0, u1, u2)
                else:
                    _receive(f, s[i], t[i], x[j], g, v[j], u0, u1, u2)


@inner
def _gradients(f, ds, dt, x, v, g, m, u0, u1, u2, dx, dv, q):  # type: ignore
    """Add the gradients of x, v and g; return those of u and, by the derivative m of g, of d."""
    along = a0 = a1 = a2 = ds.dtype.type(0)  # a plain 0 would make it a sum in float64
    for c in range(f):
        t0, t1, t2 = dt[c], dt[f + c], dt[2 * f + c]
        x0, x1, x2, g0, g1, g2 = x[c], x[f + c], x[2 * f + c], g[c], g[f + c], g[2 * f + c]
        h = t0 * u0 + t1 * u1 + t2 * u2
        k = t0 * v[c] + t1 * v[f + c] + t2 * v[2 * f + c]
        dx[c] += ds[c] * g0
        dx[f + c] += h * g1
        dx[2 * f + c] += k * g2
        a, b = x1 * g1, x2 * g2
        dv[c] += b * t0
        dv[f + c] += b * t1
        dv[2 * f + c] += b * t2
        q0, q1, q2 = ds[c] * x0, h * x1, k * x2
        q[c] += q0
        q[f + c] += q1
        q[2 * f + c] += q2
        along += q0 * m[c] + q1 * m[f + c] + q2 * m[2 * f + c]
        a0 += a * t0
        a1 += a * t1
        a2 += a * t2
    return a0, a1, a2, along


@inner
def _gradients_of_sender(f, ds, dt, x, v, g, u0, u1, u2, dx, dv):  # type: ignore
    """Add the gradients of x and v alone."""
    for c in range(f):
        t0, t1, t2 = dt[c], dt[f + c], dt[2 * f + c]
        b = x[2 * f + c] * g[2 * f + c]
        dx[c] += ds[c] * g[c]
        dx[f + c] += (t0 * u0 + t1 * u1 + t2 * u2) * g[f + c]
        dx[2 * f + c] += (t0 * v[c] + t1 * v[f + c] + t2 * v[2 * f + c]) * g[2 * f + c]
        dv[c] += b * t0
        dv[f + c] += b * t1
        dv[2 * f + c] += b * t2


@inner
def _gradients_of_edge(f, ds, dt, x, g, m, u0, u1, u2):  # type: ignore
    """Return the gradients of u and d alone, where v is zero."""
    along = a0 = a1 = a2 = ds.dtype.type(0)  # a plain 0 would make it a sum in float64
    for c in range(f):
        t0, t1, t2, x1 = dt[c], dt[f + c], dt[2 * f + c], x[f + c]
        a = x1 * g[f + c]
        along += ds[c] * x[c] * m[c] + (t0 * u0 + t1 * u1 + t2 * u2) * x1 * m[f + c]
        a0 += a * t0
        a1 += a * t1
        a2 += a * t2
    return a0, a1, a2, along


@inner
def _to_direction(f, dt, x, g):  # type: ignore
    """Return the gradient of u."""
    a0 = a1 = a2 = dt.dtype.type(0)  # a plain 0 would make it a sum in float64
    for c in range(f):
        a = x[f + c] * g[f + c]
        a0 += dt[c] * a
        a1 += dt[f + c] * a
        a2 += dt[2 * f + c] * a
    return a0, a1, a2


@inner
def _backward(f, begin, end, pairs, inputs, ds, dt, out, dw):  # type: ignore
    start, other, there, back, moving, source, target, unit, length, first, basis, slope = pairs
    w, x, v = inputs
    dr, dx, dv = out
    g, m = np.empty(3 * f, ds.dtype), np.zeros(3 * f, ds.dtype)
    q, none = np.zeros(3 * f, ds.dtype), np.zeros(3 * f, ds.dtype)
    spare = np.zeros((2, 3 * f), ds.dtype)  # takes the gradients that are not needed
    for a in range(begin, end):
        for k in range(start[a], start[a + 1]):
            d, sides = length[k], _sides(a, k, other, back, source, target, unit)
            if sides[0][0] < 0 and sides[1][0] < 0:
                continue
            basis_k, slope_k, r = basis[k], slope[k], first[k]
            geometry = len(dr) > 0 and moving[k]
            if not (geometry or len(dx) > 0 or len(dv) > 0 or len(dw) > 0):
                continue
            edge_alone = len(v) == 0 and len(dx) == 0 and len(dw) == 0
            if edge_alone:
                _gates_and_slopes(2 * f, g, m, basis_k, slope_k, r, w)
            elif geometry:
                _gates_and_slopes(3 * f, g, m, basis_k, slope_k, r, w)
            else:
                _gates(3 * f, g, basis_k, r, w)
            q[:] = 0
            for e, (i, j, u0, u1, u2) in ((there[k], sides[0]), (back[k], sides[1])):
                if i < 0:
                    continue
                vj = v[j] if len(v) > 0 else none
                dxj = dx[j] if len(dx) > 0 else spare[0]
                dvj = dv[j] if len(dv) > 0 else spare[1]
                if not geometry and len(dw) == 0:
                    _gradients_of_sender(f, ds[i], dt[i], x[j], vj, g, u0, u1, u2, dxj, dvj)
                    continue
                if edge_alone:
                    a0, a1, a2, along = _gradients_of_edge(f, ds[i], dt[i], x[j], g, m, u0, u1, u2)
                else:
                    a0, a1, a2, along = _gradients(
                        f, ds[i], dt[i], x[j], vj, g, m, u0, u1, u2, dxj, dvj, q
                    )
                if geometry:
                    along -= (a0 * u0 + a1 * u1 + a2 * u2) / d
                    dr[e, 0] = u0 * along + a0 / d
                    dr[e, 1] = u1 * along + a1 / d
                    dr[e, 2] = u2 * along + a2 / d
            if len(dw) > 0:
                _outer(3 * f, dw, basis_k, r, q)


# Changes along a direction: y that of x, z that of v, p that of g and o that of u. Each sum above
# is linear in each of these, so that its change is a sum of terms with one of them replaced.


@inner
def _changes(  # type: ignore
    f, ds, dt, x, y, v, z, g, m, gw, u0, u1, u2, o0, o1, o2, rate, s, t, dx, dv, q, qq
):
    """Add the changes of s, t and the gradients of x and v; the gradients of m (q) and g (qq)."""
    for c in range(f):
        t0, t1, t2 = dt[c], dt[f + c], dt[2 * f + c]
        x0, x1, x2, y0, y1, y2 = x[c], x[f + c], x[2 * f + c], y[c], y[f + c], y[2 * f + c]
        v0, v1, v2, z0, z1, z2 = v[c], v[f + c], v[2 * f + c], z[c], z[f + c], z[2 * f + c]
        g0, g1, g2 = g[c], g[f + c], g[2 * f + c]
        p0, p1 = rate * m[c] + gw[c], rate * m[f + c] + gw[f + c]
        p2 = rate * m[2 * f + c] + gw[2 * f + c]
        h, hh = t0 * u0 + t1 * u1 + t2 * u2, t0 * o0 + t1 * o1 + t2 * o2
        k, kk = t0 * v0 + t1 * v1 + t2 * v2, t0 * z0 + t1 * z1 + t2 * z2
        a, aa = y1 * g1 + x1 * p1, x1 * g1
        b, bb = y2 * g2 + x2 * p2, x2 * g2
        s[c] += y0 * g0 + x0 * p0
        t[c] += a * u0 + aa * o0 + b * v0 + bb * z0
        t[f + c] += a * u1 + aa * o1 + b * v1 + bb * z1
        t[2 * f + c] += a * u2 + aa * o2 + b * v2 + bb * z2
        dx[c] += ds[c] * p0
        dx[f + c] += h * p1 + hh * g1
        dx[2 * f + c] += k * p2 + kk * g2
        dv[c] += b * t0
        dv[f + c] += b * t1
        dv[2 * f + c] += b * t2
        q[c] += rate * ds[c] * x0
        q[f + c] += rate * h * x1
        q[2 * f + c] += rate * k * x2
        qq[c] += ds[c] * y0
        qq[f + c] += h * y1 + hh * x1
        qq[2 * f + c] += k * y2 + kk * x2


@inner
def _along(f, ds, dt, x, y, v, z, m, mm, mw, u0, u1, u2, o0, o1, o2, rate):  # type: ignore
    """Return the gradients of d, through g and m, and of its rate, through p."""
    of_d = of_rate = ds.dtype.type(0)
    for c in range(f):
        t0, t1, t2 = dt[c], dt[f + c], dt[2 * f + c]
        h, hh = t0 * u0 + t1 * u1 + t2 * u2, t0 * o0 + t1 * o1 + t2 * o2
        k = t0 * v[c] + t1 * v[f + c] + t2 * v[2 * f + c]
        kk = t0 * z[c] + t1 * z[f + c] + t2 * z[2 * f + c]
        q0, q1, q2 = ds[c] * x[c], h * x[f + c], k * x[2 * f + c]
        of_rate += q0 * m[c] + q1 * m[f + c] + q2 * m[2 * f + c]
        of_d += q0 * (rate * mm[c] + mw[c]) + ds[c] * y[c] * m[c]
        of_d += q1 * (rate * mm[f + c] + mw[f + c])
        of_d += (h * y[f + c] + hh * x[f + c]) * m[f + c]
        of_d += q2 * (rate * mm[2 * f + c] + mw[2 * f + c])
        of_d += (k * y[2 * f + c] + kk * x[2 * f + c]) * m[2 * f + c]
    return of_d, of_rate


@inner
def _backward_of_backward(  # type: ignore
    f, begin, end, pairs, inputs, ds, dt, curvature, at, out, to_w
):
    start, other, there, back, moving, source, target, unit, length, first, basis, slope = pairs
    w, x, v = inputs
    at_r, at_w, at_x, at_v = at
    to_s, to_t, to_r, to_x, to_v = out
    g, m, p = np.empty(3 * f, ds.dtype), np.empty(3 * f, ds.dtype), np.empty(3 * f, ds.dtype)
    # the change of the gates with w, its derivative by d, and the derivative of m
    gw, mw, mm = np.zeros(3 * f, ds.dtype), np.zeros(3 * f, ds.dtype), np.empty(3 * f, ds.dtype)
    q, qq, none = np.zeros(3 * f, ds.dtype), np.zeros(3 * f, ds.dtype), np.zeros(3 * f, ds.dtype)
    spare = np.zeros((2, 3 * f), ds.dtype)  # takes the gradients that are not needed
    zero = ds.dtype.type(0)
    for a in range(begin, end):
        for k in range(start[a], start[a + 1]):
            d, sides = length[k], _sides(a, k, other, back, source, target, unit)
            if sides[0][0] < 0 and sides[1][0] < 0:
                continue
            basis_k, slope_k, r = basis[k], slope[k], first[k]
            _gates_and_slopes(3 * f, g, m, basis_k, slope_k, r, w)
            geometry = len(to_r) > 0 and moving[k]
            if geometry:
                _gates(3 * f, mm, curvature[k], r, w)
                if len(at_w) > 0:
                    _gates_and_slopes(3 * f, gw, mw, basis_k, slope_k, r, at_w)
            elif len(at_w) > 0:
                _gates(3 * f, gw, basis_k, r, at_w)
            q[:] = 0
            qq[:] = 0
            for e, (i, j, u0, u1, u2) in ((there[k], sides[0]), (back[k], sides[1])):
                if i < 0:
                    continue
                xj, y, s, t = x[j], at_x[j], ds[i], dt[i]
                vj, z = v[j] if len(v) > 0 else none, at_v[j] if len(at_v) > 0 else none
                rate = o0 = o1 = o2 = zero  # changes of the edge's length and direction
                if len(at_r) > 0 and moving[k]:
                    r0, r1, r2 = at_r[e, 0], at_r[e, 1], at_r[e, 2]
                    rate = u0 * r0 + u1 * r1 + u2 * r2
                    o0, o1, o2 = (r0 - u0 * rate) / d, (r1 - u1 * rate) / d, (r2 - u2 * rate) / d
                _changes(
                    f, s, t, xj, y, vj, z, g, m, gw, u0, u1, u2, o0, o1, o2, rate,
                    to_s[i], to_t[i], to_x[j] if len(to_x) > 0 else spare[0],
                    to_v[j] if len(to_v) > 0 else spare[1], q, qq,
                )  # fmt: skip
                if geometry:
                    of_d, of_rate = _along(
                        f, s, t, xj, y, vj, z, m, mm, mw, u0, u1, u2, o0, o1, o2, rate
                    )
                    _set_sum(3 * f, p, rate, m, gw)
                    ya, xp, of_o = (
                        _to_direction(f, t, y, g),
                        _to_direction(f, t, xj, p),
                        _to_direction(f, t, xj, g),
                    )
                    of_u = (ya[0] + xp[0], ya[1] + xp[1], ya[2] + xp[2])
                    o_u = of_o[0] * u0 + of_o[1] * u1 + of_o[2] * u2
                    u_u = of_u[0] * u0 + of_u[1] * u1 + of_u[2] * u2
                    of_d -= (of_o[0] * o0 + of_o[1] * o1 + of_o[2] * o2) / d
                    for h, uh, oh in ((0, u0, o0), (1, u1, o1), (2, u2, o2)):
                        side = (of_u[h] - u_u * uh) / d - rate * (of_o[h] - o_u * uh) / (d * d)
                        to_r[e, h] = uh * of_d + side + (of_rate - o_u / d) * oh
            if len(to_w) > 0:
                _outer_both(3 * f, to_w, basis_k, qq, slope_k, q, r)


# The kernels proper. Numba compiles each for `SPECIALIZED_FEATURES` and for any other number.


@kernel
def forward(begin, end, pairs, inputs, s, t):  # type: ignore
    """Add the messages of the pairs of atoms from `begin` to `end` to the sums s and t."""
    if s.shape[1] == SPECIALIZED_FEATURES:
        _forward(SPECIALIZED_FEATURES, begin, end, pairs, inputs, s, t)
    else:
        _forward(s.shape[1], begin, end, pairs, inputs, s, t)


@kernel
def backward(begin, end, pairs, inputs, ds, dt, out, dw):  # type: ignore
    """Add the gradients by x, v and w, and write those by the edge vectors.

    An empty dw is not needed. Gradients by the vectors of edges that are constant or have no
    receiver are not written.
    """
    if ds.shape[1] == SPECIALIZED_FEATURES:
        _backward(SPECIALIZED_FEATURES, begin, end, pairs, inputs, ds, dt, out, dw)
    else:
        _backward(ds.shape[1], begin, end, pairs, inputs, ds, dt, out, dw)


@kernel
def backward_of_backward(  # type: ignore
    begin, end, pairs, inputs, ds, dt, curvature, at, out, to_w
):
    """Add the gradients of the sum of at.r dr + at.w dw + at.x dx + at.v dv of `backward`.

    That sum is the change of  ds s + dt t  along `at`. Gradients by edge vectors are written, all
    others added to. An empty to_w is not needed; curvature is read only for out.r.
    """
    if ds.shape[1] == SPECIALIZED_FEATURES:
        _backward_of_backward(
            SPECIALIZED_FEATURES, begin, end, pairs, inputs, ds, dt, curvature, at, out, to_w
        )
    else:
        _backward_of_backward(
            ds.shape[1], begin, end, pairs, inputs, ds, dt, curvature, at, out, to_w
        )
