"""From a sweep's file to a `Sweep` that can be run: what is wrong is said before any trial."""

import difflib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from optuna.distributions import BaseDistribution, CategoricalDistribution
from pydantic import ValidationError
from yaml import YAMLError

from experiments.harness.config.settings import in_words
from experiments.harness.pipeline.stages import NETWORKS, Stage
from experiments.harness.runs.metrics import REPORTED, metrics_of
from experiments.harness.tracking.tracker import has_key
from sweeps.definition.sweep import Sweep

OURS = ("name", "output", "tracking", "sample")
"""Keys of a stage that follow from the trial."""
TRACKING: dict[str, Any] = {
    "mode": None, "project": "surfaces", "entity": None, "group": None, "tags": [], "id": None,
}  # fmt: skip


def read(path: str | Path, overrides: Sequence[str] = ()) -> Sweep:
    """The sweep in a file, with `KEY=VALUE` changed, checked as far as can be before any trial.

    ValueError, in one sentence, for a sweep that could not be run or would say nothing.
    """
    sweep = load(path, overrides)
    check(sweep)
    return sweep


def load(path: str | Path, overrides: Sequence[str] = ()) -> Sweep:
    """The sweep in a file; its name is the file's, unless it says another."""
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"there is no sweep file {path}")
    try:
        content: Any = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
    except (YAMLError, UnicodeDecodeError, OmegaConfBaseException, OSError) as error:
        raise ValueError(f"{path} cannot be read as YAML: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} is no sweep: it holds no KEY: VALUE")
    content = {"name": path.stem} | content
    tracking = content.get("tracking") or {}
    content["tracking"] = TRACKING | tracking if isinstance(tracking, dict) else tracking
    for override in overrides:
        _change(content, override)
    try:
        return Sweep.model_validate(content)
    except ValidationError as error:
        raise ValueError(f"{path}: {in_words(error)}") from error


def _change(content: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    *parents, last = key.split(".")
    if not equals:
        raise ValueError(f"cannot read {override!r} as KEY=VALUE")
    if [*parents, last][0] not in Sweep.model_fields:
        raise ValueError(f"a sweep has no key {key}; --help lists them")
    where: Any = content
    for parent in parents:
        where = where.setdefault(parent, {})
        if not isinstance(where, dict):
            raise ValueError(f"{key}: {parent} holds no keys")
    where[last] = parsed(value)


def parsed(text: str) -> Any:
    """A value as the command line gives it: 0.1 is a number, [a, b] a list, null nothing."""
    try:
        content: Any = OmegaConf.to_container(OmegaConf.create(f"value: {text}"))
    except (YAMLError, OmegaConfBaseException) as error:
        raise ValueError(f"cannot read the value {text!r}") from error
    return content["value"]


def check(sweep: Sweep) -> None:
    """ValueError for what would make trials fail, or the answer meaningless."""
    if "evaluate" in sweep.stages and "sample" not in sweep.stages:
        raise ValueError("stages: evaluate needs the stage sample before it")
    stages = sweep.plan({})
    for name in sweep.space:
        _check_knob(name, stages)
    _check_sampling(sweep)
    for name, distribution in sweep.distributions().items():
        for value in _extremes(distribution):
            _check_point(sweep, name, value)
    _check_metrics(sweep, stages)
    _check_models(sweep, stages)
    if sweep.tracking.mode == "online" and not has_key():
        raise ValueError("tracking.mode=online needs a W&B key: run `wandb login`, or use offline")
    _rehearse(sweep)


def _check_knob(name: str, stages: Mapping[str, Stage]) -> None:
    stage, _, key = name.partition(".")
    if stage not in stages or not key:
        raise ValueError(
            f"space: {name} names no stage of this sweep; a knob is STAGE.KEY, with a stage of "
            f"{', '.join(stages)}"
        )
    if key.split(".")[0] in OURS:
        raise ValueError(f"space: {name} is set by the sweep itself")
    known = _keys(stages[stage].config.plain())
    if key not in known:
        hint = _hint(name, [f"{stage}.{one}" for one in known])
        raise ValueError(f"space: no config has the knob {name}{hint}")


def _extremes(distribution: BaseDistribution) -> Sequence[Any]:
    """What has to be tried, as the sampler would suggest it: 1 of a float is 1.0."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices
    return (distribution.low, distribution.high)  # type: ignore[attr-defined]


def _check_point(sweep: Sweep, name: str, value: Any) -> None:
    try:
        sweep.plan({name: value})
    except ValueError as error:
        raise ValueError(f"space: {name}={value} cannot be used: {error}") from error


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
        for name in (sweep.report.metric, sweep.report.step):
            _require_metric("report", name, REPORTED[sweep.report.stage])


def _is_compared(stages: Mapping[str, Stage]) -> bool:
    """Whether the evaluation will find random search of what is sampled."""
    from experiments.harness.generation.evaluation import (
        reference_set,  # here, and so below: torch takes seconds
    )
    from sdedata import Template, parse_formula

    config, evaluation = stages["sample"].config, stages["evaluate"].config
    template = Template.load(config.template.slab, config.template.z_range or (1.0, 5.0))
    count = sum(parse_formula(config.composition).values())
    middle = np.tile([0.0, 0.0, sum(template.window) / 2], (count, 1))
    example = template.surface(config.composition, middle)
    calculator, relaxation = evaluation.calculator.plain(), evaluation.relaxation.plain()
    return reference_set(evaluation.reference, example, calculator, relaxation) is not None


def _check_sampling(sweep: Sweep) -> None:
    if sweep.pruner is not None and len(sweep.objectives) > 1:
        raise ValueError(
            f"pruner: Optuna prunes no study of {len(sweep.objectives)} objectives; leave the "
            "pruner out, or ask for one objective"
        )
    if (sweep.pruner is None) != (sweep.report is None):
        raise ValueError("pruner and report belong together: give both, or none")
    if not sweep.is_grid:
        if sweep.budget is None:
            raise ValueError("budget is missing: how many trials shall the study have?")
        return
    for name, knob in sweep.space.items():
        if knob.choices is None:
            raise ValueError(f"space: a grid needs choices, and {name} has a range")
    if sweep.trials > sweep.points:
        raise ValueError(f"budget: the grid has {sweep.points} points, not {sweep.trials}")


def _check_models(sweep: Sweep, stages: Mapping[str, Stage]) -> None:
    from experiments.harness.generation.sample import prepare
    from sdedata import shipped

    for name, path in sweep.models.items():
        if not ((Path(path) / "model.pt").is_file() or Path(path).is_file()):
            raise ValueError(
                f"models.{name}: there is no trained network in {path}; the sweeps of this "
                "repository begin with those of `make quickstart`"
            )
    for stage in (stages[name] for name in NETWORKS if name in stages):
        path = stage.config.data.path
        if path not in shipped.names() and not Path(path).is_file():
            raise ValueError(
                f"stage {stage.name}: data.path={path} is no file, and of the shipped sets there "
                f"are {', '.join(shipped.names())}"
            )
    if "sample" not in stages:
        return
    config = stages["sample"].config
    if config.score is None:
        raise ValueError("stages: sample needs the stage score before it, or models.score")
    if config.guide is not None and config.forcefield is None:
        raise ValueError(
            "stages: sample is guided and has no force field: add the stage forcefield or "
            "models.forcefield, or guide=none to the stage sample"
        )
    if not set(NETWORKS) & set(stages):
        prepare(config)  # the networks, and whether they know this slab and overlayer


def _rehearse(sweep: Sweep) -> None:
    """Sampler and pruner at work in memory: what they will not do, they refuse here."""
    try:
        study = optuna.create_study(
            directions=list(sweep.objectives.values()),
            sampler=sweep.make_sampler(0),
            pruner=sweep.make_pruner(),
        )
        for number in range(min(3, sweep.trials)):
            trial = study.ask(sweep.distributions())
            if sweep.report is not None:
                trial.report(float(number), 1)
                trial.should_prune()
            study.tell(trial, [float(number)] * len(sweep.objectives))
    except RuntimeError:
        return  # the grid's way to say that all its points were tried
    except Exception as error:  # whatever it is that Optuna refuses
        raise ValueError(f"sampler or pruner: {error}") from error


def _require_metric(place: str, name: str, known: Collection[str]) -> None:
    if name not in known:
        raise ValueError(f"{place}: no stage of this sweep reports {name}{_hint(name, known)}")


def _hint(name: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(name, sorted(known), 1)
    return f"; did you mean {near[0]}?" if near else ""


def _keys(config: Mapping[str, Any], prefix: str = "") -> list[str]:
    """All keys of a nested config, joined by dots."""
    found = []
    for key, value in config.items():
        found.append(f"{prefix}{key}")
        if isinstance(value, Mapping):
            found += _keys(value, f"{prefix}{key}.")
    return found
