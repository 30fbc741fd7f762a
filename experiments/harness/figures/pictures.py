"""Structures as pictures: from above and from the side, the cell drawn, its images faded."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments.harness.figures import spheres
from experiments.harness.figures.images import DPI
from experiments.harness.figures.style import styled
from experiments.harness.figures.views import View, colours, side, substrate, top

PAIRED_WIDTH = 4.0  # inches of each picture of ``paired_views``
FINEST = 300  # pixels per inch of ``structures``: half as many again as are saved


@styled
def structures(atoms: Sequence[Atoms], titles: Sequence[str] = ()) -> Figure:
    """Each structure from the top and from the side, side by side.

    Atoms under a FixAtoms constraint are the substrate and drawn paler. Atoms whose position is
    not finite are left out.
    """
    if not atoms:
        raise ValueError("there is no structure to draw")
    views = [(top(frame), side(frame)) for frame in atoms]
    width = max(view.width for pair in views for view in pair)
    heights = [max(pair[row].height for pair in views) for row in (0, 1)]
    scale = min(2.4 / width, 4.0 / heights[0])  # inches per Å
    size = (len(atoms) * (width * scale + 0.12), sum(heights) * scale + 0.75)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(2, len(atoms), squeeze=False, height_ratios=heights)
    for column, pair in enumerate(views):
        for row, view in enumerate(pair):
            draw_view(grid[row, column], view, FINEST * scale)
        if column < len(titles):
            grid[0, column].set_title(titles[column])
    name_elements(figure, atoms)
    return figure


def path(atoms: Sequence[Atoms], times: Sequence[float] = (1.0, 0.5, 0.0)) -> Figure:
    """Fig. 4a: one structure at several times of the reverse process, noise to the left."""
    if len(atoms) != len(times):
        raise ValueError(f"{len(atoms)} structures need as many times, not {len(times)}")
    return structures(atoms, [f"t = {time:g}" for time in times])


def paired_views(atoms: Sequence[Atoms], cells: int = 2) -> list[tuple[Figure, Figure]]:
    """Draw each structure from above and from the side, all at one scale.

    The longer in-plane vector lies along x in both pictures of a structure. ``cells`` by ``cells``
    unit cells are in full colour, their images around them faded.
    """
    turned = [_longer_along_x(frame) for frame in atoms]
    from_above = same_frame([top(frame, cells) for frame in turned])
    from_side = same_frame([side(frame, cells) for frame in turned])
    left, right = (from_above[0].low[0], from_above[0].high[0]) if atoms else (0, 0)
    from_side = [
        replace(
            view,
            low=np.array([left, view.low[1]]),
            high=np.array([right, view.high[1]]),
        )
        for view in from_side
    ]
    return [
        (_single(one), _single(other)) for one, other in zip(from_above, from_side, strict=True)
    ]


def element_colours(atoms: Sequence[Atoms]) -> list[tuple[str, str]]:
    """Return the name and the colour (#rrggbb) of every element, frozen atoms apart."""
    kinds = {kind for a in atoms for kind in zip(substrate(a), a.numbers, strict=True)}
    return [
        (
            chemical_symbols[number] + (" (frozen)" if fixed else ""),
            to_hex(colours(np.array([number]), np.array([fixed]), np.zeros(1))[0]),
        )
        for fixed, number in sorted(kinds)
    ]


def _longer_along_x(atoms: Atoms) -> Atoms:
    """Turn a copy of the atoms about z, with its cell."""
    turned = atoms.copy()
    longer = turned.cell[int(np.argmax(np.linalg.norm(turned.cell[:2], axis=1)))]
    turned.rotate(-np.degrees(np.arctan2(longer[1], longer[0])), "z", rotate_cell=True)
    return turned


def same_frame(views: Sequence[View]) -> list[View]:
    """Let all views show the smallest rectangle that holds what each of them shows."""
    if not views:
        return []
    low = np.min([view.low for view in views], axis=0)
    high = np.max([view.high for view in views], axis=0)
    return [replace(view, low=low, high=high) for view in views]


@styled
def _single(view: View) -> Figure:
    """Draw one view without any border."""
    figure = Figure(figsize=(PAIRED_WIDTH, PAIRED_WIDTH * view.height / view.width))
    draw_view(figure.add_axes((0, 0, 1, 1)), view, DPI * PAIRED_WIDTH / view.width)
    return figure


def draw_view(axes: Axes, view: View, finest: float) -> None:
    """Draw a view in at most ``finest`` pixels per Å: what a picture of a large cell can show."""
    pixels = max(1, min(spheres.PIXELS, round(finest)))
    reach = view.radii[:, None]
    near = (view.centres > view.low - reach) & (view.centres < view.high + reach)
    centres, depth, radii, shown = (
        values[near.all(axis=1)] for values in (view.centres, view.depth, view.radii, view.colours)
    )
    picture = spheres.render(centres, depth, radii, shown, view.low, view.high, pixels)
    (left, bottom), (right, top) = view.low, view.high
    axes.imshow(picture, extent=(left, right, bottom, top), interpolation="antialiased")
    for edge in view.edges:
        axes.plot(*edge.T, color="0.1", linewidth=0.9, solid_capstyle="round")
    axes.set(xlim=(left, right), ylim=(bottom, top), aspect="equal")
    axes.set_axis_off()


def name_elements(figure: Figure, atoms: Sequence[Atoms]) -> None:
    handles: list[Any] = []
    for name, colour in element_colours(atoms):
        edge = tuple(0.5 * channel for channel in to_rgb(colour))
        look: Any = {"markersize": 6, "markeredgewidth": 0.5, "markeredgecolor": edge}
        handles.append(Line2D([], [], ls="", marker="o", color=colour, label=name, **look))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
