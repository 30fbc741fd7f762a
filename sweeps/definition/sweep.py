"""A sweep: a claim and its stages, as of an experiment, with a space and objectives, in YAML.

`sweeps/eta.yaml` is an example; `sweeps/README.md` explains the keys.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import optuna
from annotated_types import Ge
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from pydantic import Field

from experiments.harness.config.fields import Count, Target
from experiments.harness.config.instantiate import build
from experiments.harness.config.settings import Tracking
from experiments.harness.config.trust import require_known
from experiments.harness.pipeline import stages as pipeline
from experiments.harness.pipeline.experiment import ClaimAndStages, Text
from experiments.harness.runs.config_keys import flattened
from sweeps.definition.parameter import Bound, Parameter, Report

Direction = Literal["minimize", "maximize"]
COMPARED = ("space", "stages", "models", "objectives", "constraints", "seed")
"""Keys that may not change under one name: the trials could not be compared."""

optuna.logging.set_verbosity(optuna.logging.ERROR)  # the worker logs its own lines


class Sweep(ClaimAndStages):
    """One question, what a trial runs, what it varies and its objectives."""

    question: Text
    space: Annotated[dict[str, Parameter], Field(min_length=1)]
    objectives: Annotated[dict[str, Direction], Field(min_length=1)]
    constraints: dict[str, Bound] = {}
    sampler: Target
    pruner: Target | None = None
    report: Report | None = None
    budget: Count | None = None
    retries: Annotated[int, Ge(0)] = 3
    tracking: Tracking = Tracking()
    _trust: bool = False

    @property
    def is_grid(self) -> bool:
        return self.sampler.target.endswith(".GridSampler")

    @property
    def points(self) -> int:
        """The number of points of a grid."""
        return math.prod(len(parameter.choices or []) for parameter in self.space.values())

    @property
    def trials(self) -> int:
        """The budget: how many trials the study has, over all workers and restarts."""
        return self.points if self.budget is None else self.budget

    @cached_property
    def distributions(self) -> dict[str, BaseDistribution]:
        """The space as Optuna's; ValueError for a range that does not suit its value."""
        stages = self.plan({})
        found = {}
        for name, parameter in self.space.items():
            stage, _, key = name.partition(".")
            value = flattened(stages[stage].config.plain()).get(key)
            try:
                found[name] = parameter.distribution(type(value) is int)
            except ValueError as error:
                raise ValueError(f"space.{name}: {error}") from error
        return found

    def grid(self) -> list[dict[str, Any]]:
        """Return the points in the order of Optuna's GridSampler; slot n runs point n."""
        space: dict[str, Any] = {n: p.choices or [] for n, p in self.space.items()}
        sampler = self._built(self.sampler, search_space=space, seed=self.seed)
        study = optuna.create_study(sampler=sampler)
        return [study.ask(self.distributions).params for _ in range(self.points)]

    def suggest(self, trial: optuna.Trial) -> dict[str, Any]:
        """Return the point of the space that the study's sampler chooses for this trial."""

        def one(name: str, d: Any) -> Any:
            if isinstance(d, CategoricalDistribution):
                return trial.suggest_categorical(name, d.choices)
            whole = isinstance(d, IntDistribution)
            suggest: Any = trial.suggest_int if whole else trial.suggest_float
            return suggest(name, d.low, d.high, step=d.step, log=d.log)

        return {name: one(name, d) for name, d in self.distributions.items()}

    def plan(
        self, params: Mapping[str, Any], home: Path = Path("runs"), **more: Any
    ) -> dict[str, pipeline.Stage]:
        """Return the stages of a trial by name, composed and checked (see `pipeline.plan`)."""
        stages = {name: list(overrides) for name, overrides in self.stages.items()}
        for name, value in params.items():
            stage, _, key = name.partition(".")
            stages[stage].append(f"{key}={value if isinstance(value, str) else json.dumps(value)}")
        planned = pipeline.plan(stages, home, models=self.models, **more)
        for one in () if self._trust else planned:
            require_known(one.config.plain(), f"sweep {self.name}, stage {one.name},")
        return {stage.name: stage for stage in planned}

    def trial_seed(self, slot: int) -> int:
        """Return the seed of a trial: another one for each slot, the same for all its attempts."""
        text = f"{self.name}/{self.seed}/{slot}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") % 2**31

    def make_sampler(self, seed: int) -> optuna.samplers.BaseSampler:
        """Return the sampler; of a grid every point is enqueued already (see `grid`)."""
        if self.is_grid:
            return optuna.samplers.RandomSampler(seed)
        return self._built(self.sampler, seed=seed)

    def make_pruner(self) -> optuna.pruners.BasePruner:
        return self._built(self.pruner) if self.pruner else optuna.pruners.NopPruner()

    def trusting(self) -> Self:
        """Return a copy that builds whatever it names, as the user asked for."""
        copy = self.model_copy()
        copy._trust = True
        return copy

    def _built(self, node: Target, **arguments: Any) -> Any:
        if not self._trust:
            require_known(node.plain(), f"sweep {self.name}")
        return build(node, **arguments)

    def definition(self) -> dict[str, Any]:
        """Return all of it except where it is tracked, as JSON values."""
        return self.model_dump(by_alias=True, exclude_none=True, exclude={"tracking"})

    def comparable(self) -> dict[str, Any]:
        """Return the part of the definition that may not change under one name."""
        return {key: value for key, value in self.definition().items() if key in COMPARED}

    def digests(self) -> dict[str, str]:
        """Return a digest of each file of `models`, which may be trained anew in the same place."""
        from experiments.harness.training.checkpoint import digest  # here: it imports torch

        files = {name: Path(path) for name, path in self.models.items()}
        files = {n: f / "model.pt" if f.is_dir() else f for n, f in files.items()}
        return {name: digest(file) for name, file in files.items() if file.is_file()}
