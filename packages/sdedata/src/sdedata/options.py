"""Options of command lines that read files; nothing here takes long to import."""

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sdedata.reading import Reading


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
