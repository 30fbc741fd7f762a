"""Structures of a run folder: read whole, and with what each is known by."""

from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import numpy as np

from experiments.harness.runs.atomic_io import last_whole_frame
from experiments.harness.runs.records import refuse

REMEDY = "delete the file and repeat the command, which makes what is missing again"
NEEDED: dict[str, tuple[str, ...]] = {
    "diffused": ("index",), "generated": ("index", "finite"), "path": ("index", "t"),
    "labelled": ("index",), "returned": ("index",), "reference": ("index", "energy"),
    "target": ("index", "energy"), "lowest": ("index", "energy"),
    "evaluated": ("index", "energy"), "relaxed": ("index", "energy"),
}  # fmt: skip
"""By the name of a file: what each of its frames has in `info`, and whether it has an energy."""

KINDS = {"index": "i", "finite": "b", "t": "if", "energy": "if"}
"""Kinds of these numbers, as NumPy calls them."""


def parse_frames(path: Path, first: int | None = None) -> list[Any]:
    """Read the first, or all, whole frames of an extxyz file as ASE atoms; none if it is missing.

    Raises ValueError, in one sentence, for a frame that lacks what `NEEDED` lists.
    """
    from ase.io import read

    from sdedata.declared import declared_frames

    content = path.read_bytes() if path.is_file() else b""
    whole = content[: last_whole_frame(content)]
    if not whole:
        return []
    _, broken = declared_frames(BytesIO(whole), len(whole))
    if broken is not None:
        refuse(path, broken, REMEDY)
    try:
        some = ":" if first is None else f":{first}"
        frames = list(read(StringIO(whole.decode()), some, format="extxyz"))
    except Exception as error:  # ASE raises nearly any exception for a broken file
        refuse(path, f"cannot be read: {str(error) or type(error).__name__:.200}", REMEDY)
    for number, atoms in enumerate(frames):
        fault = _fault(atoms, NEEDED.get(path.stem, ()))
        if fault is not None:
            refuse(path, f"is wrong in frame {number}: {fault}", REMEDY)
    return frames


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
    forces = np.asarray(found.get("forces", np.zeros((len(atoms), 3))))
    if forces.shape != (len(atoms), 3) or forces.dtype.kind not in "if":
        return "its forces are not three numbers for each atom"
    return None
