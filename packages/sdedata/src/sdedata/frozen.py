"""Which atoms are frozen: those held along all three axes, by whichever constraints."""

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from jaxtyping import Bool, Float

HELD = 1e-6


def frozen_mask(atoms: Atoms) -> Bool[np.ndarray, " n"]:
    """Mark the atoms that constraints hold along three independent axes.

    Counted are FixAtoms, FixCartesian, FixScaled (selective dynamics), FixedPlane and FixedLine,
    alone or together; constraints of distances, angles or forces hold no atom.
    """
    return np.linalg.eigvalsh(_held(atoms))[:, 0] > HELD


def partly_held(atoms: Atoms) -> Bool[np.ndarray, " n"]:
    """Mark the atoms held along one or two axes only: these are not frozen."""
    spectrum = np.linalg.eigvalsh(_held(atoms))
    return (spectrum[:, 2] > HELD) & (spectrum[:, 0] <= HELD)


def only_frozen(atoms: Atoms) -> bool:
    """Test whether the constraints freeze atoms, and do nothing else."""
    return _hold_only(atoms) and not partly_held(atoms).any()


def _hold_only(atoms: Atoms) -> bool:
    from ase.constraints import FixAtoms, FixCartesian, FixedLine, FixedPlane, FixScaled

    kinds = (FixAtoms, FixCartesian, FixScaled, FixedPlane, FixedLine)
    return all(isinstance(constraint, kinds) for constraint in atoms.constraints)


def freeze(atoms: Atoms, frozen: Bool[np.ndarray, " n"]) -> None:
    """Replace all constraints by FixAtoms on these atoms, which every format of ASE keeps."""
    from ase.constraints import FixAtoms  # brings all of scipy.optimize

    atoms.set_constraint(FixAtoms(mask=frozen) if frozen.any() else None)


def cartesian(atoms: Atoms) -> bool:
    """Replace all constraints by FixAtoms and FixCartesian, which extxyz keeps.

    Returns whether that is the same; else what is held is less than before.
    """
    from ase.constraints import FixCartesian

    held, same = _held(atoms), _hold_only(atoms)
    partly = np.flatnonzero(partly_held(atoms))
    freeze(atoms, frozen_mask(atoms))
    for i in partly:
        axes = np.diagonal(held[i]) > HELD
        if np.abs(held[i] - np.diag(np.diagonal(held[i]))).max() > HELD:
            same = False
        else:
            atoms.constraints.append(FixCartesian([i], axes))
    return same


def hold_lattice(atoms: Atoms) -> Bool[np.ndarray, " n"]:
    """Replace all constraints by FixAtoms and FixScaled: selective dynamics of VASP.

    Returns the atoms that were held along other directions than those of lattice coordinates, and
    are less held now.
    """
    from ase.constraints import FixScaled

    held = _held(atoms)
    values, vectors = np.linalg.eigh(held)
    kept = vectors * (values > HELD)[:, None]  # an orthonormal basis of what is held
    reciprocal = atoms.cell.complete().reciprocal()
    axes = reciprocal / np.linalg.norm(reciprocal, axis=1, keepdims=True)
    flags = np.linalg.norm(axes @ kept, axis=2) > 1.0 - HELD
    frozen, partly = frozen_mask(atoms), partly_held(atoms)
    freeze(atoms, frozen)
    for i in np.flatnonzero(partly & flags.any(axis=1)):
        atoms.constraints.append(FixScaled([i], flags[i], atoms.cell))
    return partly & (flags.sum(axis=1) < (values > HELD).sum(axis=1))


def listed(atoms: Atoms, which: Bool[np.ndarray, " n"] | Sequence[int]) -> str:
    """Name atoms by element and index, at most six: "Pt 8, Pt 9, O 12"."""
    indices = np.flatnonzero(which) if np.asarray(which).dtype == bool else np.asarray(which)
    names = [f"{atoms.symbols[i]} {i}" for i in indices[:6]]
    return ", ".join(names) + (f" and {len(indices) - 6} more" if len(indices) > 6 else "")


def _held(atoms: Atoms) -> Float[np.ndarray, "n 3 3"]:
    """Sum over constraints, for each atom, the projectors on the directions that it is held in."""
    from ase.constraints import FixAtoms, FixCartesian, FixedLine, FixedPlane, FixScaled

    held = np.zeros((len(atoms), 3, 3))
    for constraint in atoms.constraints:
        match constraint:
            case FixAtoms():
                normals = np.eye(3)
            case FixCartesian():
                normals = np.eye(3)[constraint.mask]
            case FixScaled():  # a constant lattice coordinate: held along a reciprocal vector
                reciprocal = atoms.cell.complete().reciprocal()[constraint.mask]
                normals = reciprocal / np.linalg.norm(reciprocal, axis=1, keepdims=True)
            case FixedPlane():
                normals = constraint.dir[None]
            case FixedLine():
                normals = np.eye(3) - np.outer(constraint.dir, constraint.dir)
            case _:
                continue
        held[constraint.get_indices()] += normals.T @ normals
    return held
