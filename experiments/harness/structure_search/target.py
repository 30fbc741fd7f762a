"""The one structure that is looked for, among what is generated and what a search finds."""

from pathlib import Path

from ase import Atoms

from sdedata import shipped
from sdedata.composition import formula
from sdedata.files import read_frames
from sdedata.frames import require_structure
from sdedata.frozen import frozen_mask
from sdedata.similarity import on_one_template


def target_structure(name: str, example: Atoms) -> Atoms:
    """Read the structure that is looked for: a shipped set or a file, which hold one.

    Raises:
        ValueError: for several structures, or another cell, substrate or overlayer than the
            example's.
    """
    frames = shipped.load(name).to_atoms() if name in shipped.names() else read_frames(Path(name))
    if len(frames) != 1:
        raise ValueError(f"target={name} holds {len(frames)} structures: a target is one")
    (target,) = frames
    require_structure(target, f"target={name}")
    if not on_one_template(example, target):
        raise ValueError(f"target={name} has another cell or substrate")
    wanted, found = (formula(a.numbers[~frozen_mask(a)]) for a in (example, target))
    if wanted != found:
        raise ValueError(f"target={name} is {found}, not {wanted}")
    return target
