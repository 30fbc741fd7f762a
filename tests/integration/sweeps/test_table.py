"""The table of trials holds what Optuna's study holds, each slot once."""

import itertools
import math

import numpy as np
import optuna
import pytest
from optuna.storages import RetryHeartbeatStaleTrialCallback
from optuna.trial import TrialState

from sweeps.analysis.table import BINS, load
from tests.integration.sweeps.studies import (
    ETA,
    MEDIAN,
    SECONDS,
    STEPS,
    THREE,
    add,
    grid,
    search,
    study,
)

ONE = {ETA: {"choices": [0.0, 0.001, 0.01]}}


def test_rows_are_the_slots():
    trials = search(30)
    table = trials.trials
    assert list(table.index) == list(range(32))
    assert trials.counts == {"complete": 24, "pruned": 3, "failed": 3, "running": 1, "waiting": 1}
    assert set(table[table["state"] == "failed"]["reason"]) == {"ValueError: none is finite"}
    assert set(table[table["state"] == "pruned"]["reason"]) == {"pruned at step 30"}
    done = trials.complete
    assert done["feasible"].tolist() == [slot % 8 != 5 for slot in done.index]
    assert (
        done[MEDIAN] == [np.median(trials.energies_of([s], "gen_relaxed")) for s in done.index]
    ).all()
    shown = trials.shown()
    assert list(shown.columns[:6]) == ["number", "state", *THREE, MEDIAN]
    assert shown[MEDIAN].isna().sum() == 8
    assert (shown.loc[done.index, "gen/hit_rate"] == 0.04).all()


def test_a_retried_trial_counts_once_as_its_current_attempt(tmp_path):
    made = optuna.create_study(storage=f"sqlite:///{tmp_path / 's.db'}", study_name="s")
    made.set_user_attr("definition", study(ONE).user_attrs["definition"])
    add(made, 0, {ETA: 0.001}, energies={"gen_relaxed": [0.5] * 6})
    retry = RetryHeartbeatStaleTrialCallback()
    retry(made, add(made, 1, {ETA: 0.01}, TrialState.FAIL))
    again = made.ask()
    made.tell(again, state=TrialState.FAIL)
    retry(made, made.trials[again.number])
    retry(made, made.trials[1])  # a second retry of the first attempt: nobody's
    third = made.ask()
    made.tell(third, 0.4)
    add(made, 2, {ETA: 0.0}, TrialState.FAIL)
    table = load(made).trials
    assert table["state"].tolist() == ["complete", "complete", "failed"]
    assert table["retries"].tolist() == [0, 2, 0]
    assert table.loc[1, [ETA, MEDIAN]].tolist() == [0.01, 0.4]
    assert table.loc[2, "reason"] == "its worker died"


def test_numbers_that_are_not_finite_are_missing():
    made = study(ONE)
    metrics = {MEDIAN: 0.5, "gen/hit_rate": math.nan, "gen/energy_median": math.inf}
    add(made, 0, {ETA: 0.0}, energies={"gen_relaxed": [0.5, math.nan]}, metrics=metrics)
    trials = load(made)
    row = trials.shown().iloc[0]
    assert (row["gen/hit_rate"], row["gen/energy_median"], row[MEDIAN]) == (None, None, 0.5)
    assert trials.energies_of([0], "gen_relaxed").tolist() == [0.5]


@pytest.mark.parametrize("signs", list(itertools.product([1, -1], repeat=2)))
def test_the_pareto_front_is_that_of_brute_force(signs):
    rng = np.random.default_rng(3)
    directions = ["minimize" if sign > 0 else "maximize" for sign in signs]
    made = study(ONE, dict(zip((MEDIAN, SECONDS), directions, strict=True)))
    for i in range(40):
        first, second = rng.integers(0, 8, 2).astype(float)  # with ties
        add(made, i, {ETA: 0.0}, metrics={MEDIAN: first, SECONDS: second}, finite=float(i % 5 > 0))
    trials = load(made)
    points = trials.feasible[[MEDIAN, SECONDS]].to_numpy(float) * signs
    best = [not ((points <= p).all(1) & (points < p).any(1)).any() for p in points]
    assert set(trials.best.index) == set(trials.feasible.index[best])
    assert trials.best[MEDIAN].is_monotonic_increasing


def test_the_best_meets_the_constraints():
    made = study(ONE)
    for slot, (value, finite) in enumerate([(0.1, 0.9), (0.3, 0.97), (0.5, 0.95)]):
        add(made, slot, {ETA: 0.0}, metrics={MEDIAN: value}, finite=finite)
    assert list(load(made).best.index) == [1]
    assert load(study(ONE)).best.empty


def test_settings_pool_repeats_and_leave_out_what_is_not_feasible():
    trials = grid()
    found = trials.settings(ETA)
    assert list(found) == ["0", "0.0001", "0.0003", "0.001", "0.003", "0.01"]
    assert [list(rows.index) for rows in found.values()] == [[2 * i, 2 * i + 1] for i in range(6)]
    assert [rows["feasible"].all() for rows in found.values()] == [True] * 5 + [False]
    assert trials.questions == [ETA], "a seed is no question"


def test_many_numbers_are_pooled_with_their_neighbours():
    trials = search(60)
    found = list(trials.settings(ETA).values())
    assert len(found) == BINS
    assert all(a[ETA].max() < b[ETA].min() for a, b in itertools.pairwise(found))
    assert list(trials.settings("sample.sampler.noise")) == ["ancestral", "euler"]
    assert trials.settings(STEPS).keys()
