"""A sweep: one question as a YAML file.

`sweeps/eta.yaml` is one, and `sweeps/README.md` says what its keys mean.
"""

import hashlib
import itertools
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import optuna
from annotated_types import Ge
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from pydantic import Field, field_validator, model_validator

from experiments.harness.config.instantiate import build
from experiments.harness.config.settings import Count, Natural, Positive, Section, Target, Tracking
from experiments.harness.pipeline import stages as pipeline
from experiments.harness.runs.run_folder import flattened

Direction = Literal["minimize", "maximize"]
Said = Annotated[str, Field(min_length=1)]

optuna.logging.set_verbosity(optuna.logging.ERROR)  # the sweep's own lines tell what happens


class Knob(Section):
    """What is varied: a range from low to high, or a list of choices."""

    low: float | None = None
    high: float | None = None
    log: bool = False
    step: Positive | None = None
    choices: list[bool | int | float | str] | None = Field(default=None, min_length=1)

    @model_validator(mode="after")
    def _is_range_or_choices(self) -> Self:
        if self.choices is not None:
            if {"low", "high", "log", "step"} & self.model_fields_set:
                raise ValueError("a knob has either choices, or low and high")
            if len(set(map(str, self.choices))) < len(self.choices):
                raise ValueError("a choice is named twice")
        elif self.low is None or self.high is None:
            raise ValueError("a knob needs low and high, or choices")
        elif self.low >= self.high:
            raise ValueError(f"low ({self.low}) must be below high ({self.high})")
        elif self.log and (self.low <= 0 or self.step is not None):
            raise ValueError("log needs low above 0, and no step")
        elif self.step is not None and not _divides(self.step, self.high - self.low):
            raise ValueError(f"steps of {self.step:g} do not lead from low to high")
        return self

    def distribution(self, whole: bool) -> BaseDistribution:
        """As Optuna knows it; `whole`: the config value that the knob turns is a whole number."""
        if self.choices is not None:
            return CategoricalDistribution(self.choices)
        assert self.low is not None and self.high is not None  # noqa: PT018  (as checked above)
        if not whole:
            return FloatDistribution(self.low, self.high, log=self.log, step=self.step)
        numbers = (self.low, self.high, self.step or 1)
        if any(number != int(number) for number in numbers):
            raise ValueError("low, high and step must be whole numbers, as the value itself is")
        low, high, step = map(int, numbers)
        return IntDistribution(low, high, log=self.log, step=step)


def _divides(step: float, width: float) -> bool:
    return math.isclose(width / step, round(width / step), abs_tol=1e-9) and width >= step


class Bound(Section):
    """What a metric must keep to."""

    at_least: float | None = None
    at_most: float | None = None

    @model_validator(mode="after")
    def _is_one_side(self) -> Self:
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError("a constraint has either at_least or at_most")
        return self

    def excess(self, value: float) -> float:
        """How far `value` is beyond the bound: above 0, Optuna takes the trial as infeasible."""
        if self.at_least is not None:
            return self.at_least - value
        assert self.at_most is not None
        return value - self.at_most


class Report(Section):
    """What a pruner looks at while a stage is at work."""

    stage: str
    metric: str
    step: Literal["train/step"] = "train/step"


class Sweep(Section):
    """One question, what a trial is, and what its answer is measured by."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")]
    question: Said
    hypothesis: Said
    reading: Said
    cost: Said
    models: dict[str, str] = {}
    stages: dict[str, list[str]]
    space: Annotated[dict[str, Knob], Field(min_length=1)]
    objectives: Annotated[dict[str, Direction], Field(min_length=1)]
    constraints: dict[str, Bound] = {}
    sampler: Target
    pruner: Target | None = None
    report: Report | None = None
    budget: Count | None = None
    seed: Natural = 0
    retries: Annotated[int, Ge(0)] = 3
    tracking: Tracking

    @field_validator("models")
    @classmethod
    def _are_networks(cls, models: dict[str, str]) -> dict[str, str]:
        for name in models:
            if name not in pipeline.NETWORKS:
                raise ValueError(f"{name} is no network; there are {', '.join(pipeline.NETWORKS)}")
        return models

    # The space

    @property
    def is_grid(self) -> bool:
        return self.sampler.target.endswith(".GridSampler")

    @property
    def points(self) -> int:
        """How many a grid has."""
        return len(list(itertools.product(*(knob.choices or [] for knob in self.space.values()))))

    @property
    def trials(self) -> int:
        """The budget: how many trials the study has, over all workers and restarts."""
        return self.points if self.budget is None else self.budget

    def distributions(self) -> dict[str, BaseDistribution]:
        """As Optuna knows the space; ValueError for a range that does not suit its value."""
        stages = self.plan({})
        found = {}
        for name, knob in self.space.items():
            stage, _, key = name.partition(".")
            value = flattened(stages[stage].config.plain()).get(key)
            try:
                found[name] = knob.distribution(type(value) is int)
            except ValueError as error:
                raise ValueError(f"space.{name}: {error}") from error
        return found

    def suggest(self, trial: optuna.Trial) -> dict[str, Any]:
        """A point of the space, chosen by the study's sampler."""
        params: dict[str, Any] = {}
        for name, d in self.distributions().items():
            match d:
                case FloatDistribution():
                    params[name] = trial.suggest_float(name, d.low, d.high, step=d.step, log=d.log)
                case IntDistribution():
                    params[name] = trial.suggest_int(name, d.low, d.high, step=d.step, log=d.log)
                case CategoricalDistribution():
                    params[name] = trial.suggest_categorical(name, d.choices)
        return params

    # A trial

    def stages_at(self, params: Mapping[str, Any]) -> dict[str, list[str]]:
        """The overrides of each stage, with the knobs turned."""
        turned = {name: list(overrides) for name, overrides in self.stages.items()}
        for name, value in params.items():
            stage, _, key = name.partition(".")
            written = value if isinstance(value, str) else json.dumps(value)
            turned[stage].append(f"{key}={written}")
        return turned

    def plan(
        self,
        params: Mapping[str, Any],
        home: Path = Path("runs"),
        identity: str = "trial",
        **more: Any,
    ) -> dict[str, pipeline.Stage]:
        """The stages of a trial, composed and checked (see `pipeline.plan`)."""
        stages = self.stages_at(params)
        planned = pipeline.plan(stages, home, identity, models=self.models, **more)
        return {stage.name: stage for stage in planned}

    # Optuna's parts

    def make_sampler(self, seed: int) -> optuna.samplers.BaseSampler:
        node = self.sampler.model_dump(by_alias=True)
        if self.is_grid:  # one order for all workers: trial n takes point n
            space = {name: knob.choices for name, knob in self.space.items()}
            return build(node, search_space=space, seed=self.seed)
        return build(node, seed=seed)

    def make_pruner(self) -> optuna.pruners.BasePruner:
        if self.pruner is None:
            return optuna.pruners.NopPruner()
        return build(self.pruner.model_dump(by_alias=True))

    # Identity

    def definition(self) -> dict[str, Any]:
        """All of it but where it is tracked, as JSON knows it."""
        return self.model_dump(by_alias=True, exclude_none=True, exclude={"tracking"})

    def comparable(self) -> dict[str, Any]:
        """What may not change under one name, or its trials could not be compared."""
        keys = ("space", "stages", "models", "objectives", "constraints", "seed")
        return {key: value for key, value in self.definition().items() if key in keys}

    def digests(self) -> dict[str, str]:
        """Of the files of `models`, which may be trained anew in the same place."""
        from experiments.harness.training.checkpoint import digest  # here: it brings torch

        files = {name: Path(path) for name, path in self.models.items()}
        files = {n: f / "model.pt" if f.is_dir() else f for n, f in files.items()}
        return {name: digest(file) for name, file in files.items() if file.is_file()}

    def fingerprint(self) -> str:
        """Of `comparable`."""
        text = json.dumps(self.comparable(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]
