"""Neighbour search on a CPU, compiled by Numba; `sdedata.neighbours` defines the edges."""

import inspect
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

MARGIN = 1e-4
"""Margin of the range of lattice offsets (in cells) that covers rounding errors."""


def _kernel(function: Callable[..., Any]) -> Any:
    function = inspect.unwrap(function)  # the tests' type checks wrap it
    try:
        return njit(cache=True, nogil=True, error_model="numpy")(function)
    except RuntimeError:  # no writable cache: compile in each process
        return njit(nogil=True, error_model="numpy")(function)


@_kernel
def edges(  # type: ignore
    positions, cell, inverse, heights, pbc, first, is_receiver, cutoff, senders, receivers, offsets
):
    """Write all edges shorter than the cutoff (Å) whose receiver is marked; return their number.

    first (b + 1): index of each structure's first atom. Edges beyond the length of `senders` are
    counted but not written. Two atoms so far apart that rounding hides which image is near (half a
    million cells in float32) have no edge.
    """
    kind, found, capacity = positions.dtype.type, 0, len(senders)
    rounding = 16 * np.finfo(positions.dtype).eps
    square = kind(cutoff * cutoff)
    low, high = np.empty(3, np.int64), np.empty(3, np.int64)
    fractions = np.empty((len(positions), 3))
    for b in range(len(first) - 1):
        a = cell[b]
        begin, end = first[b], first[b + 1]
        for i in range(begin, end):
            for k in range(3):
                fractions[i, k] = (
                    positions[i, 0] * inverse[b, 0, k]
                    + positions[i, 1] * inverse[b, 1, k]
                    + positions[i, 2] * inverse[b, 2, k]
                )
        for i in range(begin, end):
            if not is_receiver[i] or not np.isfinite(fractions[i]).all():
                continue
            for j in range(begin, end):
                empty = False
                for k in range(3):
                    # images are at least as far apart as their fractions, times the cell's height
                    apart = fractions[j, k] - fractions[i, k]
                    if not abs(apart) * rounding < 1:  # false for NaN, too
                        empty = True
                        break
                    reach = cutoff / heights[b, k] + MARGIN + abs(apart) * rounding
                    if pbc[b, k]:
                        low[k], high[k] = math.ceil(-reach - apart), math.floor(reach - apart)
                        empty = low[k] > high[k]
                    else:
                        low[k] = high[k] = 0
                        empty = abs(apart) > reach
                    if empty:
                        break
                if empty:
                    continue
                # the same arithmetic as `edge_vectors`, bit for bit
                dx = positions[j, 0] - positions[i, 0]
                dy = positions[j, 1] - positions[i, 1]
                dz = positions[j, 2] - positions[i, 2]
                for p in range(low[0], high[0] + 1):
                    for q in range(low[1], high[1] + 1):
                        for r in range(low[2], high[2] + 1):
                            if i == j and p == 0 and q == 0 and r == 0:
                                continue
                            f, g, h = kind(p), kind(q), kind(r)
                            x = dx + (f * a[0, 0] + g * a[1, 0] + h * a[2, 0])
                            y = dy + (f * a[0, 1] + g * a[1, 1] + h * a[2, 1])
                            z = dz + (f * a[0, 2] + g * a[1, 2] + h * a[2, 2])
                            if x * x + y * y + z * z < square:
                                if found < capacity:
                                    senders[found], receivers[found] = j, i
                                    offsets[found, 0] = f
                                    offsets[found, 1] = g
                                    offsets[found, 2] = h
                                found += 1
    return found


@_kernel
def vectors(positions, cell, batch, senders, receivers, offsets, out):  # type: ignore
    """Write `sdedata.neighbours.edge_vectors` to `out`; IndexError for a missing atom."""
    n_atoms = len(positions)
    for e in range(len(senders)):
        i, j = receivers[e], senders[e]
        if not (0 <= i < n_atoms and 0 <= j < n_atoms and 0 <= batch[i] < len(cell)):
            raise IndexError("an edge's atoms are not those of the structures")
        a, n = cell[batch[i]], offsets[e]
        for k in range(3):
            out[e, k] = (positions[j, k] - positions[i, k]) + (
                n[0] * a[0, k] + n[1] * a[1, k] + n[2] * a[2, k]
            )
