"""Data -> Matplotlib Figure. No pyplot, no global state, colours safe for the colour-blind.

The histogram of energies is in ``histogram``, structures are in ``pictures``; both are offered
here too.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from experiments.harness.figures.histogram import draw_energies, energy_histogram
from experiments.harness.figures.pictures import path, structures
from experiments.harness.figures.style import COLOURS, STYLE, styled
from experiments.harness.runs.atomic_io import replacing
from experiments.harness.runs.metrics import common_title, metric_title

__all__ = [
    "counts_per_stoichiometry",
    "energy_histogram",
    "learning_curves",
    "path",
    "save",
    "structures",
    "training_overview",
]


def save(figure: Figure, path: Path) -> Path:
    """Write ``path`` (.png) and the same as .svg beside it; return ``path``."""
    FigureCanvasAgg(figure)
    for target in (path.with_suffix(".svg"), path):
        # No date and fixed ids: the same figure is the same file.
        with matplotlib.rc_context(STYLE), replacing(target) as part:
            metadata = {"Date": None} if target.suffix == ".svg" else {}
            figure.savefig(part, dpi=200, metadata=metadata)
    return path


@styled
def learning_curves(rows: Sequence[Mapping[str, Any]], x: str = "train/step") -> Figure:
    """Everything that training logged against ``x``, one panel per quantity (the part of its name
    after the first slash), one colour per source (the part before it)."""
    panels = _curves(rows, x)
    columns = min(3, max(1, len(panels)))
    lines = -(-max(1, len(panels)) // columns)
    figure = Figure(figsize=(3.1 * columns + 0.4, 2.4 * lines + 0.2), layout="constrained")
    _draw_curves(figure, panels, lines, columns, x)
    return figure


@styled
def counts_per_stoichiometry(table: Mapping[str, Mapping[str, int]]) -> Figure:
    """Fig. 2b: ``{"D": {"Ag4O2": 61, ...}, "D_lowE": {...}}`` as grouped bars."""
    figure = Figure(figsize=(6.6, 2.9), layout="constrained")
    draw_counts(figure.subplots(), table)
    return figure


@styled
def training_overview(
    rows: Sequence[Mapping[str, Any]],
    counts: Mapping[str, Mapping[str, int]],
    named_energies: Mapping[str, Sequence[float]],
) -> Figure:
    """What a model was trained on (counts, energies) and how the training went, on one sheet."""
    panels = _curves(rows, "train/step")
    columns = max(1, min(3, len(panels)))
    lines = -(-max(1, len(panels)) // columns)
    figure = Figure(figsize=(9.4, 3.1 + 2.4 * lines), layout="constrained")
    subfigures: Any = figure.subfigures(2, 1, height_ratios=[3.1, 2.4 * lines])
    above, below = subfigures
    left, right = above.subplots(1, 2, width_ratios=[1.5, 1])
    draw_counts(left, counts)
    draw_energies(right, named_energies)
    _draw_curves(below, panels, lines, columns, "train/step")
    return figure


def _curves(rows: Sequence[Mapping[str, Any]], x: str) -> dict[str, dict[str, np.ndarray]]:
    """``{"loss": {"train": [[x, y], ...], "val": ...}, ...}`` of the numbers logged with ``x``."""
    points: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for row in rows:
        for key, value in row.items():
            if x not in row or key == x or "/" not in key or not isinstance(value, (int, float)):
                continue
            source, quantity = key.split("/", 1)
            points.setdefault(quantity, {}).setdefault(source, []).append((row[x], value))
    return {
        quantity: {source: np.array(values) for source, values in sources.items()}
        for quantity, sources in points.items()
    }


def _draw_curves(
    figure: Any, panels: Mapping[str, Mapping[str, np.ndarray]], lines: int, columns: int, x: str
) -> None:
    grid = figure.subplots(lines, columns, squeeze=False).flat
    sources = list(dict.fromkeys(source for panel in panels.values() for source in panel))
    for (quantity, panel), axes in zip(panels.items(), grid, strict=False):
        for source, points in panel.items():
            colour = COLOURS[sources.index(source) % len(COLOURS)]
            steps, values = points[np.argsort(points[:, 0], kind="stable")].T
            if len(values) > 60:  # noisy: the mean over 1/30 of the run, the values behind it
                axes.plot(steps, values, color=colour, alpha=0.22, linewidth=0.8)
                steps, values = _running_mean(steps, values, len(values) // 30)
            marker = "o" if len(values) < 12 else None
            axes.plot(steps, values, color=colour, label=source, marker=marker, markersize=3)
        everything = np.concatenate([points[:, 1] for points in panel.values()])
        if everything.min() > 0 and everything.max() > 20 * everything.min():
            _logarithmic(axes, everything.max() / everything.min())
        title = common_title([f"{source}/{quantity}" for source in panel])
        axes.set(xlabel=metric_title(x), title=title)
        if len(sources) > 1:
            axes.legend()
    for axes in list(grid):
        axes.set_axis_off()


def _logarithmic(axes: Axes, span: float) -> None:
    """Plain numbers at 1, 2, 5 or, over more than three decades, powers of ten."""
    axes.set_yscale("log")
    if span < 1000:
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _running_mean(
    steps: np.ndarray, values: np.ndarray, width: int
) -> tuple[np.ndarray, np.ndarray]:
    mean = np.convolve(values, np.full(width, 1 / width), mode="valid")
    return steps[(width - 1) // 2 :][: len(mean)], mean


def draw_counts(axes: Axes, table: Mapping[str, Mapping[str, int]]) -> None:
    formulas = sorted({formula for counts in table.values() for formula in counts}, key=_elements)
    centres = np.arange(len(formulas))
    width = 0.82 / max(1, len(table))
    for number, (name, counts) in enumerate(table.items()):
        heights = [counts.get(formula, 0) for formula in formulas]
        offset = (number - (len(table) - 1) / 2) * width
        label = f"{_mathematical(name)} (n = {sum(heights)})"
        colour = COLOURS[number % len(COLOURS)]
        axes.bar(centres + offset, heights, width, color=colour, label=label, linewidth=0)
    axes.set_xticks(centres, [_subscripts(formula) for formula in formulas])
    axes.tick_params(axis="x", length=0, labelrotation=40 if len(formulas) > 8 else 0)
    axes.set(ylabel="Structures", xlim=(-0.6, len(formulas) - 0.4))
    axes.set_ylim(0, 1.25 * max(axes.get_ylim()[1], 1))
    axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.legend(ncols=2)


def _elements(formula: str) -> list[tuple[str, int]]:
    found = re.findall(r"([A-Z][a-z]?)(\d*)", formula)
    return [(symbol, int(count or 1)) for symbol, count in found]


def _subscripts(formula: str) -> str:
    return re.sub(r"(\d+)", r"$_{\1}$", formula)


def _mathematical(name: str) -> str:
    """D_lowE-red -> D with the rest as its index."""
    head, _, index = name.partition("_")
    return f"{head}$_{{\\mathrm{{{index.replace('-', '{-}')}}}}}$" if index else name
