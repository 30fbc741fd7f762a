"""How the results of two run folders differ: structures, networks, metrics, file by file."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.geometry import find_mic

from experiments.harness.runs.run_folder import RunFolder
from experiments.harness.runs.strict_parsing import parse_json
from experiments.harness.training.checkpoint import load
from sdedata import StructureSet

MACHINE = re.compile(r"second|digest")
"""In names of values that depend on the machine, or stand for others that are compared."""
AXIS = "train/step"
ABSOLUTE = ("positions", "forces")
"""Of a structure: what is compared in Å and eV/Å, however large."""

Values = Mapping[str, Any]
"""What a file holds, by its place in the file: numbers, arrays, texts."""


@dataclass(frozen=True)
class Difference:
    """How a file that two run folders should have in common differs."""

    file: str
    same_bytes: bool
    largest: float
    """Largest difference of two numbers, relative where they are above 1, but for positions and
    forces; infinite if there is something that the other folder lacks, or has in another form."""
    where: str
    """The place of that difference."""


def folder_differences(one: Path, other: Path) -> list[Difference]:
    """Compare all results of two run folders; ValueError for a file that cannot be read."""
    files = {
        path.relative_to(folder).as_posix(): read
        for pattern, read in READERS.items()
        for folder in (one, other)
        for path in sorted(folder.glob(pattern))
    }
    return [_compared(file, read, one / file, other / file) for file, read in files.items()]


def _compared(file: str, read: Callable[[Path], Values], one: Path, other: Path) -> Difference:
    if not (one.is_file() and other.is_file()):
        missing = other if one.is_file() else one
        return Difference(file, False, np.inf, f"{missing} does not exist")
    if one.read_bytes() == other.read_bytes():
        return Difference(file, True, 0.0, "")
    return Difference(file, False, *values_difference(read(one), read(other)))


def values_difference(one: Values, other: Values) -> tuple[float, str]:
    """Return the largest difference of values with the same names, and the name that has it."""
    lonely = one.keys() ^ other.keys()
    if lonely:
        return np.inf, f"{min(lonely)} is in one of them alone"
    largest, where = 0.0, ""
    for name, value in one.items():
        found = difference(value, other[name], relative=name not in ABSOLUTE)
        if found > largest:
            largest, where = found, name
    return largest, where


def difference(one: Any, other: Any, relative: bool = True) -> float:
    """Return the largest difference of two arrays, if `relative` so where the second is above 1.

    Structures are compared up to lattice vectors. Not a number equals itself. Infinite for arrays
    of other shapes, and for other texts.
    """
    if isinstance(one, Atoms) and isinstance(other, Atoms):
        return values_difference(*_frame_values(one, other))[0]
    a, b = np.asarray(one), np.asarray(other)
    if a.shape != b.shape or {a.dtype.kind, b.dtype.kind} - set("biuf"):
        return 0.0 if np.array_equal(a, b) else np.inf
    a, b = a.astype(float), b.astype(float)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    a, b = a[~same], b[~same]
    with np.errstate(invalid="ignore"):
        apart = np.abs(a - b) / (np.maximum(1.0, np.abs(b)) if relative else 1.0)
    return float(np.nan_to_num(apart, nan=np.inf).max(initial=0.0))


def _frame_values(one: Atoms, other: Atoms) -> tuple[Values, Values]:
    """Return all that is known of two structures, positions as close as lattice vectors allow."""
    found = []
    for atoms in (one, other):
        labels = {} if atoms.calc is None else atoms.calc.results
        known = {"cell": atoms.cell.array, "pbc": atoms.pbc, **atoms.arrays, **atoms.info, **labels}
        found.append({name: v for name, v in known.items() if not MACHINE.search(name)})
    apart = other.positions - one.positions if len(one) == len(other) else np.zeros((0, 3))
    if len(apart) and np.abs(apart).max() > 1 and one.cell.rank == 3:
        found[1]["positions"] = one.positions + find_mic(apart, one.cell, one.pbc)[0]
    return found[0], found[1]


# What the files hold


def _extxyz(path: Path) -> Values:
    return _by_name(RunFolder(path.parents[1]).structures(path.stem))


def _npz(path: Path) -> Values:
    return _by_name(StructureSet.read(path).to_atoms())


def _by_name(frames: Sequence[Atoms]) -> Values:
    """Name structures by their index, and by t on the way; by number if that is not unique."""
    names = [
        f"structure {a.info.get('index')}" + (f", t={a.info['t']}" if "t" in a.info else "")
        for a in frames
    ]
    if len(set(names)) < len(names):
        names = [f"frame {number}" for number in range(len(frames))]
    return dict(zip(names, frames, strict=True))


def _model(path: Path) -> Values:
    """Return the weights of a model file, which must be of a finished training."""
    return {name: tensor.numpy() for name, tensor in load(path)["state"].items()}


def _json(path: Path) -> Values:
    return dict(_leaves(parse_json(path.read_bytes())))


def _csv(path: Path) -> Values:
    import pandas as pd  # here: it takes half a second

    table = pd.read_csv(path)
    return {
        f"{column} in row {row}": value
        for column in filter(lambda name: not MACHINE.search(name), table)
        for row, value in enumerate(table[column].tolist())
    }


def _rows(path: Path) -> Values:
    """Return what a training logged at each step, as it was the last time; other rows report what
    files hold."""
    rows = [row for row in RunFolder(path.parent).rows() if AXIS in row]
    last = {row[AXIS]: row for row in rows}
    return {
        f"{key} of step {step}": value
        for step, row in last.items()
        for key, value in row.items()
        if not MACHINE.search(key)
    }


def _leaves(tree: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of nested dicts and lists with their places."""
    if isinstance(tree, dict | list):
        items = tree.items() if isinstance(tree, dict) else enumerate(tree)
        for key, value in items:
            if not MACHINE.search(str(key)):
                yield from _leaves(value, f"{name}.{key}" if name else str(key))
    else:
        yield name, tree


READERS: dict[str, Callable[[Path], Values]] = {
    "structures/*.extxyz": _extxyz,
    "minima.npz": _npz,
    "frames.npz": _npz,
    "model.pt": _model,
    "metrics.jsonl": _rows,
    "summary.json": _json,
    "counts.json": _json,
    "ranking.json": _json,
    "*.csv": _csv,
}
"""The results in a run folder, and how they are read."""
