"""Metrics, knobs and values as a reader calls them."""

from typing import Any

_SETS = {"gen": "generated", "gen_relaxed": "relaxed", "gen_predicted": "by the force field"}
_STATISTICS = {
    "median": "Median energy",
    "mean": "Mean energy",
    "min": "Lowest energy",
    "p10": "10 % quantile of energy",
    "p90": "90 % quantile of energy",
}
ENERGY_UNIT = "eV above the reference minimum"
_STAGES = {"forcefield": "training the force field", "score": "training the score",
           "sample": "sampling", "evaluate": "evaluation", "all": "the whole trial"}  # fmt: skip
_METRICS = {
    "gen/hit_rate": "Hit rate",
    "gen/frac_finite": "Share of finite structures",
    "gen/frac_valid": "Share of valid structures",
    "gen/frac_unique": "Share of different structures",
    "gen/frac_below_reference": "Share below random search's lowest",
    "gen_relaxed/frac_converged": "Share of converged relaxations",
    "gen/relax_steps_mean": "Relaxation steps per structure",
    "gen/structures_per_second": "Structures sampled per second",
    "score/loss": "Validation loss of the score",
    "forcefield/loss": "Validation loss of the force field",
    "forcefield/energy_mae": "Energy MAE (meV/atom)",
    "forcefield/force_mae": "Force MAE (meV/Å)",
}


def metric_title(metric: str) -> str:
    """What a metric is, with its unit in brackets; its own name where that is all there is."""
    name, _, statistic = metric.partition("/energy_")
    if name in _SETS and statistic in _STATISTICS:
        return f"{_STATISTICS[statistic]}, {_SETS[name]} ({ENERGY_UNIT})"
    kind, _, stage = metric.partition("/")
    if kind == "seconds" and stage in _STAGES:
        return f"Time of {_STAGES[stage]} (s)"
    return _METRICS.get(metric, metric)


def two_lines(title: str) -> str:
    """A long title with its unit on a line of its own."""
    return title.replace(" (", "\n(") if len(title) > 34 else title


def knob_title(knob: str) -> str:
    """A knob without its stage: ``sample.guide.eta_dt`` is ``guide.eta_dt``."""
    return knob.partition(".")[2] or knob


def value_title(value: Any, digits: int = 3) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.{digits}g}" if isinstance(value, float) else str(value)
