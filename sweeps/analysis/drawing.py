"""Parts of the figures of a study, each drawn into Axes."""

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.transforms import ScaledTranslation
from optuna import Study

from experiments.harness.figures.style import COLOURS
from sweeps.analysis.axes import Scale
from sweeps.analysis.names import ENERGY_UNIT, knob_title, metric_title, two_lines, value_title
from sweeps.analysis.trials import (
    Outcome,
    Setting,
    estimates,
    knobs,
    measured,
    outcomes,
    questions,
    random_search,
    setting_title,
    settings,
)
from sweeps.analysis.uncertainty import Estimate

BLUE, RED, GREEN, PINK, ORANGE, SKY, BLACK = COLOURS
UNFINISHED = {"pruned": ("v", ORANGE), "failed": ("x", RED), "running": (">", GREEN)}
"""Trials without a result: marks at the foot of the axes."""
SETS = {"gen": ("as generated", ORANGE), "gen_relaxed": ("relaxed", BLUE)}
ROOM = 24.0
"""Points over which trials at the same place are spread."""
BEYOND = 4.0
"""Spreads that reach so many times higher than is usual are cut off, with the median told."""
CROWDED = 48
"""Letters that have room below one panel."""
HALO: Any = [withStroke(linewidth=2.5, foreground="white")]


def draw_slice(axes: Axes, study: Study, knob: str, objective: str) -> None:
    """An objective against a knob."""
    scale = Scale.of_knob(knobs(study)[knob])
    trials = [o for o in outcomes(study) if knob in o.knobs]
    done = [o for o in trials if o.complete and objective in o.numbers]
    _draw_pooled(axes, study, knob, objective, scale)
    named = scale.kind == "ordinal" and not isinstance(scale.choices[0], int | float)
    room = 100.0 / len(scale.choices) if named else ROOM
    draw_trials(axes, [scale.at(o.knobs[knob]) for o in done], done, objective, room)
    draw_unfinished(axes, [(scale.at(o.knobs[knob]), o) for o in trials])
    scale.apply(axes.xaxis)
    axes.set_xlim(*scale.limits())
    axes.set_xlabel(knob_title(knob))
    scale_results(axes.yaxis, done, objective)


def _draw_pooled(axes: Axes, study: Study, knob: str, objective: str, scale: Scale) -> None:
    """Through the settings that several trials share, or of a knob that is the only one."""
    found = [s for s in settings(study, knob) if s.feasible]
    repeated = any(len(setting.trials) > 1 for setting in found)
    values = estimates(found, objective)
    kept = [(scale.at(s.value), v) for s, v in zip(found, values, strict=True) if np.isfinite(v[0])]
    if len(kept) < 2 or not (repeated or len(questions(study)) == 1):
        return
    x, y = np.array([place for place, _ in kept]), [value.value for _, value in kept]
    look: Any = {"color": BLACK, "linewidth": 1.1, "zorder": 1.9}
    if isinstance(found[0].value, str | bool):
        axes.hlines(y, x - 0.36, x + 0.36, label="pooled", **look)
        return
    axes.plot(x, y, label="pooled" if repeated else None, **look)
    if repeated and all(value.sure for _, value in kept):
        low, high = [value.low for _, value in kept], [value.high for _, value in kept]
        axes.fill_between(x, low, high, color=BLACK, alpha=0.1, linewidth=0)


def draw_trials(
    axes: Axes, x: Sequence[float], trials: Sequence[Outcome], metric: str, room: float = ROOM
) -> None:
    """Each trial's result with its interval; those at one place beside each other."""
    many = len(trials) > 25
    figure: Any = axes.get_figure(root=True)
    for place, trial in zip(x, trials, strict=True):
        here = [o.number for p, o in zip(x, trials, strict=True) if p == place]
        step = min(6.0, room / len(here))
        off = step * (here.index(trial.number) - (len(here) - 1) / 2)
        beside = axes.transData + ScaledTranslation(off / 72, 0, figure.dpi_scale_trans)
        interval, value = measured([trial], metric), trial.numbers[metric]
        if interval.sure:
            ends = [interval.low, interval.high]
            axes.add_artist(Line2D([place] * 2, ends, color=BLUE, alpha=0.3 if many else 0.45,
                                   linewidth=1.2, transform=beside, zorder=2))  # fmt: skip
            axes.update_datalim([(place, end) for end in ends])
        look: dict[str, Any] = {"mfc": BLUE, "label": "trial"}
        if not trial.good:
            look = {"mfc": "white", "label": "not feasible"}
        look |= {"marker": "o", "linestyle": "", "color": BLUE, "ms": 4 if many else 5.5}
        axes.add_artist(Line2D([place], [value], transform=beside, zorder=3, **look))
        axes.update_datalim([(place, value)])
    axes.autoscale_view()


def draw_unfinished(axes: Axes, places: Sequence[tuple[float, Outcome]]) -> None:
    for state, (marker, colour) in UNFINISHED.items():
        x = [place for place, outcome in places if outcome.state == state]
        if x:
            axes.plot(x, [0.02] * len(x), marker, color=colour, ms=4.5, label=state, zorder=3,
                      transform=axes.get_xaxis_transform(), clip_on=False)  # fmt: skip


def draw_spreads(axes: Axes, study: Study, knob: str) -> None:
    """Energies at each setting of a knob: bars from the 10 to the 90 % quantile, medians with their
    intervals; hollow where the trials were not feasible."""
    found = settings(study, knob)
    tops = [measured(s.trials, f"{name}/energy_p90").value for s in found for name in SETS]
    tops = [top for top in tops if np.isfinite(top)]
    inside = [top for top in tops if top <= BEYOND * np.median(tops)]
    cut = 1.3 * max(inside) if 0 < len(inside) < len(tops) else np.inf
    medians = {name: estimates(found, f"{name}/energy_median") for name in SETS}
    for place, setting in enumerate(found):
        for name, off in zip(SETS, (-0.19, 0.19), strict=True):
            _draw_spread(axes, place + off, setting, medians[name][place], name, cut)
    handles: list[Any] = [Patch(facecolor=c, alpha=0.4, label=n) for n, c in SETS.values()]
    reference = random_search(study)
    if reference is not None:
        line: Any = {"color": BLACK, "linestyle": (0, (4, 2)), "linewidth": 1.1}
        axes.axhline(reference, zorder=1, **line)
        handles.append(Line2D([], [], label="random search (median)", **line))
    if np.isfinite(cut):
        lows = [measured(s.trials, f"{name}/energy_p10").value for s in found for name in SETS]
        axes.set_ylim(min(0.0, np.nanmin(lows)) - 0.03 * cut, cut)
    if not found:
        nothing_in(axes)
    _name_settings(axes, found)
    axes.set(xlim=(-0.6, max(1, len(found)) - 0.4), xlabel=knob_title(knob))
    axes.set_ylabel(f"Energies: median, 10 to 90 %\n({ENERGY_UNIT})")
    legend_above(axes, handles)


def _name_settings(axes: Axes, found: Sequence[Setting]) -> None:
    """Along x; obliquely where they would run into each other."""
    titles = [setting_title(setting) for setting in found]
    crowded = len(titles) * max(map(len, titles), default=0) > CROWDED
    axes.set_xticks(range(len(titles)), titles)
    axes.tick_params(axis="x", length=0)
    if crowded:
        for label in axes.get_xticklabels():
            label.set(rotation=40, ha="right", rotation_mode="anchor")


def _draw_spread(
    axes: Axes, place: float, setting: Setting, middle: Estimate, name: str, cut: float
) -> None:
    low, high = (measured(setting.trials, f"{name}/energy_{q}") for q in ("p10", "p90"))
    if not middle.n:
        return
    colour = SETS[name][1]
    fill = {"facecolor": colour, "alpha": 0.35} if setting.feasible else {"facecolor": "none"}
    bar = Rectangle(
        (place - 0.15, low.value), 0.3, high.value - low.value, edgecolor=colour, **fill
    )
    axes.add_patch(bar)
    if middle.sure:
        ends = [middle.low, middle.high]
        axes.plot([place] * 2, ends, color=colour, linewidth=2, solid_capstyle="butt")
    face = colour if setting.feasible else "white"
    axes.plot([place], [middle.value], "o", ms=5, mfc=face, mec=colour)
    if high.value > cut:
        told = f"median {middle.value:.3g} \N{RIGHTWARDS ARROW}"  # upwards, once it is turned
        axes.text(place, 0.99 * cut, told, rotation=90, ha="center", va="top", fontsize=7,
                  path_effects=HALO)  # fmt: skip


def draw_column(axes: Axes, at: int, title: str, scale: Scale) -> None:
    """One of the axes of parallel coordinates."""
    axes.plot([at, at], [0, 1], color="0.3", linewidth=0.8, zorder=5)
    for value in scale.ticks():
        height = scale.share(value)
        axes.plot([at - 0.02, at], [height] * 2, color="0.3", linewidth=0.8, zorder=5)
        axes.text(at - 0.04, height, value_title(value), ha="right", va="center", fontsize=7.5,
                  zorder=6, path_effects=HALO)  # fmt: skip
    axes.text(at, 1.06, title, ha="center", va="bottom", fontsize=8)


def colours_of(values: Sequence[float], less: bool) -> ScalarMappable:
    """Dark for the best; the pale end is still seen on white."""
    scale = Scale.of_results(values)
    norm = (LogNorm if scale.kind == "log" else Normalize)(scale.low, scale.high)
    shades = matplotlib.colormaps["viridis"](np.linspace(0, 0.93, 256))
    return ScalarMappable(norm, ListedColormap(shades if less else shades[::-1]))


def draw_intervals(axes: Axes, trials: Sequence[Outcome], x: str, y: str) -> None:
    """Of two objectives, where they have any."""
    for trial in trials:
        for metric, draw in ((x, axes.hlines), (y, axes.vlines)):
            interval = measured([trial], metric)
            if interval.sure:
                other = trial.numbers[y if metric == x else x]
                draw(other, interval.low, interval.high, color=BLUE, alpha=0.3, linewidth=1.2)


def label_front(axes: Axes, points: Sequence[tuple[float, float]], names: Sequence[str],
                toward: tuple[int, int]) -> None:  # fmt: skip
    """Names on the side where nothing is: ``toward`` the better, -1 or 1 in x and y."""
    across, up = toward
    for point, name in zip(points, names, strict=True):
        axes.annotate(name, point, (5 * across, 4 * up), textcoords="offset points", fontsize=7.5,
                      ha="right" if across < 0 else "left", va="top" if up < 0 else "bottom",
                      color="0.2", path_effects=HALO)  # fmt: skip


def scale_results(axis: Any, trials: Sequence[Outcome], metric: str) -> None:
    """The axis of a metric: its scale for these trials, and its title."""
    Scale.of_results([o.numbers[metric] for o in trials]).apply(axis)
    axis.set_label_text(two_lines(metric_title(metric)))
    if not trials:
        nothing_in(axis.axes)


def nothing_in(axes: Axes) -> None:
    axes.set_yticks([])
    axes.text(0.5, 0.5, "no trial is complete", transform=axes.transAxes, ha="center", color="0.35")


def legend_above(axes: Axes, handles: Sequence[Any] | None = None) -> None:
    """In a row above the axes, where it hides nothing; what is drawn, if no handles are given."""
    known = handles if handles is not None else list(_labelled([axes]).values())
    if known:
        axes.legend(handles=known, loc="lower left", bbox_to_anchor=(0, 1), ncols=3,
                    borderaxespad=0.3, columnspacing=1.2)  # fmt: skip


def legend_below(figure: Figure, panels: Sequence[Axes]) -> None:
    """One for all panels, below them."""
    handles = list(_labelled(panels).values())
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))


def _labelled(panels: Sequence[Axes]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for axes in panels:
        handles, labels = axes.get_legend_handles_labels()
        found |= dict(zip(labels, handles, strict=True))
    if found.keys() == {"trial"}:
        return {}
    return dict(sorted(found.items(), key=lambda item: item[0] in UNFINISHED))
