"""Structures that a user gives without labels, to be computed or written: which ones hold atoms."""

import logging
from pathlib import Path

from ase import Atoms

from sdedata.files import read_frames
from sdedata.frames import MOST_INVALID, require_structure
from sdedata.reading import AS_WRITTEN, Reading

log = logging.getLogger(__name__)


def read_given(source: Path, reading: Reading = AS_WRITTEN) -> dict[int, Atoms]:
    """Read the frames of a file that hold a structure, by their numbers; log the others.

    Raises ValueError, naming the first of these, if they are more than a few.
    """
    frames = read_frames(source, reading)
    good, first = {}, ""
    for number, atoms in enumerate(frames):
        try:
            require_structure(atoms, f"{source}, frame {number}")
        except ValueError as error:
            first = first or str(error)
        else:
            good[number] = atoms
    left_out = len(frames) - len(good)
    if left_out > MOST_INVALID * len(frames):
        raise ValueError(first)
    if first:
        log.info(f"{first}; left out, {left_out} of {len(frames)} frames in all")
    return good
