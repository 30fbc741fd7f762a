"""What a study says, as plain data: its trials, the best of them, and how sure that is."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from optuna import Study
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from experiments.harness.runs.energies import finite
from sweeps.analysis.names import value_title
from sweeps.analysis.uncertainty import Estimate, Sample, Scatter, estimate, scatter
from sweeps.execution.study import FAILURE, STATES, attempts

METRICS = (
    "gen_relaxed/energy_median",
    "gen/energy_median",
    "gen/hit_rate",
    "gen/frac_finite",
    "gen/frac_valid",
    "gen/frac_unique",
    "seconds/all",
)
"""Columns of the table of trials beside its objectives."""
STATISTICS = {"p10": 0.1, "median": 0.5, "p90": 0.9, "mean": None}
"""Metrics ``<set>/energy_<statistic>`` of which an interval can be given, as quantiles."""
MOST, BINS = 12, 8
"""More different numbers than MOST are pooled into BINS settings of neighbours."""
ENOUGH_FOR_IMPORTANCES, ENOUGH_TO_TRUST = 8, 50
"""Completed trials; the best tenth, which is looked at, should be five trials or more."""


@dataclass(frozen=True)
class Outcome:
    """What became of one trial of the budget, in its last attempt."""

    number: int
    trial: FrozenTrial
    objectives: tuple[str, ...]

    @property
    def state(self) -> str:
        return STATES[self.trial.state]

    @property
    def knobs(self) -> dict[str, Any]:
        return self.trial.params

    @property
    def complete(self) -> bool:
        return self.trial.state == TrialState.COMPLETE

    @property
    def feasible(self) -> bool | None:
        """Whether it met every constraint; None if it never came so far."""
        excess = self.trial.constraints.values()
        return all(value <= 0 for value in excess) if excess or self.complete else None

    @property
    def good(self) -> bool:
        return self.complete and self.feasible is True

    @property
    def retries(self) -> int:
        return len(self.trial.system_attrs.get("retry_history", []))

    @property
    def reason(self) -> str | None:
        """Why it has no result."""
        if self.state == "failed":
            return self.trial.user_attrs.get(FAILURE) or "its worker died"
        return f"pruned at step {self.trial.last_step}" if self.state == "pruned" else None

    @cached_property
    def numbers(self) -> dict[str, float]:
        """Every finite number that it reported: metrics and, if it is complete, objectives."""
        found = dict(self.trial.user_attrs.get("metrics") or {})
        if self.complete:
            found |= zip(self.objectives, self.trial.values, strict=True)
        return {key: float(value) for key, value in found.items() if is_number(value)}

    def energies(self, name: str) -> np.ndarray:
        """Energies (eV, relative) of its structures, those that are finite."""
        return finite((self.trial.user_attrs.get("energies") or {}).get(name) or [])


@dataclass(frozen=True)
class Setting:
    """The completed trials at one value of a knob, or at neighbouring values ``low`` to ``high``;
    those that met the constraints, if any did."""

    value: Any
    low: Any
    high: Any
    trials: list[Outcome]

    @property
    def feasible(self) -> bool:
        return all(outcome.good for outcome in self.trials)


def outcomes(study: Study) -> list[Outcome]:
    """Each trial of the budget once, however often it was tried."""
    names = tuple(objectives(study))
    return [Outcome(number, trial, names) for number, trial in sorted(attempts(study).items())]


def objectives(study: Study) -> dict[str, bool]:
    """Name of each objective, and whether less of it is better."""
    names = list(study.user_attrs.get("definition", {}).get("objectives", {}))
    if len(names) != len(study.directions):
        names = [f"objective {i}" for i in range(len(study.directions))]
    less = (direction == StudyDirection.MINIMIZE for direction in study.directions)
    return dict(zip(names, less, strict=True))


def knobs(study: Study) -> dict[str, Any]:
    """The distribution of each knob that was turned, in the order of the definition."""
    found: dict[str, Any] = {}
    for trial in study.get_trials(deepcopy=False):
        found |= trial.distributions
    order = list(study.user_attrs.get("definition", {}).get("space", {}))
    return {name: found[name] for name in dict.fromkeys([*order, *found]) if name in found}


def questions(study: Study) -> dict[str, Any]:
    """``knobs`` without seeds, which only repeat what the others do."""
    return {name: d for name, d in knobs(study).items() if name.split(".")[-1] != "seed"}


def trials_table(study: Study) -> tuple[list[str], list[list[Any]]]:
    """Columns, and one row per trial of the budget; None where there is no (finite) number."""
    names, turned = list(objectives(study)), list(knobs(study))
    metrics = [*names, *(metric for metric in METRICS if metric not in names)]
    columns = ["number", "state", *turned, *metrics, "feasible", "retries", "reason"]
    rows = []
    for outcome in outcomes(study):
        values = [outcome.knobs.get(knob) for knob in turned]
        results = [outcome.numbers.get(metric) for metric in metrics]
        ending = [outcome.feasible, outcome.retries, outcome.reason]
        rows.append([outcome.number, outcome.state, *values, *results, *ending])
    return columns, rows


def best(study: Study) -> list[Outcome]:
    """The best that met the constraints; of several objectives the Pareto front, in the order of
    the first one. Empty if none did."""
    numbers = {trial.number for trial in study.best_trials}
    front = [outcome for outcome in outcomes(study) if outcome.trial.number in numbers]
    return sorted(front, key=lambda outcome: outcome.trial.values)


def settings(study: Study, knob: str) -> list[Setting]:
    """Completed trials by the value of ``knob``: numbers in order, choices as they were given."""
    done = [outcome for outcome in outcomes(study) if outcome.complete and knob in outcome.knobs]
    values = list({outcome.knobs[knob] for outcome in done})
    numeric = all(is_number(value) for value in values)
    values.sort(key=None if numeric else knobs(study)[knob].choices.index)
    groups = [[value] for value in values]
    if numeric and len(values) > MOST:
        groups = [[values[i] for i in part] for part in np.array_split(range(len(values)), BINS)]
    found = []
    for group in groups:
        here = [outcome for outcome in done if outcome.knobs[knob] in group]
        kept = [outcome for outcome in here if outcome.good] or here
        found.append(Setting(group[len(group) // 2], group[0], group[-1], kept))
    return found


def estimates(found: Sequence[Setting], metric: str) -> list[Estimate]:
    """``measured`` of each setting, with the scatter between trials that all of them show."""
    samples = [sample_of(setting.trials, metric) for setting in found]
    between = scatter([sample for sample, _ in samples], samples[0][1]) if samples else None
    return [measured(setting.trials, metric, between) for setting in found]


def measured(trials: Sequence[Outcome], metric: str, between: Scatter | None = None) -> Estimate:
    """A metric over several trials: of their pooled energies, with an interval, if it is a
    statistic of energies; else the median over the trials, without."""
    sample, q = sample_of(trials, metric)
    if sample:
        return estimate(sample, q, between)
    values = [o.numbers[metric] for o in trials if metric in o.numbers]
    return Estimate(float(np.median(values)) if values else math.nan)


def importances(study: Study) -> dict[str, dict[str, float]] | None:
    """Share of each knob (their sum is 1) in what makes a trial one of the best, per objective.

    None with only one knob, or fewer completed trials than ``ENOUGH_FOR_IMPORTANCES``; below
    ``ENOUGH_TO_TRUST`` they say little.
    """
    done = [outcome for outcome in outcomes(study) if outcome.complete]
    asked = [name for name in questions(study) if any(name in o.knobs for o in done)]
    if len(done) < ENOUGH_FOR_IMPORTANCES or len(asked) < 2:
        return None
    evaluator = PedAnovaImportanceEvaluator(target_quantile=max(0.1, min(0.5, 5 / len(done))))
    found = {}
    for i, (name, less) in enumerate(objectives(study).items()):

        def target(trial: FrozenTrial, i: int = i, sign: int = 1 if less else -1) -> float:
            return sign * trial.values[i]

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it minimises `target`: so it shall
            found[name] = get_param_importances(
                study, evaluator=evaluator, params=asked, target=target
            )
    return found


def setting_title(setting: Setting) -> str:
    """Its value, or from where to where."""
    if setting.low == setting.high:
        return value_title(setting.value)
    return f"{value_title(setting.low, 2)} to {value_title(setting.high, 2)}"


def random_search(study: Study) -> float | None:
    """Median energy (eV, relative) of the random search that trials were compared with; None where
    there was none, or not the same for all."""
    found = {o.numbers.get("rss/energy_median") for o in outcomes(study) if o.complete}
    return found.pop() if len(found) == 1 else None


def is_number(value: Any) -> bool:
    """Whether it is a finite number, and not a truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def sample_of(trials: Sequence[Outcome], metric: str) -> tuple[Sample, float | None]:
    """The energies by trial that ``metric`` is a statistic of, and which one; none if it is not."""
    name, _, statistic = metric.partition("/energy_")
    if statistic not in STATISTICS:
        return [], None
    found = [outcome.energies(name) for outcome in trials]
    return [energies for energies in found if len(energies)], STATISTICS[statistic]
