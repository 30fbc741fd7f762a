"""A study -> Matplotlib Figures. Points are trials, lines their 95 % bootstrap intervals."""

import textwrap
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter
from optuna import Study

from experiments.harness.figures.style import styled
from sweeps.analysis.axes import Scale
from sweeps.analysis.conclusion import in_words, verdict
from sweeps.analysis.drawing import (
    BLACK,
    BLUE,
    COLOURS,
    colours_of,
    draw_column,
    draw_intervals,
    draw_slice,
    draw_spreads,
    draw_trials,
    draw_unfinished,
    label_front,
    legend_above,
    legend_below,
    scale_results,
)
from sweeps.analysis.names import knob_title, metric_title, two_lines, value_title
from sweeps.analysis.trials import (
    ENOUGH_FOR_IMPORTANCES,
    ENOUGH_TO_TRUST,
    Outcome,
    best,
    importances,
    objectives,
    outcomes,
    questions,
    settings,
)

PALE = "0.66"
LABELLED = 8
"""Points of a Pareto front that are named."""


def figures(study: Study) -> dict[str, Figure]:
    """All that there is to draw of a study, by a name that a file can have."""
    asked = questions(study)
    found = {"history": history(study)}
    if asked:
        found |= {"slices": slices(study), "parallel": parallel(study)}
    if len(asked) > 1:
        found["importances"] = importance_bars(study)
    if len(objectives(study)) > 1:
        found["pareto"] = pareto(study)
    for knob in asked:
        found[f"energies_{knob_title(knob)}"] = energies(study, knob)
    if len(asked) == 1:
        found["answer"] = answer_figure(study)
    return found


@styled
def history(study: Study) -> Figure:
    """Each objective against the number of the trial, and the best so far."""
    aims, trials = objectives(study), outcomes(study)
    figure = Figure(figsize=(6.4, 0.8 + 2.3 * len(aims)), layout="constrained")
    panels = figure.subplots(len(aims), 1, squeeze=False, sharex=True)[:, 0]
    for axes, (name, less) in zip(panels, aims.items(), strict=True):
        done = [o for o in trials if o.complete and name in o.numbers]
        draw_trials(axes, [o.number for o in done], done, name)
        good = [o for o in done if o.good]
        if good:
            better = np.minimum if less else np.maximum
            so_far = better.accumulate([o.numbers[name] for o in good])
            last = max(o.number for o in trials if o.state != "waiting")
            numbers = [*(o.number for o in good), last]
            axes.step(numbers, [*so_far, so_far[-1]], where="post", color=BLACK, linewidth=1.1,
                      label="best so far")  # fmt: skip
        draw_unfinished(axes, [(o.number, o) for o in trials])
        scale_results(axes.yaxis, done, name)
    panels[-1].set(xlabel="Trial", xlim=(-0.6, max((o.number for o in trials), default=0) + 0.6))
    panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    legend_below(figure, list(panels))
    return figure


@styled
def slices(study: Study) -> Figure:
    """Each objective against each knob, one panel per pair."""
    aims, asked = objectives(study), questions(study)
    if not asked:
        return _nothing("no trial has begun")
    size = (2.7 * max(1.6, len(asked)) + 0.7, 0.8 + 2.5 * len(aims))
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(aims), len(asked), squeeze=False, sharey="row", sharex="col")
    for row, name in zip(grid, aims, strict=True):
        for axes, knob in zip(row, asked, strict=True):
            draw_slice(axes, study, knob, name)
            axes.label_outer()
    legend_below(figure, list(grid.flat))
    return figure


@styled
def importance_bars(study: Study) -> Figure:
    """Which knob decides whether a trial is one of the best, per objective."""
    shares = importances(study)
    done = sum(o.complete for o in outcomes(study))
    if shares is None:
        return _nothing(
            f"Importances need two knobs and {ENOUGH_FOR_IMPORTANCES} completed trials: "
            f"there are {len(questions(study))} and {done}"
        )
    names = list(reversed(questions(study)))
    height = 0.8 / len(shares)
    figure = Figure(figsize=(6.0, 1.2 + 0.45 * len(names)), layout="constrained")
    axes = figure.subplots()
    for i, (objective, found) in enumerate(shares.items()):
        places = np.arange(len(names)) + 0.4 - (i + 0.5) * height
        widths = [found.get(name, 0.0) for name in names]
        label = metric_title(objective).partition(" (")[0]
        bars = axes.barh(places, widths, height * 0.9, color=COLOURS[i], label=label)
        axes.bar_label(bars, [f"{100 * width:.0f} %" for width in widths], padding=3, fontsize=7.5)
    axes.set_yticks(range(len(names)), [knob_title(name) for name in names])
    axes.tick_params(axis="y", length=0)
    axes.set(xlim=(0, 1.08), xlabel="Share in what makes a trial one of the best (PED-ANOVA)")
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
    trust = "" if done >= ENOUGH_TO_TRUST else ": a hint, no more"
    axes.set_title(f"From {done} trials{trust}", loc="right")
    legend_above(axes)
    return figure


@styled
def pareto(study: Study) -> Figure:
    """The first two objectives against each other; the front is what no other trial beats."""
    aims = objectives(study)
    x, y = list(aims)[:2]
    done = [o for o in outcomes(study) if o.complete and {x, y} <= o.numbers.keys()]
    if not done:
        return _nothing("no trial is complete")
    front = [o for o in best(study) if o in done]
    beaten = [o for o in done if o.good and o not in front]
    figure = Figure(figsize=(7.4 if len(questions(study)) > 1 else 5.4, 4.0), layout="constrained")
    axes = figure.subplots()
    if front and len(aims) == 2:
        axes.step(*_points(front, x, y).T, where="post" if aims[x] else "pre", color=BLUE,
                  linewidth=1.1)  # fmt: skip
    draw_intervals(axes, front, x, y)
    looks: list[tuple[str, list[Outcome], dict[str, Any]]] = [
        ("Pareto front", front, {"ms": 7, "mfc": BLUE, "mec": "white", "zorder": 3}),
        ("beaten by another", beaten, {"ms": 5.5, "mfc": PALE, "mec": "white"}),
        ("not feasible", [o for o in done if not o.good], {"ms": 5, "mfc": "white", "mec": PALE}),
    ]
    for label, group, look in looks:
        if group:
            axes.plot(*_points(group, x, y).T, "o", label=label, **look)
    axes.margins(0.12)
    scale_results(axes.xaxis, done, x)
    scale_results(axes.yaxis, done, y)
    _name_front(axes, study, front, x, y)
    legend_above(axes)
    return figure


def _points(group: list[Outcome], x: str, y: str) -> np.ndarray:
    return np.array([(o.numbers[x], o.numbers[y]) for o in group])


def _name_front(axes: Any, study: Study, front: list[Outcome], x: str, y: str) -> None:
    """By the value of the only knob, or by numbers with a list of the knobs beside."""
    asked, aims = list(questions(study)), objectives(study)
    even = np.linspace(0, len(front) - 1, min(len(front), LABELLED)).round().astype(int)
    chosen = [front[i] for i in even]
    values = [[value_title(o.knobs[k]) for k in asked if k in o.knobs] for o in chosen]
    names = [", ".join(v) for v in values]
    if len(asked) > 1:
        names = [str(o.number) for o in chosen]
        lines = [f"{name}: {', '.join(v)}" for name, v in zip(names, values, strict=True)]
        key = ["Trial: " + ",\n  ".join(map(knob_title, asked)), *lines]
        axes.text(1.02, 1, "\n".join(key), transform=axes.transAxes, va="top", fontsize=7.5,
                  linespacing=1.5)  # fmt: skip
    toward = (-1 if aims[x] else 1, -1 if aims[y] else 1)
    label_front(axes, [(o.numbers[x], o.numbers[y]) for o in chosen], names, toward)


@styled
def parallel(study: Study) -> Figure:
    """Each completed trial as a line over its knobs and objectives; the better, the darker."""
    aims, asked = objectives(study), questions(study)
    done = [o for o in outcomes(study) if o.complete and set(aims) <= o.numbers.keys()]
    if not done or not asked:
        return _nothing("no trial is complete")
    columns = {name: Scale.of_knob(distribution) for name, distribution in asked.items()}
    columns |= {name: Scale.of_results([o.numbers[name] for o in done]) for name in aims}
    figure = Figure(figsize=(1.7 * len(columns) + 1.4, 3.7), layout="constrained")
    axes = figure.subplots()
    for at, (name, scale) in enumerate(columns.items()):
        title = metric_title(name) if name in aims else knob_title(name)
        draw_column(axes, at, "\n".join(textwrap.wrap(two_lines(title), 25)), scale)
    first, less = next(iter(aims.items()))
    colour = colours_of([o.numbers[first] for o in done], less)
    for trial in sorted(done, key=lambda o: o.numbers[first], reverse=less):  # the best on top
        known = trial.knobs | trial.numbers
        heights = [columns[n].share(known[n]) if n in known else np.nan for n in columns]
        shade: Any = colour.to_rgba(np.array(trial.numbers[first]))
        style: Any = "-" if trial.good else (0, (2, 2))
        axes.plot(heights, color=shade, linestyle=style, linewidth=1.3)
    axes.set(xlim=(-0.25, len(columns) - 0.95), ylim=(-0.04, 1.04))
    axes.set_axis_off()
    bar = figure.colorbar(colour, ax=axes, pad=0.02, aspect=30)
    bar.set_label(two_lines(metric_title(first)))
    bar.outline.set_visible(False)  # type: ignore[operator]
    if not all(o.good for o in done):
        dashed = Line2D([], [], color="0.3", linestyle=(0, (2, 2)), label="not feasible")
        axes.legend(handles=[dashed], loc="upper left", bbox_to_anchor=(0, -0.02))
    return figure


@styled
def energies(study: Study, knob: str) -> Figure:
    """How energies are spread at each setting of ``knob``, as generated and relaxed."""
    width = 2.0 + 0.62 * len(settings(study, knob))
    figure = Figure(figsize=(max(5.2, width), 3.4), layout="constrained")
    draw_spreads(figure.subplots(), study, knob)
    return figure


@styled
def answer_figure(study: Study, knob: str | None = None) -> Figure:
    """The answer to a question about one knob (the first, if it is not named): each objective
    against it, the energies behind, and what it amounts to in words."""
    asked, aims = questions(study), list(objectives(study))
    if not asked:
        return _nothing("no trial has begun")
    chosen = knob or next(iter(asked))
    figure = Figure(figsize=(3.4 * len(aims) + 4.2, 4.1), layout="constrained")
    *left, right = figure.subplots(1, len(aims) + 1, width_ratios=[*(1.0 for _ in aims), 1.2])
    for axes, name in zip(left, aims, strict=True):
        draw_slice(axes, study, chosen, name)
        legend_above(axes)
    draw_spreads(right, study, chosen)
    letters = int(15.5 * figure.get_figwidth())
    question = study.user_attrs.get("definition", {}).get("question", "")
    figure.suptitle(textwrap.fill(question, letters), fontsize=10, fontweight="bold", x=0.01,
                    ha="left")  # fmt: skip
    found = verdict(study, chosen)
    said = in_words(found) if found else "No trial has come to an end that meets the constraints."
    figure.supxlabel(textwrap.fill(said, letters), fontsize=8.5, x=0.01, ha="left", color="0.2")
    return figure


def _nothing(why: str) -> Figure:
    figure = Figure(figsize=(5.0, 1.2), layout="constrained")
    figure.text(0.5, 0.5, textwrap.fill(why, 60), ha="center", va="center", color="0.35")
    return figure
