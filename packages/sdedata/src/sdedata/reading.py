"""How a file is read that names its labels otherwise, or does not say which atoms are held."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from sdedata.frames import labels, numbers, vectors

Lookup = Callable[[Atoms], Mapping[str, Any]]


@dataclass(frozen=True)
class Reading:
    """Where labels and constraints of a file are, if not where ASE finds them."""

    energy: str | None = None
    """Entry of `info`, or result of ASE, that is the energy (eV), such as "REF_energy"."""
    forces: str | None = None
    """Array per atom, or result of ASE, that holds the forces (eV/Å), such as "REF_forces"."""
    constraints: str | Path | None = None
    """A file of the same atoms whose constraints are those of every frame."""

    def fingerprint(self) -> bytes:
        """Return what differs where files of the same content are read otherwise; empty by default.

        OSError if the file of constraints cannot be read.
        """
        if self == AS_WRITTEN:
            return b""
        held = b"" if self.constraints is None else Path(self.constraints).read_bytes()
        return repr((self.energy, self.forces)).encode() + held

    def apply(self, frames: Sequence[Atoms], path: Path) -> None:
        """Set labels and constraints of the frames of a file as this says.

        Raises ValueError, naming what the file holds, for a name that is in no frame, and for
        constraints of other atoms.
        """
        if self.constraints is not None:
            _constrain(frames, path, Path(self.constraints))
        sources: tuple[tuple[str, str | None, Lookup], ...] = (
            ("energy", self.energy, numbers),
            ("forces", self.forces, vectors),
        )
        wanted = [(label, key, lookup) for label, key, lookup in sources if key]
        for label, key, lookup in wanted:
            _require(frames, path, label, key, lookup)
        for atoms in frames if wanted else ():
            _relabel(atoms, wanted)


AS_WRITTEN = Reading()


def _require(frames: Sequence[Atoms], path: Path, label: str, key: str, lookup: Lookup) -> None:
    held = [lookup(atoms) for atoms in frames]
    if not any(key in found for found in held):
        names = ", ".join(sorted({name for found in held for name in found})) or "nothing"
        raise ValueError(
            f"{path}: no frame has {label} called {key!r}; of that kind the file holds {names}"
        )


def _relabel(atoms: Atoms, wanted: Sequence[tuple[str, str, Lookup]]) -> None:
    """Make labels of what the file calls otherwise; without it, a structure has no such label."""
    results = labels(atoms)
    given = {label: lookup(atoms).get(key) for label, key, lookup in wanted}
    for _, key, _ in wanted:
        atoms.info.pop(key, None)
        atoms.arrays.pop(key, None)
    results |= given
    known = {name: value for name, value in results.items() if value is not None}
    atoms.calc = SinglePointCalculator(atoms, **known)


def _constrain(frames: Sequence[Atoms], path: Path, other: Path) -> None:
    from sdedata.files import read_frames

    holder = read_frames(other)[-1]
    if not holder.constraints:
        raise ValueError(f"{other} holds no constraints for {path}")
    for number, atoms in enumerate(frames):
        if not np.array_equal(atoms.numbers, holder.numbers):
            raise ValueError(
                f"{path}, frame {number}: {atoms.symbols} is not {holder.symbols}, in this order, "
                f"of which {other} says what is held"
            )
        atoms.set_constraint([constraint.copy() for constraint in holder.constraints])
