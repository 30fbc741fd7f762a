"""What an extxyz file declares, held against its size before any of it is read.

A reader that believes a count of 10⁹ atoms, or of columns, is busy for minutes or out of memory.
"""

import re
from collections.abc import Sequence
from io import BufferedIOBase

LONGEST = 1_000_000
"""Bytes of a line."""
COLUMNS = re.compile(rb":([RISL]):([^:\s\"']*)")
"""Type and number of the columns of a property."""


def declared_frames(file: BufferedIOBase, size: int) -> tuple[int, str | None]:
    """Find the end of the frames before the first that declares more than the file has.

    Args:
        file: at its beginning.
        size: of the file, bytes.

    Returns the place of that end, and what is wrong there: None if all atoms and columns are there.
    A line that is no count is the reader's to report.
    """
    frame, end = 0, 0
    try:
        while line := _line(file):
            count = (line.split() or [b""])[0]
            if not count.isdigit():
                break
            left = size - file.tell()
            if len(count) > 12 or 2 * int(count) > left:  # a line has a byte and its end
                shown = count.decode() if len(count) <= 12 else f"a number of {len(count)} digits"
                raise ValueError(f"declares {shown} atoms, and {left} bytes are left")
            _skip(file, int(count))
            frame, end = frame + 1, file.tell()
    except ValueError as error:
        return end, f"frame {frame} {error}"
    return size, None


def _skip(file: BufferedIOBase, atoms: int) -> None:
    """Read over a frame; ValueError if an atom's line has fewer columns than are declared."""
    declared = [number for _, number in COLUMNS.findall(_line(file))]
    for k in range(atoms):
        columns = len(_line(file).split())
        if k == 0 and declared and not _fits(declared, columns):
            numbers = " + ".join(n[:12].decode(errors="replace") or "?" for n in declared)
            raise ValueError(f"declares {numbers} columns, an atom has {columns}")


def _fits(declared: Sequence[bytes], columns: int) -> bool:
    return all(n.isdigit() and len(n) < 6 for n in declared) and sum(map(int, declared)) <= columns


def _line(file: BufferedIOBase) -> bytes:
    line = file.readline(LONGEST + 1)
    if len(line) > LONGEST:
        raise ValueError(f"has a line of more than {LONGEST} bytes")
    return line
