"""The surface's frame of reference: a and b in the x-y plane, z the normal, vacuum above.

One rule for `check`, `train`, `sample` and references: what is a lattice vector away is moved, what
is oriented otherwise is refused with its cause.
"""

import numpy as np
from ase import Atoms
from jaxtyping import Float

from sdedata.arrays import FARTHEST
from sdedata.frozen import frozen_mask

FLAT = 1e-3
"""Å, up to which z components of the first two cell vectors are rounding errors."""
VACUUM = 5.0
"""Å of empty space along a lattice vector that no solid has between its planes."""
AXES = ("first", "second", "third")


def upright(atoms: Atoms, where: str) -> Atoms:
    """Copy a slab, unwrapped along z, with a and b exactly in the x-y plane; without labels.

    Atoms on the other side of the largest gap along z are moved by the third cell vector, the fewer
    ones; the slab is then in one piece. Raises ValueError, beginning with `where`, for lengths that
    are none (`require_lengths`), for a cell that spans no plane, is not periodic there, stands
    otherwise than z, or has its vacuum elsewhere, and for a slab that its boundary cuts although z
    is not periodic.
    """
    require_lengths(atoms, where)
    _require_cell(atoms, where)
    slab = atoms.copy()
    slab.cell[:2, 2] = 0.0
    if not _has_third_vector(slab):
        return slab
    if slab.pbc[2]:
        _refuse_vacuum_in_plane(slab, where)
        slab.positions = _unwrapped(slab)
    else:
        _refuse_cut_slab(slab, where)
    return slab


def with_third_vector(atoms: Atoms, vacuum: float = 30.0) -> Atoms:
    """Return the structure with a third cell vector: a copy with one along z where it has none.

    Many calculators need it, although nothing depends on its length where z is not periodic;
    `vacuum` (Å) is what it leaves above the structure.
    """
    cell = np.array(atoms.cell)
    if atoms.pbc[2] or np.abs(cell[2]).max() > 1e-6 or not len(atoms):
        return atoms
    completed = atoms.copy()
    completed.calc = atoms.calc
    cell[2] = [0.0, 0.0, np.ptp(atoms.positions[:, 2]) + vacuum]
    completed.cell = cell
    return completed


def require_lengths(atoms: Atoms, where: str) -> None:
    """Raise ValueError, beginning with `where`, for lengths not finite or beyond `FARTHEST`."""
    for what, lengths in (("positions are", atoms.positions), ("the cell is", atoms.cell.array)):
        if not np.isfinite(lengths).all():
            raise ValueError(f"{where}: {what} not finite")
        if np.abs(lengths).max(initial=0.0) > FARTHEST:
            raise ValueError(f"{where}: {what} of more than {FARTHEST:,.0f} Å")


def _require_cell(atoms: Atoms, where: str) -> None:
    cell = np.asarray(atoms.cell)
    flat = np.abs(cell[:2, 2]).max() <= FLAT
    if flat and not abs(np.linalg.det(cell[:2, :2])) > 1e-3:
        raise ValueError(f"{where}: no cell in the plane; set the first two cell vectors")
    if not flat:
        _refuse_vacuum_in_plane(atoms, where)
        worst = float(np.abs(cell[:2, 2]).max())
        raise ValueError(
            f"{where}: the first two cell vectors do not lie in the x-y plane (z up to {worst:.2g} "
            "Å); rotate the structure so that z is the surface normal"
        )
    if not atoms.pbc[:2].all():
        raise ValueError(f"{where}: not periodic in the plane; set pbc to True along x and y")
    if _has_third_vector(atoms) and cell[2, 2] < -FLAT:
        raise ValueError(
            f"{where}: the third cell vector points down (z = {cell[2, 2]:.2f} Å); reverse it: "
            "atoms.cell[2] *= -1"
        )
    if atoms.pbc[2] and not cell[2, 2] > FLAT:
        raise ValueError(
            f"{where}: periodic along z without a cell vector; set pbc to False or add one"
        )


def _has_third_vector(atoms: Atoms) -> bool:
    return bool(np.linalg.norm(atoms.cell[2]) > FLAT)


def gaps(atoms: Atoms) -> Float[np.ndarray, " 3"]:
    """Return the widest empty layer perpendicular to each pair of lattice vectors, Å.

    Along the first, second and third vector; infinite where the structure is not periodic.
    """
    cell = atoms.cell.complete()
    spacings = 1.0 / np.linalg.norm(cell.reciprocal(), axis=1)
    fractions = np.sort(cell.scaled_positions(atoms.positions) % 1.0, axis=0)
    steps = np.diff(fractions, axis=0, append=fractions[:1] + 1.0)
    return np.where(atoms.pbc, steps.max(axis=0) * spacings, np.inf)


def _refuse_vacuum_in_plane(atoms: Atoms, where: str) -> None:
    if abs(np.linalg.det(atoms.cell.complete())) < 1e-3:
        return
    empty = gaps(atoms)
    axis = int(np.argmax(empty))
    if axis < 2 and empty[axis] > VACUUM:
        raise ValueError(
            f"{where}: the vacuum ({empty[axis]:.1f} Å) lies along the {AXES[axis]} cell vector, "
            "not along the third; rotate the structure so that z is the surface normal"
        )


def _refuse_cut_slab(atoms: Atoms, where: str) -> None:
    """Raise ValueError for vacuum below frozen atoms, of which a part was wrapped to the bottom."""
    frozen = frozen_mask(atoms)
    substrate = atoms.positions[frozen if frozen.any() else slice(None), 2]
    z = np.sort(atoms.positions[:, 2])
    below = z[:-1] < substrate.max(initial=-np.inf)
    widest = float(np.diff(z)[below].max(initial=0.0))
    if widest > VACUUM:
        raise ValueError(
            f"{where}: {widest:.1f} Å of vacuum lie inside the slab: the cell's boundary cuts it, "
            "and z is not periodic; set pbc to True along z, or move the upper part by -cell[2]"
        )


def _unwrapped(atoms: Atoms) -> Float[np.ndarray, "n 3"]:
    """Move atoms by the third cell vector so that none is beyond the vacuum along z."""
    height = float(atoms.cell[2, 2])
    z = atoms.positions[:, 2] / height
    ascending = np.sort(z % 1.0)
    steps = np.diff(ascending, append=ascending[0] + 1.0)
    if steps.max() * height < VACUUM:
        return atoms.positions
    cut = ascending[steps.argmax()] + 0.5 * steps.max()  # the middle of the gap
    turns = np.floor(z - cut)
    values, counts = np.unique(turns, return_counts=True)
    turns -= values[counts.argmax()]  # most atoms stay
    return atoms.positions - turns[:, None] * atoms.cell[2]
