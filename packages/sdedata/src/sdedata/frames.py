"""Frames of users: their labels, and what makes a frame invalid for training."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from ase import Atoms

from sdedata.arrays import MOST_NUMBER
from sdedata.frozen import frozen_mask, listed, partly_held
from sdedata.surface import require_lengths, upright

TOUCHING = 0.3
"""Å: no two nuclei of a real structure are closer."""
MOST_INVALID = 0.25
"""Share of the frames of a file; where more are invalid, the fault is not of single frames."""


def labels(atoms: Atoms) -> dict[str, Any]:
    """Return the calculator's results for the present positions, without constraints applied.

    Computes nothing; results of older positions are ignored.
    """
    if atoms.calc is None or atoms.calc.check_state(atoms):
        return {}
    return dict(atoms.calc.results)


def numbers(atoms: Atoms) -> Mapping[str, Any]:
    """Return what a structure holds that may be its energy: numbers of `info`, results of ASE."""
    found = labels(atoms) | atoms.info
    return {str(key): value for key, value in found.items() if _is_number(value)}


def vectors(atoms: Atoms) -> Mapping[str, Any]:
    """Return what a structure holds that may be its forces: three numbers for each atom."""
    found = labels(atoms) | {k: v for k, v in atoms.arrays.items() if k != "positions"}
    return {
        str(key): value
        for key, value in found.items()
        if isinstance(value, np.ndarray)
        and value.shape == (len(atoms), 3)
        and value.dtype.kind in "if"
    }


def _is_number(value: Any) -> bool:
    return np.ndim(value) == 0 and np.asarray(value).dtype.kind in "if"


def require_atoms(atoms: Atoms, where: str) -> None:
    """Raise ValueError, beginning with `where`, unless there are real atoms at places of their own.

    Refused are lengths that are none (`require_lengths`), dummy atoms, and atoms closer than
    `TOUCHING`.
    """
    from ase.neighborlist import neighbor_list  # brings scipy

    require_lengths(atoms, where)
    dummies = (atoms.numbers < 1) | (atoms.numbers > MOST_NUMBER)
    if dummies.any():
        names = ", ".join(map(str, np.flatnonzero(dummies)[:6]))
        raise ValueError(f"{where}: dummy atoms (X, no element) at index {names}; remove them")
    one, two, apart = neighbor_list("ijd", atoms, TOUCHING)
    if len(one):
        k = int(apart.argmin())
        pair = f"{listed(atoms, [int(one[k])])} and {listed(atoms, [int(two[k])])}"
        raise ValueError(f"{where}: {pair} are at one place ({apart[k]:.2f} Å apart)")


def require_structure(atoms: Atoms, where: str) -> None:
    """Raise ValueError, beginning with `where`, unless atoms are at places of their own in a cell.

    A direction that is periodic needs a cell vector.
    """
    if any(p and not v.any() for p, v in zip(atoms.pbc, atoms.cell.array, strict=True)):
        raise ValueError(f"{where}: periodic along a direction without a cell vector")
    require_atoms(atoms, where)


def require_labelled_surface(atoms: Atoms, where: str) -> None:
    """Raise ValueError, beginning with `where`, unless the structure is valid for training.

    Required: atoms at places of their own, a surface with its normal along z (`surface.upright`),
    finite energy and forces, fixed atoms and, not below them, free ones.
    """
    slab = upright(atoms, where)
    # Positions first: NaN differs from itself, so that labels would seem to be of other positions.
    require_atoms(slab, where)
    found = labels(atoms)
    _refuse_other_names(atoms, found, where)
    energy_of(found, where)
    forces_of(found, len(atoms), where)
    frozen = frozen_mask(atoms)
    if not frozen.any():
        raise ValueError(f"{where}: no fixed atoms{_but_partly(atoms)}; {REMEDY}")
    if frozen.all():
        raise ValueError(f"{where}: no free atoms; leave the overlayer out of the constraint")
    if slab.positions[~frozen, 2].max() < slab.positions[frozen, 2].min():
        raise ValueError(
            f"{where}: the free atoms lie below the fixed ones; turn the slab over, so that the "
            "surface points along z"
        )


def _refuse_other_names(atoms: Atoms, found: Mapping[str, Any], where: str) -> None:
    """Raise ValueError if energy or forces are missing under this name, and there under another."""
    for label, named in (("energy", numbers(atoms)), ("forces", vectors(atoms))):
        others = [name for name in named if label in name.lower()]
        if label not in found and others:
            raise ValueError(
                f"{where}: no {label}, but {', '.join(others)}; name what is meant: "
                f"check --{OPTIONS[label]} {others[0]}, data.keys.{label}={others[0]}"
            )


OPTIONS = {"energy": "energy-key", "forces": "forces-key"}


REMEDY = (
    "put a FixAtoms constraint on the substrate, or name a file of the same atoms that has it, "
    "such as the program's input: check --constraints FILE, data.constraints=FILE"
)


HAVE_IT = "give the program's output that has them, such as VASP's vasprun.xml or OUTCAR"


def _but_partly(atoms: Atoms) -> str:
    partly = partly_held(atoms)
    return f" ({listed(atoms, partly)}: held along some axes only)" if partly.any() else ""


def energy_of(found: Mapping[str, Any], where: str) -> float:
    """Return the energy among results, eV; ValueError, beginning with `where`, if it is none."""
    if "energy" not in found:
        raise ValueError(
            f"{where}: no energy; {HAVE_IT}, or compute it and store it with the structure"
        )
    energy = found["energy"]
    try:
        if energy is None or np.ndim(energy) > 0:
            raise TypeError
        value = float(energy)
    except (TypeError, ValueError):
        raise ValueError(f"{where}: energy is {energy!r}, not a number") from None
    if not np.isfinite(value):
        raise ValueError(f"{where}: energy not finite")
    return value


def forces_of(found: Mapping[str, Any], n: int, where: str) -> np.ndarray:
    """Return the forces among results, (n, 3) in eV/Å; ValueError if they are none."""
    if "forces" not in found:
        raise ValueError(f"{where}: no forces; {HAVE_IT}, or compute them")
    try:
        forces = np.asarray(found["forces"], dtype=float).reshape(n, 3)
    except (TypeError, ValueError):
        raise ValueError(f"{where}: forces are not three numbers for each atom") from None
    if not np.isfinite(forces).all():
        raise ValueError(f"{where}: forces not finite")
    return forces


def digest(frames: Iterable[Atoms]) -> str:
    """Return a hash of elements, positions and cells (to 1e-4 Å), which all file formats share."""
    found = hashlib.sha256()
    for atoms in frames:
        found.update(atoms.numbers.astype("<i8").tobytes())
        for lengths in (atoms.positions, atoms.cell.array):
            found.update((lengths / 1e-4).round().astype("<i8").tobytes())
    return found.hexdigest()[:16]


def bad_frames(frames: Sequence[Atoms]) -> dict[int, str]:
    """Return index and reason of every frame that is invalid for training."""
    found = {}
    for i, atoms in enumerate(frames):
        try:
            require_labelled_surface(atoms, f"frame {i}")
        except ValueError as error:
            found[i] = str(error)
    return found


def valid_frames(
    frames: Sequence[Atoms], source: str, most_invalid: float
) -> tuple[list[Atoms], list[str]]:
    """Leave out the invalid frames of a file; also return what to report about that.

    ValueError, naming `source` and the first invalid frame, if there are none, or if a larger share
    of them than `most_invalid` is invalid.
    """
    if not frames:
        raise ValueError(f"{source} holds no structures")
    bad = bad_frames(frames)
    if not bad:
        return list(frames), []
    first = f"{source}, {min(bad.items())[1]}"
    check = f"{len(bad)} of {len(frames)} frames are invalid: `python -m sdedata check {source}`"
    if len(bad) > most_invalid * len(frames):
        raise ValueError(first + (f"; {check} lists them" if len(bad) > 1 else ""))
    others = f", with others: {check} lists them" if len(bad) > 1 else ""
    return [a for i, a in enumerate(frames) if i not in bad], [f"{first}; left out{others}"]


def remarks(frames: Sequence[Atoms], source: str) -> list[str]:
    """Describe atoms that are held along some axes only; nothing if there are none."""
    partly = {i: held for i, atoms in enumerate(frames) if (held := partly_held(atoms)).any()}
    if not partly:
        return []
    i, held = next(iter(partly.items()))
    return [
        f"{source}, frame {i}: {listed(frames[i], held)} held along some axes only, taken as free; "
        f"likewise in {len(partly)} of {len(frames)} frames"
    ]
