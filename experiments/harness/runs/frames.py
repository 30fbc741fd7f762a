"""Structures of a run folder: read whole, and with what each is known by."""

import re
from collections.abc import Callable, Iterator
from heapq import nsmallest
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import numpy as np

from experiments.harness.runs.atomic_io import replacing, whole_frames
from experiments.harness.runs.records import refuse

REMEDY = "delete the file and repeat the command, which makes what is missing again"
NEEDED: dict[str, tuple[str, ...]] = {
    "diffused": ("index",), "generated": ("index", "finite"), "path": ("index", "t"),
    "labelled": ("index",), "returned": ("index",), "reference": ("index", "energy"),
    "target": ("index", "energy"), "lowest": ("index", "energy"),
    "evaluated": ("index", "energy"), "relaxed": ("index", "energy"),
}  # fmt: skip
"""By the name of a file: what each of its frames has in `info`, and whether it has an energy."""

ENERGY = re.compile(rb"(?:^|\s)energy=(\S+)")

KINDS = {"index": "i", "finite": "b", "t": "if", "energy": "if"}
"""Kinds of these numbers, as NumPy calls them."""


def iterate_frames(path: Path) -> Iterator[Any]:
    """Yield the whole frames of an extxyz file as ASE atoms, one in memory at a time.

    There are none if the file is missing. Raises ValueError, in one sentence, for a frame that
    cannot be read, or lacks what `NEEDED` lists.
    """
    if not path.is_file():
        return
    with open(path, "rb") as file:
        for number, text in enumerate(whole_frames(file)):
            yield _parsed(path, number, text)


def lowest_frames(path: Path, count: int) -> list[Any]:
    """Return the frames of an extxyz file with the lowest energies, the lowest first.

    Only these are parsed, which is slow: energies are read off the comments. Errors as in
    `iterate_frames`.
    """
    if not path.is_file():
        return []
    with open(path, "rb") as file:
        numbered = ((_energy(text), n, text) for n, text in enumerate(whole_frames(file)))
        return [_parsed(path, n, text) for _, n, text in nsmallest(count, numbered)]


def _energy(frame: bytes) -> float:
    """Return the energy in a frame's comment, eV; the lowest number if there is none."""
    found = ENERGY.search(frame.split(b"\n", 2)[1])
    try:
        energy = float(found[1]) if found else -np.inf
    except ValueError:
        energy = -np.inf
    return np.inf if np.isnan(energy) else energy


def sort_frames(path: Path, key: Callable[[Any], Any]) -> None:
    """Sort the frames of an extxyz file by `key`, and keep of those with equal keys the first.

    They stay as they are written, byte for byte. Errors as in `iterate_frames`.
    """
    places: dict[Any, tuple[int, int]] = {}
    with open(path, "rb") as file:
        begin = 0
        for number, text in enumerate(whole_frames(file)):
            places.setdefault(key(_parsed(path, number, text)), (begin, len(text)))
            begin += len(text)
        with replacing(path) as part, open(part, "wb") as sorted_file:
            for _, (begin, length) in sorted(places.items()):
                file.seek(begin)
                sorted_file.write(file.read(length))


def _parsed(path: Path, number: int, text: bytes) -> Any:
    from ase.io import read

    from sdedata.declared import declared_frames

    _, broken = declared_frames(BytesIO(text), len(text))
    if broken is not None:
        refuse(path, f"frame {number} {broken.removeprefix('frame 0 ')}", REMEDY)
    try:
        atoms = read(StringIO(text.decode()), 0, format="extxyz")
    except Exception as error:  # ASE raises nearly any exception for a broken file
        why = str(error) or type(error).__name__
        refuse(path, f"cannot be read in frame {number}: {why:.200}", REMEDY)
    fault = _fault(atoms, NEEDED.get(path.stem, ()))
    if fault is not None:
        refuse(path, f"is wrong in frame {number}: {fault}", REMEDY)
    return atoms


def _fault(atoms: Any, needed: tuple[str, ...]) -> str | None:
    """What is wrong with a frame; None if nothing is."""
    found = atoms.info | ({} if atoms.calc is None else atoms.calc.results)
    missing = [name for name in needed if name not in found]
    if missing:
        return f"it has no {missing[0]}"
    for name, kinds in KINDS.items():
        value = found.get(name, 0 if name != "finite" else True)
        if np.ndim(value) or np.asarray(value).dtype.kind not in kinds:
            return f"{name} is {value!r:.60}"
    if found.get("index", 0) < 0:
        return f"index is {found['index']}"
    if not (np.isfinite(atoms.cell.array).all() and len(atoms)):
        return "it has no atoms, or a cell that is not finite"
    if (atoms.pbc & ~atoms.cell.any(1)).any():
        return "it is periodic along a cell vector that it lacks"
    if "energy" in needed and not np.isfinite(atoms.positions).all():  # ASE hides its energy
        return "its positions are not all finite"
    forces = np.asarray(found.get("forces", np.zeros((len(atoms), 3))))
    if forces.shape != (len(atoms), 3) or forces.dtype.kind not in "if":
        return "its forces are not three numbers for each atom"
    return None
