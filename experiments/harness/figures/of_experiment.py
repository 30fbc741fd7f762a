"""The figures of the paper: energies beside the structures that have them, and against steps."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from ase import Atoms
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import ConnectionPatch

from experiments.harness.figures.histogram import draw_energies
from experiments.harness.figures.pictures import FINEST, draw_view, name_elements, same_frame
from experiments.harness.figures.plots import draw_counts
from experiments.harness.figures.style import COLOURS, styled
from experiments.harness.figures.views import top

SHOWN = 4
"""Structures above a figure, at most."""
BESIDE = 0.18
"""Distance between trainings of a setting, whose rows are 1 apart."""


@styled
def energies_with_structures(
    energies: Mapping[str, np.ndarray], examples: Mapping[str, tuple[Atoms, float]], zero: str
) -> Figure:
    """Draw Fig. 3: a histogram, and above it structures with arrows to their energies.

    energies  of each series, eV above the zero
    examples  of some series, or of one, structures with their energies, eV above the zero
    zero      what the zero is, in words for the axis
    """
    shown = dict(list(examples.items())[:SHOWN])
    figure, above, axes = _sheet(len(shown))
    draw_energies(axes, energies, zero=zero)
    frames = [atoms for atoms, _ in shown.values()]
    titles = [f"{name}: {energy:+.2f} eV" for name, (_, energy) in shown.items()]
    _draw_structures(figure, above, frames, titles)
    names = list(energies) if set(shown) <= set(energies) else list(shown)
    for place, (name, (_, energy)) in zip(above, shown.items(), strict=True):
        colour = COLOURS[names.index(name) % len(COLOURS)]
        place.title.set_color(colour)
        (low, high), ceiling = axes.get_xlim(), axes.get_ylim()[1]
        start, end = (0.5, -0.02), (float(np.clip(energy, low, high)), ceiling)
        arrow: Any = {"arrowstyle": "-|>", "color": colour, "linewidth": 1.0, "shrinkB": 0}
        figure.add_artist(
            ConnectionPatch(start, end, place.transAxes, axes.transData, clip_on=False, **arrow)
        )
    return figure


@styled
def counts_with_structures(
    counts: Mapping[str, Mapping[str, int]], examples: Sequence[tuple[str, Atoms]]
) -> Figure:
    """Draw Fig. 2: minima of each stoichiometry and subset, and examples above them."""
    figure, above, axes = _sheet(len(examples[:SHOWN]))
    draw_counts(axes, counts)
    names, frames = [name for name, _ in examples], [atoms for _, atoms in examples]
    _draw_structures(figure, above, frames[:SHOWN], names[:SHOWN])
    return figure


@styled
def against_steps(table: pd.DataFrame, zero: str) -> Figure:
    """Draw Fig. 4b: medians with their intervals, logarithmic in the number of steps.

    table  columns series, steps, relaxed (bool), median, low and high (eV)
    """
    figure = Figure(figsize=(5.0, 3.2), layout="constrained")
    axes = figure.subplots()
    for (series, relaxed), rows in table.groupby(["series", "relaxed"], sort=False):
        rows = rows.sort_values("steps")
        colour = COLOURS[int(relaxed)]
        look: Any = {"fmt": "o-" if len(rows) > 1 else "s", "capsize": 2, "color": colour}
        if len(rows) == 1:
            look |= {"markerfacecolor": "white"}
        errors = [rows["median"] - rows.low, rows.high - rows["median"]]
        label = f"{series}, {'relaxed' if relaxed else 'as generated'}"
        axes.errorbar(rows.steps, rows["median"], errors, label=label, markersize=4, **look)
    axes.set(xscale="log", xlabel="Reverse steps N", ylabel=f"Median energy above\n{zero} (eV)")
    ticks = sorted(set(table.steps))
    axes.set_xticks(ticks, [f"{n:,}" for n in ticks])
    axes.minorticks_off()
    axes.legend()
    return figure


@styled
def of_settings(table: pd.DataFrame, zero: str) -> Figure:
    """Draw what settings lead to: a panel for each quantity, a row for each setting.

    Each of its trainings is a point with its interval.

    table  columns setting, stage, quantity ("as generated" and "relaxed" in eV, shares "valid" and
           "lowest minimum"), value, low and high
    """
    axis = {
        "as generated": f"Median as generated,\nabove {zero} (eV)",
        "relaxed": f"Median relaxed,\nabove {zero} (eV)",
        "valid": "Share of valid structures",
        "lowest minimum": "Share that ends in the lowest\nminimum of random search",
    }
    settings = list(dict.fromkeys(table["setting"]))
    quantities = [name for name in axis if name in set(table["quantity"])]
    size = (2.9 * len(quantities) + 0.8, 0.42 * len(settings) + 1.0)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(1, len(quantities), sharey=True, squeeze=False)[0]
    for axes, quantity, colour in zip(panels, quantities, COLOURS, strict=False):
        for place, setting in enumerate(settings):
            rows = table[(table["setting"] == setting) & (table["quantity"] == quantity)]
            heights = place + BESIDE * (np.arange(len(rows)) - (len(rows) - 1) / 2)
            errors = [rows["value"] - rows["low"], rows["high"] - rows["value"]]
            axes.errorbar(
                rows["value"], heights, xerr=errors, fmt="o", markersize=3.5, linewidth=0.9,
                color=colour,
            )  # fmt: skip
        axes.set_xlabel(axis[quantity])
        axes.grid(axis="x", linewidth=0.4, alpha=0.5)
    panels[0].set_yticks(range(len(settings)), settings)
    panels[0].set_ylim(len(settings) - 0.5, -0.5)
    return figure


def _sheet(columns: int) -> tuple[Figure, list[Axes], Axes]:
    """Return a figure with places for structures above the axes of a plot."""
    figure = Figure(figsize=(6.6, 5.0 if columns else 2.9), layout="constrained")
    if not columns:
        return figure, [], figure.subplots()
    grid = figure.add_gridspec(2, columns, height_ratios=[1.5, 2.3])
    above = [figure.add_subplot(grid[0, k]) for k in range(columns)]
    return figure, above, figure.add_subplot(grid[1, :])


def _draw_structures(
    figure: Figure, places: Sequence[Axes], frames: Sequence[Atoms], titles: Sequence[str]
) -> None:
    """Draw 2 x 2 cells of each structure from above, all at one scale."""
    views = same_frame([top(atoms, 2) for atoms in frames])
    for place, view, title in zip(places, views, titles, strict=True):
        draw_view(place, view, FINEST * 1.5 / view.width)
        place.set_title(title)
    if frames:
        name_elements(figure, frames)
