"""PaiNN's message sums in one pass over the edges, with derivatives, compiled by Numba for CPUs.

A pair's filter, its two messages and their derivatives live in a core's cache and are gone with the
pair; nothing with features for every edge is written. `painnx.messages_numba` lets torch
differentiate it; `painnx.messages_eager.EagerMessages` defines the sums.

Notation, for an edge from j to i and every feature c: x (3 f) what j says, v (3 f) its vectors,
u the direction and d the length of the edge, b (r) the radial basis, g = b w (3 f) the gates;

    s_i += x_0 g_0,      t_i += u x_1 g_1 + v x_2 g_2.

`ds` and `dt` are the gradients of s and t, h = dt . u and k = dt . v; q is the gradient of g, and m
the slope of g by d. x, g and vectors have three parts: one row of 3 f numbers, which begin at 0, f
and 2 f.

Most of the work is in sums over the radial basis, like g, which depend on the length alone. Edges
therefore come in pairs, there and back: atom a hears `other`, by the edge `there`, and is heard by
it, by the edge `back` with the same length and the opposite direction. Where no such edge exists
`back` is -1. `row` is the place of an atom's sums, or -1 where none are wanted; `source` that of
what it says.
"""

import math

import numpy as np

from painnx.jit import inner, kernel

SPECIALIZED_FEATURES = 64
"""Features for which the kernels are made once more, a fifth faster."""


@kernel
def find_pairs(  # type: ignore
    senders, receivers, vectors, mobile, batch, start, other, there, back, moving
):
    """Find the edges' pairs, a's from start[a] to start[a + 1]; returns how many there are.

    start (n + 1) must be zero. moving: is one of the two atoms mobile? The other kernels trust
    these numbers: IndexError for an edge beyond the atoms, or between two structures.
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
    """The radial basis of `painnx.radial` for these edges, and its slopes by length.

    window (e, 2): the first Gaussian that counts and the one after the last. Those outside are
    under an eighth of the rounding error and not written, but for the constant at the end. One
    inside may be zero, so that with the constant they are even in number.
    """
    h = cutoff / (n_radial - 1)
    tiny = np.finfo(basis.dtype).eps / 8
    shrink = math.exp(-1.0)
    for e in range(len(edges)):
        x, y, z = vectors[edges[e]]
        d = math.sqrt(x * x + y * y + z * z)
        length[e] = d
        unit[e, 0], unit[e, 1], unit[e, 2] = x / d, y / d, z / d
        c, dc, t, middle = 0.0 * d, 0.0 * d, d / h, 0  # of NaN, NaN
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
    """The second derivatives of the radial basis by the length."""
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
    """g = b w and m = slope w, which reads w once."""
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
def _hear(f, s, t, x, g, u0, u1, u2):  # type: ignore
    for c in range(f):
        s[c] += x[c] * g[c]
        a = x[f + c] * g[f + c]
        t[c] += a * u0
        t[f + c] += a * u1
        t[2 * f + c] += a * u2


@inner
def _hear_all(f, s, t, x, g, v, u0, u1, u2):  # type: ignore
    for c in range(f):
        s[c] += x[c] * g[c]
        a, b = x[f + c] * g[f + c], x[2 * f + c] * g[2 * f + c]
        t[c] += a * u0 + b * v[c]
        t[f + c] += a * u1 + b * v[f + c]
        t[2 * f + c] += a * u2 + b * v[2 * f + c]


@inner
def _sides(a, k, other, back, source, target, unit):  # type: ignore
    """Who hears whom by this pair of a's, and in which direction: there, and back; -1 is nobody."""
    b, u0, u1, u2 = other[k], unit[k, 0], unit[k, 1], unit[k, 2]
    hears = target[b] if back[k] >= 0 else -1
    return (target[a], source[b], u0, u1, u2), (hears, source[a], -u0, -u1, -u2)


@inner
def _forward(  # type: ignore
    f, begin, end, start, other, back, source, target, unit, basis, window, w, x, v, s, t
):
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
                    _hear(f, s[i], t[i], x[j], g, u0, u1, u2)
                else:
                    _hear_all(f, s[i], t[i], x[j], g, v[j], u0, u1, u2)


@inner
def _gradients(f, ds, dt, x, v, g, m, u0, u1, u2, dx, dv, q):  # type: ignore
    """Of x, v and g, added to; returns the gradients of u and, by g's slope m, of d."""
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
    """The gradient of u."""
    a0 = a1 = a2 = dt.dtype.type(0)  # a plain 0 would make it a sum in float64
    for c in range(f):
        a = x[f + c] * g[f + c]
        a0 += dt[c] * a
        a1 += dt[f + c] * a
        a2 += dt[2 * f + c] * a
    return a0, a1, a2


@inner
def _backward(  # type: ignore
    f, begin, end, start, other, there, back, moving, source, target,
    unit, length, basis, slope, window, w, x, v, ds, dt, dx, dv, dr, dw
):  # fmt: skip
    g, m = np.empty(3 * f, ds.dtype), np.zeros(3 * f, ds.dtype)
    q, none = np.zeros(3 * f, ds.dtype), np.zeros(3 * f, ds.dtype)
    spare = np.zeros((2, 3 * f), ds.dtype)  # for what is not wanted
    for a in range(begin, end):
        for k in range(start[a], start[a + 1]):
            d, sides = length[k], _sides(a, k, other, back, source, target, unit)
            if sides[0][0] < 0 and sides[1][0] < 0:
                continue
            geometry = len(dr) > 0 and moving[k]
            if geometry:
                _gates_and_slopes(f, g, m, basis[k], slope[k], window[k], w)
            else:
                _gates(f, g, basis[k], window[k], w)
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
                _outer(f, dw, basis[k], window[k], q)


# What changes along a direction. y is that of x, z of v, p of g and o of u; as each sum above is
# linear in each of these, it becomes the sum of itself with one replaced by its change, in turn.


@inner
def _changes(  # type: ignore
    f, ds, dt, x, y, v, z, g, m, gw, u0, u1, u2, o0, o1, o2, rate, s, t, dx, dv, q, qq
):
    """Of s, t and the gradients of x and v; and the gradients of m (q) and of g (qq). Added to."""
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
    """The gradients of d, by g and m, and of its rate, by p."""
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
    f, begin, end, start, other, there, back, moving, source, target,
    unit, length, basis, slope, window, w, x, v,
    ds, dt, curvature, at_r, at_w, at_x, at_v, to_s, to_t, to_r, to_x, to_v, to_w
):  # fmt: skip
    g, m, p = np.empty(3 * f, ds.dtype), np.empty(3 * f, ds.dtype), np.empty(3 * f, ds.dtype)
    # the gates' change with w, the slope of that, and the slope of m
    gw, mw, mm = np.zeros(3 * f, ds.dtype), np.zeros(3 * f, ds.dtype), np.empty(3 * f, ds.dtype)
    q, qq, none = np.zeros(3 * f, ds.dtype), np.zeros(3 * f, ds.dtype), np.zeros(3 * f, ds.dtype)
    spare = np.zeros((2, 3 * f), ds.dtype)  # for what is not wanted
    zero = ds.dtype.type(0)
    for a in range(begin, end):
        for k in range(start[a], start[a + 1]):
            d, sides = length[k], _sides(a, k, other, back, source, target, unit)
            if sides[0][0] < 0 and sides[1][0] < 0:
                continue
            _gates_and_slopes(f, g, m, basis[k], slope[k], window[k], w)
            geometry = len(to_r) > 0 and moving[k]
            if geometry:
                _gates(f, mm, curvature[k], window[k], w)
                if len(at_w) > 0:
                    _gates_and_slopes(f, gw, mw, basis[k], slope[k], window[k], at_w)
            elif len(at_w) > 0:
                _gates(f, gw, basis[k], window[k], at_w)
            q[:] = 0
            qq[:] = 0
            for e, (i, j, u0, u1, u2) in ((there[k], sides[0]), (back[k], sides[1])):
                if i < 0:
                    continue
                xj, y, s, t = x[j], at_x[j], ds[i], dt[i]
                vj, z = v[j] if len(v) > 0 else none, at_v[j] if len(at_v) > 0 else none
                rate = o0 = o1 = o2 = zero  # how the edge's length and direction change
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
                _outer_both(f, to_w, basis[k], qq, slope[k], q, window[k])


# The kernels proper. Numba compiles each for the usual number of features and for any other.


@kernel
def forward(  # type: ignore
    begin, end, start, other, back, source, target, unit, basis, window, w, x, v, s, t
):
    """Adds to s and t, for the pairs of atoms from `begin` to `end`.

    v is empty where vectors are zero.
    """
    given = (start, other, back, source, target, unit, basis, window, w, x, v, s, t)
    if s.shape[1] == SPECIALIZED_FEATURES:
        _forward(SPECIALIZED_FEATURES, begin, end, *given)
    else:
        _forward(s.shape[1], begin, end, *given)


@kernel
def backward(  # type: ignore
    begin, end, start, other, there, back, moving, source, target,
    unit, length, basis, slope, window, w, x, v, ds, dt, dx, dv, dr, dw
):  # fmt: skip
    """Gradients, added to those of x, v and w, and set for the edges' vectors (dr).

    An empty array is not needed. dr is not written for edges that are constant or not received.
    """
    pairs = (start, other, there, back, moving, source, target, unit, length, basis, slope, window)
    if ds.shape[1] == SPECIALIZED_FEATURES:
        _backward(SPECIALIZED_FEATURES, begin, end, *pairs, w, x, v, ds, dt, dx, dv, dr, dw)
    else:
        _backward(ds.shape[1], begin, end, *pairs, w, x, v, ds, dt, dx, dv, dr, dw)


@kernel
def backward_of_backward(  # type: ignore
    begin, end, start, other, there, back, moving, source, target,
    unit, length, basis, slope, window, w, x, v,
    ds, dt, curvature, at_r, at_w, at_x, at_v, to_s, to_t, to_r, to_x, to_v, to_w
):  # fmt: skip
    """Gradients of the sum of at_r dr + at_w dw + at_x dx + at_v dv, dr and others of `backward`.

    That sum is how  ds s + dt t  changes along at_r, at_w, at_x and at_v. to_r is set and the
    others (to_s and to_t are by ds and dt) are added to; an empty one is not wanted. at_r, at_w and
    at_v may be empty: zero. curvature is read for to_r alone.
    """
    pairs = (start, other, there, back, moving, source, target, unit, length, basis, slope, window)
    given = (w, x, v, ds, dt, curvature, at_r, at_w, at_x, at_v)
    out = (to_s, to_t, to_r, to_x, to_v, to_w)
    if ds.shape[1] == SPECIALIZED_FEATURES:
        _backward_of_backward(SPECIALIZED_FEATURES, begin, end, *pairs, *given, *out)
    else:
        _backward_of_backward(ds.shape[1], begin, end, *pairs, *given, *out)
