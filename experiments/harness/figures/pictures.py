"""Structures as pictures: from the top and from the side, the cell drawn, its images faded."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from ase.constraints import FixAtoms
from ase.data import chemical_symbols, covalent_radii
from ase.data.colors import jmol_colors
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments.harness.figures.spheres import render
from experiments.harness.figures.style import styled

RADIUS = 0.85  # of a drawn atom, in covalent radii
MARGIN = 1.6  # Å of periodic images around the cell


@styled
def structures(atoms: Sequence[Atoms], titles: Sequence[str] = ()) -> Figure:
    """Each structure from the top and from the side, side by side.

    Atoms under a FixAtoms constraint are the substrate and drawn paler. Atoms whose position is
    not finite are left out.
    """
    if not atoms:
        raise ValueError("there is no structure to draw")
    views = [(_top(frame), _side(frame)) for frame in atoms]
    width = max(view.width for pair in views for view in pair)
    heights = [max(pair[row].height for pair in views) for row in (0, 1)]
    scale = min(2.4 / width, 4.0 / heights[0])  # inches per Å
    size = (len(atoms) * (width * scale + 0.12), sum(heights) * scale + 0.75)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(2, len(atoms), squeeze=False, height_ratios=heights)
    for column, pair in enumerate(views):
        for row, view in enumerate(pair):
            _draw(grid[row, column], view)
        if column < len(titles):
            grid[0, column].set_title(titles[column])
    _name_elements(figure, atoms)
    return figure


def path(atoms: Sequence[Atoms], times: Sequence[float] = (1.0, 0.5, 0.0)) -> Figure:
    """Fig. 4a: one structure at several times of the reverse process, noise to the left."""
    if len(atoms) != len(times):
        raise ValueError(f"{len(atoms)} structures need as many times, not {len(times)}")
    return structures(atoms, [f"t = {time:g}" for time in times])


@dataclass(frozen=True)
class View:
    """Spheres in the plane of the picture, Å; ``depth`` grows toward the viewer."""

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


def _top(atoms: Atoms) -> View:
    cell = atoms.cell[:2, :2]
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) @ cell
    atoms, fade = _with_images(atoms)
    xyz = atoms.positions
    low, high = corners.min(0) - MARGIN, corners.max(0) + MARGIN
    edges = [np.vstack([corners, corners[:1]])]
    return _view(atoms, fade, xyz[:, :2], xyz[:, 2], edges, low, high)


def _side(atoms: Atoms) -> View:
    """Along the shorter in-plane vector's normal, so that the longer one lies in the picture."""
    along = atoms.cell[int(np.argmax(np.linalg.norm(atoms.cell[:2], axis=1)))]
    length = float(np.linalg.norm(along))
    right = along / length
    into = np.array([-right[1], right[0], 0.0])
    atoms, fade = _with_images(atoms)
    across = atoms.positions @ right
    # The strip over one period holds every atom once in this projection, whatever the other angle.
    fade = np.where((across >= -1e-6) & (across < length - 1e-6), 0.0, 1.0)
    height = atoms.positions[:, 2]
    low = np.array([-MARGIN, height.min() - 1.6])
    high = np.array([length + MARGIN, height.max() + 1.6])
    edges = [np.array([[x, low[1]], [x, high[1]]]) for x in (0.0, length)]
    centres = np.stack([across, height], axis=1)
    return _view(atoms, fade, centres, -(atoms.positions @ into), edges, low, high)


def _with_images(atoms: Atoms) -> tuple[Atoms, np.ndarray]:
    """The finite atoms, wrapped in the plane, with two shells of images (``fade`` 1)."""
    fixed = substrate(atoms)
    atoms = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc, tags=fixed)
    atoms = atoms[np.isfinite(atoms.positions).all(axis=1)]
    atoms.pbc = [*atoms.pbc[:2], False]
    atoms.wrap(eps=1e-4)
    shells = [range(-2, 3) if periodic else range(1) for periodic in atoms.pbc[:2]]
    shifts = [(i, j) for i in shells[0] for j in shells[1]]
    images = Atoms(cell=atoms.cell, pbc=atoms.pbc)
    for shift in shifts:
        image = atoms.copy()
        image.positions += np.array([*shift, 0]) @ atoms.cell
        images += image
    fade = np.repeat([float(shift != (0, 0)) for shift in shifts], len(atoms))
    return images, fade


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
    radii = drawn_radii(atoms.numbers)
    seen = np.all((centres > low - radii[:, None]) & (centres < high + radii[:, None]), axis=1)
    colours = _colours(atoms.numbers, atoms.get_tags(), fade)
    return View(centres[seen], depth[seen], radii[seen], colours[seen], edges, low, high)


def _colours(numbers: np.ndarray, fixed: np.ndarray, fade: np.ndarray) -> np.ndarray:
    """Jmol's colours; the substrate paler, periodic images paler still."""
    white = 1 - (1 - 0.72 * fixed) * (1 - 0.55 * fade)
    return jmol_colors[numbers] * (1 - white[:, None]) + white[:, None]


def _draw(axes: Axes, view: View) -> None:
    picture = render(view.centres, view.depth, view.radii, view.colours, view.low, view.high)
    (left, bottom), (right, top) = view.low, view.high
    axes.imshow(picture, extent=(left, right, bottom, top), interpolation="antialiased")
    for edge in view.edges:
        axes.plot(*edge.T, color="0.1", linewidth=0.9, solid_capstyle="round")
    axes.set(xlim=(left, right), ylim=(bottom, top), aspect="equal")
    axes.set_axis_off()


def _name_elements(figure: Figure, atoms: Sequence[Atoms]) -> None:
    kinds = {kind for a in atoms for kind in zip(substrate(a), a.numbers, strict=True)}
    handles: list[Any] = []
    for fixed, number in sorted(kinds):
        colour = _colours(np.array([number]), np.array([fixed]), np.zeros(1))[0]
        name = chemical_symbols[number] + (" (substrate)" if fixed else "")
        look = {"markersize": 6, "markeredgewidth": 0.5, "markeredgecolor": 0.5 * colour}
        handles.append(Line2D([], [], ls="", marker="o", color=colour, label=name, **look))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
