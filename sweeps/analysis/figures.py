"""Figures of a study: Optuna's own, and energies by setting, which it has none of."""

import warnings
from itertools import product
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import optuna.visualization.matplotlib as plots
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from optuna.importance import PedAnovaImportanceEvaluator

from experiments.harness.figures.style import COLOURS, styled
from experiments.harness.runs.metrics import ENERGY_UNIT, metric_title
from sweeps.analysis.table import Trials, parameter_title

SETS = {"gen": ("as generated", COLOURS[4]), "gen_relaxed": ("relaxed", COLOURS[0])}
FEWEST = 8
"""Completed trials from which importances are drawn; below some 50 they are a hint, no more."""
BEYOND = 4.0
"""Energies that reach so many times higher than is usual are cut off."""


def figures(trials: Trials) -> dict[str, Figure]:
    """Return all figures of a study, by a name that a file can have."""
    found: dict[str, Figure] = {}
    for i, objective in enumerate(trials.objectives if len(trials.complete) else ()):
        suffix = f"_{i + 1}" if len(trials.objectives) > 1 else ""
        found |= {kind + suffix: one for kind, one in optunas(trials, objective).items()}
    if len(trials.objectives) in (2, 3) and len(trials.best):
        names = [_title(name) for name in trials.objectives]
        found["pareto"] = _drawn(plots.plot_pareto_front, trials, target_names=names)
    for parameter, label in product(trials.questions, _labels(trials)):
        name = "_".join(filter(None, ["energies", parameter_title(parameter), label]))
        found[name] = energies(trials, parameter, label)
    return found


def _labels(trials: Trials) -> list[str]:
    """Return the labels of evaluations with energies, "" for one without a label."""
    parts = [name.rpartition("/") for name in trials.energies["set"].unique()]
    return sorted({label for label, _, kind in parts if kind in SETS})


def optunas(trials: Trials, objective: str) -> dict[str, Figure]:
    """Return Optuna's figures of an objective; importances are PED-ANOVA's."""
    i = list(trials.objectives).index(objective)
    several = {"target": lambda trial: trial.values[i]} if len(trials.objectives) > 1 else {}
    about: dict[str, Any] = {"target_name": _title(objective)} | several
    found = {"history": _drawn(plots.plot_optimization_history, trials, **about)}
    about["params"] = varied = [p for p in trials.questions if trials.complete[p].notna().any()]
    if varied:
        found["slice"] = _drawn(plots.plot_slice, trials, len(varied), **about)
    if len(varied) > 1:
        found["parallel"] = _drawn(plots.plot_parallel_coordinate, trials, len(varied), **about)
    done = len(trials.complete)
    if len(varied) > 1 and done >= FEWEST:
        sign = 1 if trials.objectives[objective] else -1
        about["target"] = lambda trial: sign * trial.values[i]  # the evaluator takes the lowest
        quantile = np.clip(5 / done, 0.1, 0.5)
        about["evaluator"] = PedAnovaImportanceEvaluator(target_quantile=quantile)
        found["importances"] = _drawn(plots.plot_param_importances, trials, **about)
        found["importances"].axes[0].set_title(f"Importances, from {done} trials")
    return found


def _drawn(plot: Any, trials: Trials, panels: int = 1, **about: Any) -> Figure:
    """Call one of Optuna's functions, and leave pyplot's settings as they were."""
    with matplotlib.rc_context({"backend": "agg"}), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # experimental; a layout that pyplot cannot keep
        axes = np.ravel(np.asarray(plot(trials.study, **about), dtype=object))[0]
        if axes.get_legend() is not None:  # Optuna puts it beside the axes, as wide as they are
            axes.legend(loc="best")
        axes.figure.set_size_inches(max(6.4, 3.2 * panels + 1.6), 4.0)
        axes.figure.tight_layout()
        plt.close(axes.figure)
    return axes.figure


def _title(metric: str) -> str:
    return metric_title(metric).replace(" (", "\n(")


@styled
def energies(trials: Trials, parameter: str, label: str = "") -> Figure:
    """Draw the energies at each setting: 10 to 90 % as bars, the median of each trial as a point.

    Hollow bars are settings without a feasible trial. With a label, of that evaluation.
    """
    prefix = f"{label}/" if label else ""
    settings = trials.settings(parameter)
    figure = Figure(figsize=(max(5.2, 2.0 + 0.75 * len(settings)), 3.4), layout="constrained")
    axes, tops = figure.subplots(), []
    for place, rows in enumerate(settings.values()):
        for name, off in zip(SETS, (-0.19, 0.19), strict=True):
            found = [trials.energies_of([slot], f"{prefix}{name}") for slot in rows.index]
            feasible = bool(rows["feasible"].astype(bool).any())
            tops += _draw_bar(axes, place + off, found, feasible, SETS[name][1])
    usual = [top for top in tops if top <= BEYOND * np.median(tops)]
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    if 0 < len(usual) < len(tops):
        axes.set_ylim(top=1.3 * max(usual))
    handles: list[Any] = [Patch(facecolor=c, alpha=0.4, label=n) for n, c in SETS.values()]
    reference = trials.complete.get(f"{prefix}rss/energy_median", pd.Series(dtype=float)).unique()
    if len(reference) == 1 and not pd.isna(reference[0]):
        look: Any = {"color": "black", "linestyle": (0, (4, 2)), "linewidth": 1.1}
        axes.axhline(float(reference[0]), zorder=1, **look)
        handles.append(Line2D([], [], label="random search (median)", **look))
    axes.set_xticks(range(len(settings)), list(settings))
    if sum(map(len, settings)) > 48:  # letters, which would overlap
        axes.tick_params(axis="x", rotation=40)
    axes.set(xlim=(-0.6, max(1, len(settings)) - 0.4), xlabel=parameter_title(parameter))
    axes.set_ylabel(f"Energies: 10 to 90 %, medians of trials\n({ENERGY_UNIT})")
    axes.legend(handles=handles, loc="lower left", bbox_to_anchor=(0, 1), ncols=3)
    return figure


def _draw_bar(
    axes: Axes, place: float, trials: list[np.ndarray], feasible: bool, colour: str
) -> list[float]:
    """Draw one set of energies of a setting's trials; returns its upper end, if it has any."""
    trials = [energies for energies in trials if len(energies)]
    if not trials:
        return []
    low, high = np.quantile(np.concatenate(trials), [0.1, 0.9])
    look: Any = {"facecolor": colour, "alpha": 0.35} if feasible else {"facecolor": "none"}
    axes.bar(place, high - low, 0.3, low, edgecolor=colour, **look)
    medians = [np.median(energies) for energies in trials]
    offsets = np.linspace(-0.08, 0.08, len(medians)) if len(medians) > 1 else np.zeros(1)
    axes.plot(place + offsets, medians, "o", ms=4, color=colour, mfc=colour if feasible else "w")
    return [float(high)]
