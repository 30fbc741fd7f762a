"""The trials of a study as one table, which is all that the rest of the analysis reads."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import optuna
import pandas as pd
from optuna.storages import RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial, TrialState

from sweeps.definition.parameter import Bound, Parameter
from sweeps.execution.study import FAILURE, STATES, attempts

METRICS = ("gen_relaxed/energy_median", "gen/energy_median", "gen/hit_rate", "gen/frac_finite",
           "gen/frac_valid", "gen/frac_unique", "seconds/all")  # fmt: skip
"""Columns that are shown beside the objectives."""
MOST, BINS = 12, 8
"""More different numbers than MOST are pooled into BINS settings of neighbours."""


@dataclass(frozen=True)
class Trials:
    """The trials of a study, one row for each slot of the budget.

    trials    by slot: state, reason, retries, feasible, every parameter and every metric
    energies  one row for each structure: slot, set (gen, gen_relaxed), index, energy (eV above the
              reference minimum; NaN where a calculation failed)
    """

    name: str
    definition: Mapping[str, Any]
    trials: pd.DataFrame
    energies: pd.DataFrame

    @property
    def objectives(self) -> dict[str, bool]:
        """Each objective, and whether it is minimized."""
        return {name: d == "minimize" for name, d in self.definition["objectives"].items()}

    @property
    def parameters(self) -> list[str]:
        return [name for name in self.definition["space"] if name in self.trials]

    @property
    def questions(self) -> list[str]:
        """The parameters without seeds, which only repeat what the others do."""
        return [name for name in self.parameters if name.split(".")[-1] != "seed"]

    @property
    def counts(self) -> dict[str, int]:
        """The number of trials in each state."""
        return {state: int((self.trials["state"] == state).sum()) for state in STATES.values()}

    @property
    def complete(self) -> pd.DataFrame:
        return self.trials[self.trials["state"] == "complete"]

    @property
    def feasible(self) -> pd.DataFrame:
        """The completed trials that met every constraint."""
        return self.complete[self.complete["feasible"].astype(bool)]

    @cached_property
    def study(self) -> optuna.Study:
        """The rows as a study in memory, for Optuna's own figures and its Pareto front."""
        study = optuna.create_study(directions=list(self.definition["objectives"].values()))
        for slot in self.trials.index:
            study.add_trial(self._frozen(slot))
        return study

    @property
    def best(self) -> pd.DataFrame:
        """The best feasible trial; of several objectives the Pareto front, by the first one."""
        numbers = [] if self.feasible.empty else [t.number for t in self.study.best_trials]
        return self.trials.iloc[numbers].sort_values(list(self.objectives)[:1])

    def settings(self, parameter: str) -> dict[str, pd.DataFrame]:
        """Return the completed trials by the value of a parameter: title and rows, in order.

        Of a setting with feasible trials only those. Many different numbers are pooled with their
        neighbours.
        """
        done = self.complete[self.complete[parameter].notna()]
        values = done[parameter]
        if all(map(is_number, values)) and values.nunique() > MOST:
            numbers = values.astype(float)
            groups = numbers.groupby(pd.qcut(numbers, BINS), observed=True)
            ends = {key: (float(group.min()), float(group.max())) for key, group in groups}
            titles = {k: " to ".join(value_title(end, 2) for end in v) for k, v in ends.items()}
            found = {titles[key]: done.loc[group.index] for key, group in groups}
        else:
            order = self.ordered(parameter, values)
            found = {value_title(value): done[values == value] for value in order}
        feasible = {title: rows["feasible"].astype(bool) for title, rows in found.items()}
        return {t: rows[feasible[t]] if feasible[t].any() else rows for t, rows in found.items()}

    def ordered(self, parameter: str, values: Iterable[Any]) -> list[Any]:
        """Return the different values: numbers by size, others as the sweep lists them."""
        found, choices = set(values), self.definition["space"][parameter].get("choices")
        return sorted(found, key=None if all(map(is_number, found)) else choices.index)

    def energies_of(self, slots: Iterable[int], name: str) -> np.ndarray:
        """Return the finite energies of these trials, of the set called `name`."""
        chosen = (self.energies["set"] == name) & self.energies["slot"].isin(slots)
        return self.energies.loc[chosen, "energy"].dropna().to_numpy(float)

    def shown(self) -> pd.DataFrame:
        """Return the columns that people read, with None where there is no number."""
        metrics = list(dict.fromkeys([*self.objectives, *METRICS]))
        columns = ["state", *self.parameters, *metrics, "feasible", "retries", "reason"]
        table = self.trials.reindex(columns=columns).reset_index(names="number").astype(object)
        return table.where(table.notna(), None)

    def _frozen(self, slot: int) -> FrozenTrial:
        row = self.trials.loc[slot]
        state = next(s for s, name in STATES.items() if name == row["state"])
        params = {n: row[n] for n in self.parameters if not pd.isna(row[n])}
        about: dict[str, Any] = {}
        if state == TrialState.COMPLETE:
            about["values"] = [float(row[n]) for n in self.objectives]
            about["constraints"] = excesses(self.definition, row)
        space = {n: Parameter(**self.definition["space"][n]) for n in params}
        distributions = {n: p.distribution(type(params[n]) is int) for n, p in space.items()}
        return optuna.create_trial(state=state, params=params, distributions=distributions, **about)


def load(study: optuna.Study) -> Trials:
    """Read a study once; returns its trials, each in its current attempt."""
    definition = study.user_attrs["definition"]
    rows = []
    for slot, trial in attempts(study).items():
        values = zip(definition["objectives"], trial.values or [], strict=False)
        row = {"number": slot, "state": STATES[trial.state], "params": trial.params}
        row["metrics"] = (trial.user_attrs.get("metrics") or {}) | dict(values)
        row["energies"] = trial.user_attrs.get("energies") or {}
        row["retries"] = len(RetryHeartbeatStaleTrialCallback.retry_history(trial))
        if trial.state == TrialState.FAIL:
            row["reason"] = trial.user_attrs.get(FAILURE) or "its worker died"
        elif trial.state == TrialState.PRUNED:
            row["reason"] = f"pruned at step {trial.last_step}"
        rows.append(row)
    return from_rows(study.study_name, definition, rows)


def from_rows(name: str, definition: Mapping[str, Any], rows: list[dict[str, Any]]) -> Trials:
    """Return the table of trials given as in a published record (`sweeps/results/*.json`)."""
    columns = ["number", "state", "feasible", "retries", "reason", *definition["objectives"]]
    trials, energies = [], []
    for row in rows:
        one = {"retries": 0} | {k: row[k] for k in columns if k in row} | row["params"]
        one |= {k: float(v) for k, v in row["metrics"].items() if is_number(v)}
        if row["state"] == "complete":
            one["feasible"] = all(value <= 0 for value in excesses(definition, one).values())
        trials.append(one)
        for kind, values in row["energies"].items():
            energies += [(row["number"], kind, i, v) for i, v in enumerate(values)]
    table = pd.DataFrame(trials, dtype=object)
    table = table.reindex(columns=list(dict.fromkeys([*columns, *table.columns])))
    structures = pd.DataFrame(energies, columns=["slot", "set", "index", "energy"])
    structures["energy"] = pd.to_numeric(structures["energy"]).replace([np.inf, -np.inf], np.nan)
    return Trials(name, definition, table.set_index("number"), structures)


def excesses(definition: Mapping[str, Any], row: Any) -> dict[str, float]:
    """Return by how much a completed trial is beyond each constraint."""
    bounds = definition.get("constraints", {})
    return {n: Bound(**bound).excess(float(row.get(n, math.nan))) for n, bound in bounds.items()}


def is_number(value: Any) -> bool:
    """Return whether it is a finite number, and not a truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def parameter_title(parameter: str) -> str:
    """Return a parameter without its stage: ``sample.guide.eta_dt`` is ``guide.eta_dt``."""
    return parameter.partition(".")[2] or parameter


def value_title(value: Any, digits: int = 3) -> str:
    """Return a parameter's value as text."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.{digits}g}" if isinstance(value, float) else str(value)
