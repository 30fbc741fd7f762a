"""Read a sweep's file and check it: errors are reported before any trial runs."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from optuna.distributions import CategoricalDistribution

from experiments.harness.pipeline import experiment
from experiments.harness.pipeline.kinds import hint
from experiments.harness.pipeline.stages import Stage
from experiments.harness.runs.metrics import REPORTED, metrics_of
from experiments.harness.runs.run_folder import flattened
from experiments.harness.tracking.tracker import has_key
from sweeps.definition.sweep import Sweep

OWN = ("name", "output", "tracking", "sample")
"""Keys of a stage that the sweep sets for each trial."""


def read(path: str | Path, overrides: Sequence[str] = ()) -> Sweep:
    """Return the sweep in a file, with `KEY=VALUE` changed, after `check`.

    ValueError, in one sentence, for a sweep that cannot be run or whose result means nothing.
    """
    sweep = load(path, overrides)
    check(sweep)
    return sweep


def load(path: str | Path, overrides: Sequence[str] = ()) -> Sweep:
    """Return the sweep in a file without `check`; its name is the file's unless it has another."""
    return experiment.read(path, overrides, form=Sweep)


def check(sweep: Sweep) -> None:
    """ValueError for what would make trials fail, or their comparison meaningless."""
    if "evaluate" in sweep.stages and "sample" not in sweep.stages:
        raise ValueError("stages: evaluate needs the stage sample before it")
    stages = sweep.plan({})
    for name in sweep.space:
        _check_parameter(name, stages)
    _check_sampling(sweep)
    for name, distribution in sweep.distributions().items():
        d: Any = distribution
        for value in d.choices if isinstance(d, CategoricalDistribution) else (d.low, d.high):
            try:
                sweep.plan({name: value})
            except ValueError as error:
                raise ValueError(f"space: {name}={value} cannot be used: {error}") from error
    _check_models(sweep, stages)
    _check_metrics(sweep, stages)
    if sweep.tracking.mode == "online" and not has_key():
        raise ValueError("tracking.mode=online needs a W&B key: run `wandb login`, or use offline")


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
    guided = "sample" in stages and stages["sample"].config.forcefield is not None
    compared = "evaluate" in stages and _is_compared(stages)
    known = metrics_of(sweep.stages, guided, compared)
    for place, names in (("objectives", sweep.objectives), ("constraints", sweep.constraints)):
        for name in names:
            if not compared and name in metrics_of(sweep.stages, guided) - known:
                raise ValueError(
                    f"{place}: {name} needs random search of the surface to compare with, and none "
                    "is shipped for this cell, overlayer, calculator and relaxation: give evaluate "
                    "reference=FILE, or ask for an absolute energy (gen_relaxed/energy_median_abs)"
                )
            _require_metric(place, name, known)
    if sweep.report is not None:
        if sweep.report.stage not in sweep.stages:
            raise ValueError(f"report: {sweep.report.stage!r} is no stage of this sweep")
        _require_metric("report", sweep.report.metric, REPORTED[sweep.report.stage])


def _is_compared(stages: Mapping[str, Stage]) -> bool:
    """Return whether random search of the sampled surface is there to compare with."""
    from experiments.harness.generation.reference import reference_set  # here: it imports torch
    from sdedata import Template, parse_formula

    config, evaluation = stages["sample"].config, stages["evaluate"].config
    template = Template.load(config.template.slab, config.template.z_range or (1.0, 5.0))
    count = sum(parse_formula(config.composition).values())
    middle = np.tile([0.0, 0.0, sum(template.window) / 2], (count, 1))
    example = template.surface(config.composition, middle)
    calculator = _calculator(stages)
    if calculator is None:
        raise ValueError(
            "stages: evaluate needs calculator=NAME, as the score's data do not record theirs"
        )
    relaxation = evaluation.relaxation.plain()
    return reference_set(evaluation.reference, example, calculator, relaxation) is not None


def _calculator(stages: Mapping[str, Stage]) -> dict[str, Any] | None:
    """Return the evaluation's calculator, or that of the data which the score learns from."""
    from experiments.harness.training.checkpoint import load_model  # here: they import torch
    from experiments.harness.training.data import load_set

    chosen = stages["evaluate"].config.calculator
    if chosen is not None:
        return chosen.plain()
    score = Path(stages["sample"].config.score)
    training = next((one for one in stages.values() if one.folder == score), None)
    if training is None:
        return load_model(score, "score").card["calculator"]
    data = training.config.data.path
    search = next((one for one in stages.values() if one.folder in Path(data).parents), None)
    return (
        load_set(data).meta.get("calculator")
        if search is None
        else search.config.calculator.plain()
    )


def _check_sampling(sweep: Sweep) -> None:
    if sweep.pruner is not None and len(sweep.objectives) > 1:
        raise ValueError(
            f"pruner: Optuna prunes no study of {len(sweep.objectives)} objectives; leave the "
            "pruner out, or ask for one objective"
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


def _check_models(sweep: Sweep, stages: Mapping[str, Stage]) -> None:
    for name, path in sweep.models.items():
        if not ((Path(path) / "model.pt").is_file() or Path(path).is_file()):
            raise ValueError(
                f"models.{name}: there is no trained network in {path}; the sweeps of this "
                "repository begin with those of `make quickstart`"
            )
    config = stages["sample"].config if "sample" in stages else None
    if config is not None and config.score is None:
        raise ValueError("stages: sample needs the stage score before it, or models.score")
    if config is not None and config.guide is not None and config.forcefield is None:
        raise ValueError(
            "stages: sample is guided and has no force field: add the stage forcefield or "
            "models.forcefield, or guide=none to the stage sample"
        )


def _require_metric(place: str, name: str, known: Collection[str]) -> None:
    if name not in known:
        raise ValueError(f"{place}: no stage of this sweep reports {name}{hint(name, known)}")
