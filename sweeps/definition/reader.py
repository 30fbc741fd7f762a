"""Read a sweep's file and check it: errors are reported before any trial runs."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from optuna.distributions import CategoricalDistribution

from experiments.harness.config.suggestions import hint
from experiments.harness.pipeline import checks, experiment
from experiments.harness.pipeline.promised import promised
from experiments.harness.pipeline.stages import Stage
from experiments.harness.runs.config_keys import flattened
from experiments.harness.runs.metrics import REPORTED
from experiments.harness.tracking.wandb_variables import mode_of
from sweeps.definition.sweep import Sweep

OWN = ("name", "output", "tracking", "sample")
"""Keys of a stage that the sweep sets for each trial."""


def read(path: str | Path, overrides: Sequence[str] = (), trust: bool = False) -> Sweep:
    """Return the sweep in a file, with `KEY=VALUE` changed, after `check`.

    With `trust` it may name whatever code it wants (`config.trust`).

    ValueError, in one sentence, for a sweep that cannot be run or whose result means nothing.
    """
    sweep = load(path, overrides)
    sweep = sweep.trusting() if trust else sweep
    check(sweep)
    return sweep


def load(path: str | Path, overrides: Sequence[str] = ()) -> Sweep:
    """Return the sweep in a file without `check`; its name is the file's unless it has another."""
    return experiment.read(path, overrides, form=Sweep)


def check(sweep: Sweep) -> None:
    """ValueError for what would make trials fail, or their comparison meaningless."""
    stages = sweep.plan({})
    for name in sweep.space:
        _check_parameter(name, stages)
    _check_sampling(sweep)
    for name, distribution in sweep.distributions.items():
        d: Any = distribution
        for value in d.choices if isinstance(d, CategoricalDistribution) else (d.low, d.high):
            try:
                sweep.plan({name: value})
            except ValueError as error:
                raise ValueError(f"space: {name}={value} cannot be used: {error}") from error
    checks.check(list(stages.values()), sweep.models)
    _check_metrics(sweep, stages)
    mode_of(sweep.tracking.mode)


def _check_parameter(name: str, stages: Mapping[str, Stage]) -> None:
    stage, _, key = name.partition(".")
    if stage not in stages or not key:
        raise ValueError(
            f"space: {name} names no stage of this sweep; a parameter is STAGE.KEY, with a stage "
            f"of {', '.join(stages)}"
        )
    if key.split(".")[0] in OWN:
        raise ValueError(f"space: {name} is set by the sweep itself")
    parts = [one.split(".") for one in flattened(stages[stage].config.plain())]
    known = {".".join([stage, *one[:i]]) for one in parts for i in range(1, len(one) + 1)}
    if name not in known:
        raise ValueError(f"space: no config has the parameter {name}{hint(name, known)}")


def _check_metrics(sweep: Sweep, stages: Mapping[str, Stage]) -> None:
    known, with_reference = (promised(stages.values(), referenced) for referenced in (False, True))
    for place, names in (("objectives", sweep.objectives), ("constraints", sweep.constraints)):
        for name in names:
            if name in with_reference - known:
                raise ValueError(
                    f"{place}: {name} needs random search of the surface to compare with, and none "
                    "is shipped for this cell, overlayer, calculator and relaxation: give evaluate "
                    "reference=FILE, or choose an absolute energy (gen_relaxed/energy_median_abs)"
                )
            _require_metric(place, name, known)
    if sweep.report is not None:
        if sweep.report.stage not in stages:
            raise ValueError(f"report: {sweep.report.stage!r} is no stage of this sweep")
        reported = REPORTED.get(stages[sweep.report.stage].kind, frozenset())
        _require_metric("report", sweep.report.metric, reported)


def _check_sampling(sweep: Sweep) -> None:
    if sweep.pruner is not None and len(sweep.objectives) > 1:
        raise ValueError(
            f"pruner: Optuna prunes no study of {len(sweep.objectives)} objectives; leave the "
            "pruner out, or choose one objective"
        )
    if (sweep.pruner is None) != (sweep.report is None):
        raise ValueError("pruner and report belong together: give both, or none")
    ranges = [name for name, parameter in sweep.space.items() if parameter.choices is None]
    if sweep.is_grid and ranges:
        raise ValueError(f"space: a grid needs choices, and {ranges[0]} has a range")
    if sweep.is_grid and sweep.trials > sweep.points:
        raise ValueError(f"budget: the grid has {sweep.points} points, not {sweep.trials}")
    if not sweep.is_grid and sweep.budget is None:
        raise ValueError("budget is missing: the number of trials of the study")
    try:
        sweep.make_sampler(0)
        sweep.make_pruner()
    except Exception as error:  # whatever Optuna refuses
        raise ValueError(f"sampler or pruner: {error}") from error


def _require_metric(place: str, name: str, known: Collection[str]) -> None:
    if name not in known:
        raise ValueError(f"{place}: no stage of this sweep reports {name}{hint(name, known)}")
