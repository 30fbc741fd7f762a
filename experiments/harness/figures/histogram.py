"""Histograms of energies: several sets on common bins, what lies beyond them counted beside."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from experiments.harness.figures.style import COLOURS, styled
from experiments.harness.runs.energies import finite

BINS = 30  # at most
FENCE = 3.0  # interquartile ranges outside the quartiles, beyond which an energy is an outlier
LEAST_RANGE = 0.1  # eV, that any set is taken to spread over
SPAN = 5.0  # eV above the lowest that the bins cover, if any set needs it
RATIO = 3.0  # of what the bins cover to the range of the narrowest set, if that is more


@styled
def energy_histogram(
    named_energies: Mapping[str, Sequence[float]],
    reference: float | None = None,
    bins: Sequence[float] | None = None,
    zero: str = "E$_{\\mathrm{ref}}$",
    size: tuple[float, float] = (5.0, 3.2),
) -> Figure:
    """Draw energies (eV) of several sets on common bins, as the share of each set in a bin.

    reference  energy (eV) to subtract; None where the energies are relative already
    bins       edges (eV, relative); None chooses round ones for the bulk of the sets
    zero       what the energies are relative to, in words for the axis
    size       of the figure, inches

    A bar beside the bins holds what lies beyond them. NaN and infinity are left out.
    """
    figure = Figure(figsize=size, layout="constrained")
    relative = {name: finite(e) - (reference or 0.0) for name, e in named_energies.items()}
    draw_energies(figure.subplots(), relative, bins, zero)
    return figure


def draw_energies(
    axes: Axes,
    named: Mapping[str, Sequence[float] | np.ndarray],
    bins: Sequence[float] | None = None,
    zero: str = "E$_{\\mathrm{ref}}$",
) -> None:
    """Draw the histogram of ``energy_histogram`` into given axes."""
    sets = {name: finite(energies) for name, energies in named.items()}
    edges = np.asarray(bins if bins is not None else common_bins(list(sets.values())), float)
    for number, (name, values) in enumerate(sets.items()):
        colour = COLOURS[number % len(COLOURS)]
        share = np.histogram(values, edges)[0] / max(1, len(values))
        label = f"{name} (n = {len(values)}{_beyond(values, edges)})"
        axes.stairs(share, edges, fill=True, color=colour, alpha=0.22, linewidth=0)
        axes.stairs(share, edges, color=colour, linewidth=1.4, label=label)
        if len(values) and edges[0] <= np.median(values) <= edges[-1]:
            axes.axvline(np.median(values), color=colour, linestyle=(0, (4, 2)), linewidth=1.1)
    axes.plot([], [], color="0.35", linestyle=(0, (4, 2)), linewidth=1.1, label="median")
    width = np.diff(edges)
    per = f"per {width[0]:.3g} eV" if np.allclose(width, width[0]) else "per bin"
    axes.set(xlabel=f"Energy above {zero} (eV)", ylabel=f"Share of structures {per}")
    axes.set_xlim(edges[0], edges[-1])
    _draw_beyond(axes, list(sets.values()), edges)
    axes.set_ylim(0, 1.12 * max(axes.get_ylim()[1] / 1.05, 1e-3))
    _legend(axes)


def common_bins(sets: Sequence[np.ndarray]) -> np.ndarray:
    """Return edges (eV) of at most 30 bins of one round width, aligned to zero.

    They cover all sets but their outliers. A set that is much wider than the narrowest one (as
    generated structures are beside relaxed ones) is cut off, so that the others keep their shape.
    """
    ranges = np.array([_bulk(values) for values in sets if len(values)] or [(0.0, 1.0)])
    low, highest = ranges[:, 0].min(), ranges[:, 1].max()
    narrowest = ranges[:, 1].min() - low
    high = min(highest, low + max(SPAN, RATIO * narrowest))
    locator = MaxNLocator(BINS, steps=[1, 2, 2.5, 5, 10], min_n_ticks=1)
    return np.asarray(locator.tick_values(low, max(high, low + LEAST_RANGE)), float)


def _bulk(values: np.ndarray) -> tuple[float, float]:
    """Return the lowest and the highest of the energies that are no outliers."""
    lower, upper = np.quantile(values, [0.25, 0.75])
    reach = FENCE * max(upper - lower, LEAST_RANGE)
    inside = values[(values >= lower - reach) & (values <= upper + reach)]
    return float(inside.min()), float(inside.max())


def _outside(values: np.ndarray, edges: np.ndarray) -> tuple[int, int]:
    return int((values < edges[0]).sum()), int((values > edges[-1]).sum())


def _beyond(values: np.ndarray, edges: np.ndarray) -> str:
    below, above = _outside(values, edges)
    parts = [(below, f"below {edges[0]:.3g} eV"), (above, f"above {edges[-1]:.3g} eV")]
    return "".join(f", {count} {where}" for count, where in parts if count)


def _is_wide(axes: Axes) -> bool:
    return axes.figure.get_figwidth() >= 4.5 if isinstance(axes.figure, Figure) else True


def _legend(axes: Axes) -> None:
    """Inside the axes, or above them where the figure is too narrow."""
    if _is_wide(axes):
        axes.legend()
    else:
        axes.legend(loc="lower left", bbox_to_anchor=(-0.15, 1.0), borderaxespad=0.2)


def _draw_beyond(axes: Axes, sets: Sequence[np.ndarray], edges: np.ndarray) -> None:
    """Add a bar for each set, beside the bins, of all that lies below or above them."""
    shares = np.array([np.array(_outside(v, edges)) / max(1, len(v)) for v in sets])
    if not shares.any():
        return
    low, high = edges[0], edges[-1]
    gap, width = 0.03 * (high - low), 0.08 * (high - low)
    locator = MaxNLocator(7 if _is_wide(axes) else 4, steps=[1, 2, 5, 10])
    ticks = {t: f"{t:g}" for t in locator.tick_values(low, high) if low <= t <= high}
    limits = [low, high]
    for end, (start, limit) in enumerate([(low - gap - width, low - gap - width),
                                          (high + gap, high + gap + width)]):  # fmt: skip
        if not shares[:, end].any():
            continue
        for number, share in enumerate(shares[:, end]):
            place = start + number * width / len(sets)
            colour = COLOURS[number % len(COLOURS)]
            axes.bar(place, share, width / len(sets), align="edge", color=colour, alpha=0.6)
        limits[end] = limit
        middle = start + width / 2
        ticks = {t: name for t, name in ticks.items() if abs(t - middle) > 1.2 * width}
        ticks[middle] = f"{'<>'[end]} {edges[-end]:.3g}"
    axes.set_xticks(list(ticks), [name.replace("-", "\N{MINUS SIGN}") for name in ticks.values()])
    axes.set_xlim(*limits)
