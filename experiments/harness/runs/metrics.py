"""Which numbers a stage reports, by name: what a sweep may ask for before anything has run."""

from collections.abc import Iterable

_TRAINING = {
    "train/step", "train/loss", "train/learning_rate", "train/grad_norm",
    "train/structures_per_second", "val/loss",
}  # fmt: skip
REPORTED: dict[str, frozenset[str]] = {
    "forcefield": frozenset(_TRAINING | {"forcefield/energy_mae", "forcefield/force_mae"}),
    "score": frozenset(_TRAINING),
    "sample": frozenset(),
    "evaluate": frozenset(),
}
"""In the rows that a stage logs while it is at work."""


def _energies(name: str, more: tuple[str, ...] = ()) -> set[str]:
    return {f"{name}/energy_{key}" for key in ("mean", "min", "p10", "median", "p90", "std", *more)}


_ABSOLUTE = ("mean_abs", "min_abs", "p10_abs", "median_abs")
_RESULTS: dict[str, set[str]] = {
    "forcefield": {"forcefield/loss", "forcefield/energy_mae", "forcefield/force_mae"},
    "score": {"score/loss"},
    "sample": {"gen/n", "gen/frac_finite", "gen/structures_per_second"}
    | _energies("gen_predicted"),
    "evaluate": {
        "gen/n", "gen/frac_finite", "gen/frac_valid", "gen/frac_unique", "gen/failed",
        "gen/relax_steps_mean", "gen/hit_rate", "gen/frac_below_reference",
        "gen_relaxed/frac_converged", "rss/hit_rate", "rss/n", "rss/relax_steps_mean",
        "rss/energy_mean", "rss/energy_median",
    } | _energies("gen", _ABSOLUTE) | _energies("gen_relaxed", _ABSOLUTE),
}  # fmt: skip


def metrics_of(stages: Iterable[str], guided: bool = True, compared: bool = True) -> frozenset[str]:
    """What the summary of a pipeline of these stages holds, and runs can be compared by.

    guided    a force field is there to predict the energies of samples
    compared  there is random search to compare with; energies are above its minimum. Without it
              they are above the run's own, and only the absolute ones compare
    """
    found = {"seconds/all"}
    for stage in stages:
        found |= _RESULTS[stage] | {f"seconds/{stage}"}
    if not guided:
        found -= _energies("gen_predicted")
    if not compared:
        found -= {"gen/hit_rate", "gen/frac_below_reference"} | _energies("gen")
        found -= _energies("gen_relaxed") | {name for name in found if name.startswith("rss/")}
    return frozenset(found)


ENERGY_UNIT = "eV above the reference minimum"
_SETS = {"gen": "generated", "gen_relaxed": "relaxed", "gen_predicted": "by the force field"}
_STATISTICS = {"median": "Median energy", "mean": "Mean energy", "min": "Lowest energy"}
_TITLES = {
    "gen/hit_rate": "Hit rate",
    "gen/frac_finite": "Share of finite structures",
    "gen/frac_valid": "Share of valid structures",
    "gen/structures_per_second": "Structures sampled per second",
    "score/loss": "Validation loss of the score",
    "forcefield/loss": "Validation loss of the force field",
    "seconds/all": "Time of the whole trial (s)",
}


def metric_title(metric: str) -> str:
    """Return what a metric is, with its unit in brackets; its own name if that is all there is."""
    name, _, statistic = metric.partition("/energy_")
    if name in _SETS and statistic in _STATISTICS:
        return f"{_STATISTICS[statistic]}, {_SETS[name]} ({ENERGY_UNIT})"
    return _TITLES.get(metric, metric)
