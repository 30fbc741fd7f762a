"""What the arrays of a structure set may hold: kinds, ranks, sizes and ranges."""

from collections.abc import Mapping
from typing import Any

import numpy as np

PER_ATOM = ("numbers", "positions", "fixed", "forces")
PER_STRUCTURE = ("counts", "cell", "pbc", "energy")
SHAPES: dict[str, tuple[int, ...]] = {
    "counts": (), "numbers": (), "positions": (3,), "fixed": (), "forces": (3,), "cell": (3, 3),
    "pbc": (3,), "energy": (),
}  # fmt: skip
"""Of what each structure or atom has."""
TYPES: dict[str, type] = {"counts": int, "numbers": int, "fixed": bool, "pbc": bool}
"""Of the arrays that do not hold real numbers."""
MOST_NUMBER = 118
"""The highest atomic number that has an element."""
FARTHEST = 1e6
"""Å: longer lengths are no structure's."""


def valid_arrays(given: Mapping[str, Any], info: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return the arrays of a set with their types, positions and forces rounded (`on_grid`).

    Raises ValueError for one that holds no numbers, has another rank, has values out of range (no
    atoms, no element, not finite, farther than `FARTHEST`), or does not fit to the others.
    """
    arrays = {name: _numbers(name, given[name]) for name in (*PER_STRUCTURE, *PER_ATOM)}
    arrays |= {name: on_grid(arrays[name]) for name in ("positions", "forces")}
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise ValueError(f"{name} of a structure set are not all finite")
    _require_range("counts", arrays["counts"], 1, len(arrays["numbers"]))
    _require_range("numbers", arrays["numbers"], 1, MOST_NUMBER)
    for name in ("positions", "cell"):
        _require_range(name, arrays[name], -FARTHEST, FARTHEST)
    for key, values in info.items():
        if np.ndim(values) != 1 or np.asarray(values).dtype.kind not in "biufU":
            raise ValueError(f"info {key!r} of a structure set is not one value for each structure")
    lengths = [len(arrays[name]) for name in PER_STRUCTURE] + list(map(len, info.values()))
    atoms = arrays["counts"].sum()
    if len(set(lengths)) > 1 or any(len(arrays[name]) != atoms for name in PER_ATOM):
        raise ValueError("the arrays of a structure set differ in their number of structures")
    return arrays


def on_grid(values: Any) -> np.ndarray:
    """Round to single precision and 1e-5; idempotent for values of any size."""
    with np.errstate(over="ignore"):  # becomes infinite, which is refused
        return np.round(np.asarray(values, dtype=np.float32).astype(float), 5)


def _numbers(name: str, values: Any) -> np.ndarray:
    """Return an array of the type and the shape that its name stands for."""
    array, kind = np.asarray(values), TYPES.get(name, float)
    kinds = {int: "iu", bool: "b", float: "iuf"}[kind]
    if array.size and array.dtype.kind not in kinds:
        raise ValueError(f"{name} of a structure set are {array.dtype}, not {kind.__name__}")
    if array.ndim != 1 + len(SHAPES[name]) or array.shape[1:] != SHAPES[name]:
        raise ValueError(
            f"{name} of a structure set have the shape {array.shape}, not {('n', *SHAPES[name])}"
        )
    return array.astype(kind)


def _require_range(name: str, values: np.ndarray, low: int | float, high: int | float) -> None:
    outside = (values < low) | (values > high)
    if outside.any():
        raise ValueError(
            f"{name} of a structure set are from {low:g} to {high:g}, not {values[outside][0]}"
        )
