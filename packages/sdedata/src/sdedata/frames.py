"""Read structures with ASE; errors name the file and the frame."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms


def read_frames(path: str | Path) -> list[Atoms]:
    """Read all structures of a file in any of ASE's formats.

    Raises ValueError, naming the file, if it cannot be read to its end or holds no structure.
    """
    frames, broken = whole_frames(path)
    if broken is not None:
        where = f" after frame {len(frames) - 1}" if frames else ""
        raise ValueError(f"{path} cannot be read as structures{where}: {broken}")
    return frames


def whole_frames(path: str | Path) -> tuple[list[Atoms], str | None]:
    """Read the structures of a file up to its end or to the first error; also return the error.

    Raises ValueError if there is no such file, or no structure in it.
    """
    path = Path(path)
    require_file(path)
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty")
    from ase.io import iread

    frames: list[Atoms] = []
    try:
        frames.extend(iread(path, index=":"))
    except Exception as error:  # ASE's readers raise nearly any exception for a broken file
        return frames, str(error) or type(error).__name__
    if not frames:
        raise ValueError(f"{path} holds no structures")
    return frames, None


def require_file(path: Path) -> None:
    """Raise ValueError, naming the path, unless it is a file."""
    if path.is_dir():
        raise ValueError(f"{path} is a folder, not a file")
    if not path.is_file():
        raise ValueError(f"there is no file {path}")


def frozen_mask(atoms: Atoms) -> np.ndarray:
    """Mark atoms under a FixAtoms constraint, shape (n,)."""
    from ase.constraints import FixAtoms  # brings all of scipy.optimize

    frozen = np.zeros(len(atoms), dtype=bool)
    for constraint in atoms.constraints:
        if isinstance(constraint, FixAtoms):
            frozen[constraint.get_indices()] = True
    return frozen


def labels(atoms: Atoms) -> dict[str, Any]:
    """Return the calculator's results for the present positions, without constraints applied.

    Computes nothing; results of older positions are ignored.
    """
    if atoms.calc is None or atoms.calc.check_state(atoms):
        return {}
    return dict(atoms.calc.results)


def facts(atoms: Atoms) -> dict[str, Any]:
    """Return the single-valued entries of `atoms.info`: strings, numbers and booleans."""
    return {
        k: v for k, v in atoms.info.items() if isinstance(v, str | bool | int | float | np.generic)
    }


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


def require_surface_cell(atoms: Atoms, where: str) -> None:
    """Raise ValueError, beginning with `where`, unless a periodic cell spans the x-y plane."""
    cell = np.asarray(atoms.cell)
    if not abs(np.linalg.det(cell[:2, :2])) > 1e-3:
        raise ValueError(f"{where}: no cell in the plane; set the first two cell vectors")
    if np.abs(cell[:2, 2]).max() > 1e-3:
        raise ValueError(f"{where}: the first two cell vectors do not lie in the x-y plane")
    if not atoms.pbc[:2].all():
        raise ValueError(f"{where}: not periodic in the plane; set pbc to True along x and y")
    if atoms.pbc[2] and not abs(cell[2, 2]) > 1e-3:
        raise ValueError(
            f"{where}: periodic along z without a cell vector; set pbc to False or add one"
        )


def require_labelled_surface(atoms: Atoms, where: str) -> None:
    """Raise ValueError, beginning with `where`, unless the structure is valid for training.

    Required: a surface cell, finite positions, energy and forces, fixed and free atoms.
    """
    require_surface_cell(atoms, where)
    # Positions first: NaN differs from itself, so that labels would seem to be of other positions.
    if not np.isfinite(atoms.positions).all():
        raise ValueError(f"{where}: positions are not finite")
    found = labels(atoms)
    for label in ("energy", "forces"):
        if label not in found:
            raise ValueError(f"{where}: no {label}; compute it and store it with the structure")
        if not np.isfinite(found[label]).all():
            raise ValueError(f"{where}: {label} not finite")
    frozen = frozen_mask(atoms)
    if not frozen.any():
        raise ValueError(f"{where}: no fixed atoms; put a FixAtoms constraint on the substrate")
    if frozen.all():
        raise ValueError(f"{where}: no free atoms; leave the overlayer out of the constraint")


def bad_frames(frames: Sequence[Atoms]) -> dict[int, str]:
    """Return index and reason of every frame that is invalid for training."""
    found = {}
    for i, atoms in enumerate(frames):
        try:
            require_labelled_surface(atoms, f"frame {i}")
        except ValueError as error:
            found[i] = str(error)
    return found
