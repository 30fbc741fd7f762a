"""Structures as spheres in the plane of a picture: seen from above and from the side (Å)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.constraints import FixAtoms
from ase.data import covalent_radii
from ase.data.colors import jmol_colors

RADIUS = 0.85  # of a drawn atom, in covalent radii
MARGIN = 1.6  # Å of periodic images around the cell


@dataclass(frozen=True)
class View:
    """Spheres in the plane of the picture; ``depth`` grows toward the viewer. ``low`` and ``high``
    are two corners of what the picture shows. All in Å, colours from 0 to 1."""

    centres: np.ndarray
    depth: np.ndarray
    radii: np.ndarray
    colours: np.ndarray
    edges: Sequence[np.ndarray]  # lines (k, 2) of the cell
    low: np.ndarray
    high: np.ndarray

    @property
    def width(self) -> float:
        return float(self.high[0] - self.low[0])

    @property
    def height(self) -> float:
        return float(self.high[1] - self.low[1])


def top(atoms: Atoms, cells: int = 1) -> View:
    """From above: ``cells`` by ``cells`` unit cells in full colour, their images around faded."""
    cell = atoms.cell[:2, :2]
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) @ cell
    atoms, fade = _with_images(atoms, cells)
    xyz = atoms.positions
    low, high = cells * corners.min(0) - MARGIN, cells * corners.max(0) + MARGIN
    outline = np.vstack([corners, corners[:1]])
    edges = [outline + [i, j] @ cell for i in range(cells) for j in range(cells)]
    return _view(atoms, fade, xyz[:, :2], xyz[:, 2], edges, low, high)


def side(atoms: Atoms, cells: int = 1) -> View:
    """Along the shorter in-plane vector's normal, so that the longer one lies in the picture."""
    along = atoms.cell[int(np.argmax(np.linalg.norm(atoms.cell[:2], axis=1)))]
    length = float(np.linalg.norm(along))
    right = along / length
    into = np.array([-right[1], right[0], 0.0])
    atoms, fade = _with_images(atoms, cells)
    across = atoms.positions @ right
    # A strip over the periods holds every atom in this projection, whatever the other angle.
    width = cells * length
    fade = np.where((across >= -1e-6) & (across < width - 1e-6), 0.0, 1.0)
    height = atoms.positions[:, 2]
    low = np.array([-MARGIN, height.min() - 1.6])
    high = np.array([width + MARGIN, height.max() + 1.6])
    edges = [np.array([[k * length, low[1]], [k * length, high[1]]]) for k in range(cells + 1)]
    centres = np.stack([across, height], axis=1)
    return _view(atoms, fade, centres, -(atoms.positions @ into), edges, low, high)


def _with_images(atoms: Atoms, cells: int = 1) -> tuple[Atoms, np.ndarray]:
    """Repeat the finite atoms, wrapped in the plane, with two shells of images (``fade`` 1)."""
    fixed = substrate(atoms)
    atoms = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc, tags=fixed)
    atoms = atoms[np.isfinite(atoms.positions).all(axis=1)]
    atoms.pbc = [*atoms.pbc[:2], False]
    atoms.wrap(eps=1e-4)
    shells = [range(-2, cells + 2) if periodic else range(1) for periodic in atoms.pbc[:2]]
    shifts = [(i, j) for i in shells[0] for j in shells[1]]
    images = Atoms(cell=atoms.cell, pbc=atoms.pbc)
    for shift in shifts:
        image = atoms.copy()
        image.positions += np.array([*shift, 0]) @ atoms.cell
        images += image
    inside = [min(shift) >= 0 and max(shift) < cells for shift in shifts]
    return images, np.repeat(1.0 - np.array(inside), len(atoms))


def drawn_radii(numbers: np.ndarray) -> np.ndarray:
    return RADIUS * covalent_radii[numbers]


def substrate(atoms: Atoms) -> np.ndarray:
    """1 for atoms under a FixAtoms constraint, else 0."""
    fixed = np.zeros(len(atoms), int)
    for constraint in atoms.constraints:
        if isinstance(constraint, FixAtoms):
            fixed[constraint.index] = 1
    return fixed


def _view(
    atoms: Atoms,
    fade: np.ndarray,
    centres: np.ndarray,
    depth: np.ndarray,
    edges: Sequence[np.ndarray],
    low: np.ndarray,
    high: np.ndarray,
) -> View:
    shown = colours(atoms.numbers, atoms.get_tags(), fade)
    return View(centres, depth, drawn_radii(atoms.numbers), shown, edges, low, high)


def colours(numbers: np.ndarray, fixed: np.ndarray, fade: np.ndarray) -> np.ndarray:
    """Jmol's colours; the substrate paler, periodic images paler still."""
    white = 1 - (1 - 0.72 * fixed) * (1 - 0.55 * fade)
    return jmol_colors[numbers] * (1 - white[:, None]) + white[:, None]
