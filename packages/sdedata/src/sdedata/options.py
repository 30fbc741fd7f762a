"""Options of command lines that read files; nothing here takes long to import."""

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sdedata.reading import Reading


NAMES = ("surface_index", "index")
"""Entries of `info` that name the frames of one relaxation; the first present."""


def add_files(parser: ArgumentParser) -> None:
    """Add the files of users, and the options of how they are read."""
    parser.add_argument(
        "files", metavar="FILE", type=Path, nargs="+",
        help=f"any file that ASE reads; relaxations are named by {' or '.join(NAMES)} in the info "
        "of frames; else each of several files is one, and in a single file frames that continue "
        "each other are one",
    )  # fmt: skip
    add_options(parser)


def add_good(parser: ArgumentParser) -> None:
    """Add where `check` writes what is valid."""
    parser.add_argument(
        "--good", metavar="FILE", type=Path, help="write the valid frames to this file"
    )


def add_options(parser: ArgumentParser) -> None:
    """Add the options of a command line that `from_options` reads."""
    parser.add_argument("--energy-key", metavar="NAME", help="the energies' name, as REF_energy")
    parser.add_argument("--forces-key", metavar="NAME", help="the forces' name, as REF_forces")
    parser.add_argument(
        "--constraints", metavar="FILE", type=Path,
        help="the same atoms with the constraints of all frames, where the file has none, as those "
        "of Quantum ESPRESSO and LAMMPS",
    )  # fmt: skip


def from_options(parsed: Namespace) -> "Reading":
    """Return how a command line says that its files are read."""
    from sdedata.reading import Reading

    return Reading(parsed.energy_key, parsed.forces_key, parsed.constraints)
