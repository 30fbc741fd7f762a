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

Most of the work is in sums over the radial basis, like g, which depend on the length alone. Edges
therefore come in pairs: `there` leads from `other` to atom a, `back` from a to `other`, with the
same length and the opposite direction (see `Pairs`).
"""

import math
from typing import NamedTuple

import numpy as np

from painnx.jit import inner, kernel

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
    basis: np.ndarray
    """(p, r) radial basis"""
    slope: np.ndarray
    """(p, r) its derivative by the length"""
    window: np.ndarray
    """(p, 2) the first Gaussian that is not negligible, and the one after the last"""


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
    found = 0
    for a in range(n):
        for k in range(first[a], first[a + 1]):
            if not free[k]:
                continue
            free[k] = False
            e, b = order[k], sender[k]
            other[found], there[found], back[found] = b, e, -1
            moving[found] = mobile[a] or mobile[b]
            x, y, z = vectors[e]
            for o in range(first[b] if b >= a else first[b + 1], first[b + 1]):
                if sender[o] == a and free[o]:
                    r = vectors[order[o]]
                    if r[0] == -x and r[1] == -y and r[2] == -z:
                        free[o], back[found] = False, order[o]
                        break
            found += 1
        start[a + 1] = found
    return found


@kernel
def radial(vectors, edges, cutoff, n_radial, unit, length, basis, slope, window):  # type: ignore
    """Write the radial basis of `painnx.radial` for these edges, and its derivatives by length.

    Gaussians outside the window are below an eighth of the rounding error and not written, except
    for the constant at the end. One inside may be zero, so that with the constant their number is
    even.
    """
    h = cutoff / (n_radial - 1)
    tiny = np.finfo(basis.dtype).eps / 8
    shrink = math.exp(-1.0)
    for e in range(len(edges)):
        x, y, z = vectors[edges[e]]
        d = math.sqrt(x * x + y * y + z * z)
        length[e] = d
        unit[e, 0], unit[e, 1], unit[e, 2] = x / d, y / d, z / d
        c, dc, t, middle = 0.0 * d, 0.0 * d, d / h, 0  # NaN for NaN
        if d < cutoff:
            c = 0.5 * (math.cos(math.pi * d / cutoff) + 1)
            dc = -0.5 * math.pi / cutoff * math.sin(math.pi * d / cutoff)
            middle = min(int(t + 0.5), n_radial - 1)
        # One Gaussian is exp(k - t + 1/2) times the next, a factor that grows by e each time.
        largest = math.exp(-0.5 * (t - middle) ** 2) if d < cutoff else 0.0
        first, gaussian, ratio = middle, largest, math.exp(min(middle - t, 0.5) - 0.5)
        while True:
            basis[e, first] = c * gaussian
            slope[e, first] = gaussian * (dc + c * (first - t) / h)
            gaussian *= ratio
            ratio *= shrink
            if first == 0 or gaussian < tiny:
                break
            first -= 1
        last, gaussian, ratio = middle + 1, largest, math.exp(min(t - middle, 0.5) - 0.5)
        while last < n_radial:
            gaussian *= ratio
            ratio *= shrink
            if gaussian < tiny:
                break
            basis[e, last] = c * gaussian
            slope[e, last] = gaussian * (dc + c * (last - t) / h)
            last += 1
        if (last - first) % 2 == 0 and last - first < n_radial:
            if last < n_radial:
                basis[e, last], slope[e, last] = 0, 0
                last += 1
            else:
                first -= 1
                basis[e, first], slope[e, first] = 0, 0
        basis[e, n_radial], slope[e, n_radial] = c, dc
        window[e, 0], window[e, 1] = first, last


@kernel
def curvature(length, cutoff, n_radial, window, out):  # type: ignore
    """Write the second derivatives of the radial basis by the length."""
    h, k = cutoff / (n_radial - 1), math.pi / cutoff
    for e in range(len(length)):
        d = length[e]
        c, dc, ddc = 0.0, 0.0, 0.0
        if d < cutoff:
            c, dc = 0.5 * (math.cos(k * d) + 1), -0.5 * k * math.sin(k * d)
            ddc = -0.5 * k * k * math.cos(k * d)
        for r in range(window[e, 0], window[e, 1]):
            y = r - d / h
            out[e, r] = math.exp(-0.5 * y * y) * (ddc + 2 * dc * y / h + c * (y * y - 1) / (h * h))
        out[e, n_radial] = ddc


@inner
def _set(f, out, a, x):  # type: ignore
    for c in range(f):
        out[c] = a * x[c]


@inner
def _add(f, out, a, x):  # type: ignore
    for c in range(f):
        out[c] += a * x[c]


@inner
def _set_sum(f, out, a, x, y):  # type: ignore
    for c in range(f):
        out[c] = a * x[c] + y[c]


@inner
def _set4(f, out, a0, a1, a2, a3, x0, x1, x2, x3):  # type: ignore
    for c in range(f):
        out[c] = a0 * x0[c] + a1 * x1[c] + a2 * x2[c] + a3 * x3[c]


@inner
def _add4(f, out, a0, a1, a2, a3, x0, x1, x2, x3):  # type: ignore
    for c in range(f):
        out[c] += a0 * x0[c] + a1 * x1[c] + a2 * x2[c] + a3 * x3[c]


@inner
def _add2(f, out, a0, a1, x0, x1):  # type: ignore
    for c in range(f):
        out[c] += a0 * x0[c] + a1 * x1[c]


@inner
def _gates(f, out, b, window, w):  # type: ignore
    """out = sum over r of b_r w_r"""
    last, r = len(b) - 1, window[0]
    if r + 3 <= window[1]:
        a0, a1, a2, a3 = b[last], b[r], b[r + 1], b[r + 2]
        _set4(3 * f, out, a0, a1, a2, a3, w[last], w[r], w[r + 1], w[r + 2])
        r += 3
    else:
        _set(3 * f, out, b[last], w[last])
    while r + 4 <= window[1]:
        _add4(3 * f, out, b[r], b[r + 1], b[r + 2], b[r + 3], w[r], w[r + 1], w[r + 2], w[r + 3])
        r += 4
    if r + 2 <= window[1]:
        _add2(3 * f, out, b[r], b[r + 1], w[r], w[r + 1])
        r += 2
    if r < window[1]:
        _add(3 * f, out, b[r], w[r])


@inner
def _set_both(f, out, a, other, b, x):  # type: ignore
    for c in range(f):
        out[c] = a * x[c]
        other[c] = b * x[c]


@inner
def _add_to_both(f, out, a, other, b, x):  # type: ignore
    for c in range(f):
        out[c] += a * x[c]
        other[c] += b * x[c]


@inner
def _set2_both(f, out, a0, a1, other, b0, b1, x0, x1):  # type: ignore
    for c in range(f):
        out[c] = a0 * x0[c] + a1 * x1[c]
        other[c] = b0 * x0[c] + b1 * x1[c]


@inner
def _add2_to_both(f, out, a0, a1, other, b0, b1, x0, x1):  # type: ignore
    for c in range(f):
        out[c] += a0 * x0[c] + a1 * x1[c]
        other[c] += b0 * x0[c] + b1 * x1[c]


@inner
def _gates_and_slopes(f, g, m, b, slope, window, w):  # type: ignore
    """g = b w and m = slope w, reading w once."""
    last, r = len(b) - 1, window[0]
    if r < window[1]:
        _set2_both(3 * f, g, b[last], b[r], m, slope[last], slope[r], w[last], w[r])
        r += 1
    else:
        _set_both(3 * f, g, b[last], m, slope[last], w[last])
    while r + 2 <= window[1]:
        _add2_to_both(3 * f, g, b[r], b[r + 1], m, slope[r], slope[r + 1], w[r], w[r + 1])
        r += 2
    if r < window[1]:
        _add_to_both(3 * f, g, b[r], m, slope[r], w[r])


@inner
def _outer(f, out, b, window, a):  # type: ignore
    """out_r += b_r a"""
    for r in range(window[0], window[1]):
        _add(3 * f, out[r], b[r], a)
    last = len(b) - 1
    _add(3 * f, out[last], b[last], a)


@inner
def _add_both(f, out, a, x, b, y):  # type: ignore
    for c in range(f):
        out[c] += a * x[c] + b * y[c]


@inner
def _outer_both(f, out, b, x, slope, y, window):  # type: ignore
    """out_r += b_r x + slope_r y"""
    for r in range(window[0], window[1]):
        _add_both(3 * f, out[r], b[r], x, slope[r], y)
    last = len(b) - 1
    _add_both(3 * f, out[last], b[last], x, slope[last], y)


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
    start, other, there, back, moving, source, target, unit, length, basis, slope, window = pairs
    w, x, v = inputs
    g, none = np.empty(3 * f, s.dtype), len(v) == 0
    for a in range(begin, end):
        for k in range(start[a], start[a + 1]):
            sides = _sides(a, k, other, back, source, target, unit)
            if sides[0][0] < 0 and sides[1][0] < 0:
                continue
            _gates(f, g, basis[k], window[k], w)
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
    start, other, there, back, moving, source, target, unit, length, basis, slope, window = pairs
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
            basis_k, window_k = basis[k], window[k]
            geometry = len(dr) > 0 and moving[k]
            if geometry:
                _gates_and_slopes(f, g, m, basis_k, slope[k], window_k, w)
            else:
                _gates(f, g, basis_k, window_k, w)
            q[:] = 0
            for e, (i, j, u0, u1, u2) in ((there[k], sides[0]), (back[k], sides[1])):
                if i < 0:
                    continue
                a0, a1, a2, along = _gradients(
                    f, ds[i], dt[i], x[j], v[j] if len(v) > 0 else none, g, m,
                    u0, u1, u2,
                    dx[j] if len(dx) > 0 else spare[0], dv[j] if len(dv) > 0 else spare[1], q,
                )  # fmt: skip
                if geometry:
                    along -= (a0 * u0 + a1 * u1 + a2 * u2) / d
                    dr[e, 0] = u0 * along + a0 / d
                    dr[e, 1] = u1 * along + a1 / d
                    dr[e, 2] = u2 * along + a2 / d
            if len(dw) > 0:
                _outer(f, dw, basis_k, window_k, q)


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
    start, other, there, back, moving, source, target, unit, length, basis, slope, window = pairs
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
            basis_k, window_k = basis[k], window[k]
            _gates_and_slopes(f, g, m, basis_k, slope[k], window_k, w)
            geometry = len(to_r) > 0 and moving[k]
            if geometry:
                _gates(f, mm, curvature[k], window_k, w)
                if len(at_w) > 0:
                    _gates_and_slopes(f, gw, mw, basis_k, slope[k], window_k, at_w)
            elif len(at_w) > 0:
                _gates(f, gw, basis_k, window_k, at_w)
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
                _outer_both(f, to_w, basis_k, qq, slope[k], q, window_k)


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
