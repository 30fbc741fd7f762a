"""What is said of a study is what Optuna holds, and as sure as the structures make it."""

import itertools

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.storages import RetryHeartbeatStaleTrialCallback
from optuna.trial import TrialState
from scipy.stats import bootstrap, spearmanr

from sweeps.analysis import trials as answers
from sweeps.analysis.conclusion import in_words, verdict
from sweeps.analysis.uncertainty import FEW, differences, estimate, scatter, trend
from tests.integration.sweeps.studies import (
    ETA,
    MEDIAN,
    SECONDS,
    SEED,
    THREE,
    add,
    grid,
    search,
    study,
)

TWO = {MEDIAN: "minimize", SECONDS: "minimize"}
KNOB = "sample.guide.eta_dt"


# The study as data


def test_table_rows_are_the_trials():
    made = search(30)
    columns, rows = answers.trials_table(made)
    assert columns[: 2 + len(THREE) + 1] == ["number", "state", *THREE, MEDIAN]
    assert columns[-3:] == ["feasible", "retries", "reason"]
    assert len(rows) == len(made.trials)
    states = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "running",
              "WAITING": "waiting"}  # fmt: skip
    for values, trial in zip(rows, made.trials, strict=True):
        row = dict(zip(columns, values, strict=True))
        assert (row["number"], row["state"]) == (trial.number, states[trial.state.name])
        assert all(row[knob] == trial.params.get(knob) for knob in THREE)
        done = trial.state == TrialState.COMPLETE
        assert row[MEDIAN] == (trial.value if done else None)
        assert row["gen/hit_rate"] == (0.04 if done else None)
        within = all(value <= 0 for value in trial.constraints.values())
        assert row["feasible"] is (within if done else None)
    reasons = {row[1]: row[-1] for row in rows}
    assert reasons["failed"] == "ValueError: no structure is finite"
    assert reasons["pruned"] == "pruned at step 30"
    assert reasons["complete"] is None


def test_retried_trials_count_once_as_their_last_attempt(tmp_path):
    made = optuna.create_study(storage=f"sqlite:///{tmp_path / 's.db'}", study_name="s")
    made.set_user_attr("definition", {"objectives": {MEDIAN: "minimize"}, "space": {KNOB: {}}})
    rng = np.random.default_rng(0)
    add(made, {KNOB: 0.001}, ETA, rng)
    retry = RetryHeartbeatStaleTrialCallback()
    dead = add(made, {KNOB: 0.003}, ETA, rng, TrialState.FAIL, user_attrs={})
    retry(made, dead)
    again = made.ask()
    made.tell(again, state=TrialState.FAIL)
    retry(made, made.trials[again.number])
    third = made.ask(ETA)
    made.tell(third, 0.4)
    lost = add(made, {KNOB: 0.01}, ETA, rng, TrialState.FAIL, user_attrs={})
    assert len(made.trials) == 5
    columns, rows = answers.trials_table(made)
    found = [dict(zip(columns, row, strict=True)) for row in rows]
    assert [(r["number"], r["state"], r["retries"]) for r in found] == [
        (0, "complete", 0), (1, "complete", 2), (lost.number, "failed", 0),
    ]  # fmt: skip
    assert found[1][MEDIAN] == 0.4
    assert found[1][KNOB] == 0.003
    assert found[2]["reason"] == "its worker died"


def test_numbers_that_are_not_finite_are_none():
    made = study(space=ETA)
    attrs = {"metrics": {"gen/hit_rate": float("nan"), "gen/energy_median": float("inf")}}
    made.add_trial(optuna.trial.create_trial(params={KNOB: 0.0}, distributions=ETA, value=0.5,
                                             user_attrs=attrs))  # fmt: skip
    columns, (row,) = answers.trials_table(made)
    found = dict(zip(columns, row, strict=True))
    assert found["gen/hit_rate"] is None
    assert found["gen/energy_median"] is None
    assert found[MEDIAN] == 0.5


@pytest.mark.parametrize("signs", list(itertools.product([1, -1], repeat=2)))
def test_pareto_front_is_that_of_brute_force(signs):
    rng = np.random.default_rng(3)
    directions = ["minimize" if sign > 0 else "maximize" for sign in signs]
    made = study({MEDIAN: directions[0], SECONDS: directions[1]}, space=ETA)
    for i in range(60):
        values = rng.integers(0, 8, 2).astype(float)  # with ties
        made.add_trial(optuna.trial.create_trial(
            params={KNOB: 0.0}, distributions=ETA, values=values.tolist(),
            constraints={"c": float(i % 5 == 0)}))  # fmt: skip
    feasible = [t for t in made.trials if t.constraints["c"] <= 0]
    points = np.array([t.values for t in feasible]) * signs
    expected = {
        trial.number
        for trial, point in zip(feasible, points, strict=True)
        if not ((points <= point).all(1) & (points < point).any(1)).any()
    }
    front = answers.best(made)
    assert {outcome.number for outcome in front} == expected
    assert [o.trial.values[0] for o in front] == sorted(o.trial.values[0] for o in front)


def test_best_meets_the_constraints():
    made = study(space=ETA)
    for value, excess in ((0.1, 0.05), (0.3, -0.05), (0.5, 0.0)):
        made.add_trial(optuna.trial.create_trial(params={KNOB: 0.0}, distributions=ETA, value=value,
                                                 constraints={"c": excess}))  # fmt: skip
    assert [outcome.number for outcome in answers.best(made)] == [1]
    none = study(space=ETA)
    assert answers.best(none) == []


# Settings and importances


def test_settings_pool_repeats_and_leave_out_what_is_not_feasible():
    made = grid()
    found = answers.settings(made, KNOB)
    assert [setting.value for setting in found] == [0.0, 0.0001, 0.0003, 0.001, 0.003, 0.01]
    assert [len(setting.trials) for setting in found] == [2] * 6
    assert [setting.feasible for setting in found] == [True] * 5 + [False]
    add(made, {KNOB: 0.01, "sample.seed": 0}, {**ETA, **SEED}, np.random.default_rng(0))
    last = answers.settings(made, KNOB)[-1]
    assert [o.number for o in last.trials] == [12], "feasible ones only, if there are any"
    pooled = [e for o in found[3].trials for e in o.trial.user_attrs["energies"]["gen_relaxed"]]
    measured = answers.measured(found[3].trials, MEDIAN)
    assert measured.value == np.median(pooled)
    assert measured.n == 48
    p90 = answers.measured(found[3].trials[:1], "gen/energy_p90").value
    energies = found[3].trials[0].trial.user_attrs["energies"]["gen"]
    assert p90 == np.quantile(energies, 0.9)
    seconds = answers.measured(found[3].trials, SECONDS)
    assert seconds.value == np.median([o.numbers[SECONDS] for o in found[3].trials])
    assert not seconds.sure


def test_many_numbers_are_pooled_with_their_neighbours():
    made = search(60)
    found = answers.settings(made, KNOB)
    assert len(found) == answers.BINS
    assert all(a.high < b.low for a, b in itertools.pairwise(found))
    for setting in found:
        assert all(setting.low <= o.knobs[KNOB] <= setting.high for o in setting.trials)
    choices = answers.settings(made, "sample.sampler.noise")
    assert [setting.value for setting in choices] == ["ancestral", "euler"]


def test_importances_find_the_knob_that_matters():
    rng = np.random.default_rng(0)
    space = {"a.big": FloatDistribution(0, 1), "a.small": FloatDistribution(0, 1), **SEED}
    made = study({"x": "minimize", "y": "maximize"}, space=space)
    for i in range(80):
        big, small = rng.random(2)
        made.add_trial(optuna.trial.create_trial(
            params={"a.big": big, "a.small": small, "sample.seed": i % 2}, distributions=space,
            values=[big + 0.01 * small, small + 0.01 * big]))  # fmt: skip
        if len(made.trials) < answers.ENOUGH_FOR_IMPORTANCES:
            assert answers.importances(made) is None
    found = answers.importances(made)
    assert found["x"].keys() == {"a.big", "a.small"}, "a seed is no question"
    assert found["x"]["a.big"] > 0.8
    assert found["y"]["a.small"] > 0.8
    assert all(sum(shares.values()) == pytest.approx(1) for shares in found.values())
    assert answers.importances(grid()) is None, "of one knob there is nothing to share"


# How sure


@pytest.mark.parametrize(("q", "true"), [(0.5, 2.0), (None, 2.0), (0.1, 2.0 - 1.2815516)])
def test_intervals_cover_the_truth_as_often_as_they_say(q, true):
    rng = np.random.default_rng(1)
    found = [estimate([rng.normal(2.0, 1.0, 64)], q) for _ in range(300)]
    covered = np.mean([e.low <= true <= e.high for e in found])
    assert 0.90 <= covered <= 0.985


def test_interval_is_scipys():
    values = np.random.default_rng(2).gamma(2.0, 0.3, 40)
    ours = estimate([values])
    theirs = bootstrap((values,), np.median, method="percentile", n_resamples=20000,
                       rng=np.random.default_rng(0)).confidence_interval  # fmt: skip
    assert ours.value == np.median(values)
    np.testing.assert_allclose([ours.low, ours.high], theirs, atol=0.02)
    assert ours == estimate([values]), "the same again"


def test_scatter_between_trials_widens_the_interval():
    """Six trainings whose levels scatter: structures alone would be far too sure."""
    rng = np.random.default_rng(0)
    both, flat = [], []
    for _ in range(150):
        groups = [rng.normal(rng.normal(0, 0.5), 1, 32) for _ in range(6)]
        for found, sample in ((both, groups), (flat, [np.concatenate(groups)])):
            e = estimate(sample)
            found.append(e.low <= 0 <= e.high)
    assert np.mean(both) > 0.9
    assert np.mean(flat) < 0.72


def test_groups_of_different_sizes_weigh_by_their_values():
    sample = [np.zeros(90), np.ones(10)]
    assert estimate(sample).value == 0
    assert estimate(sample, None).value == pytest.approx(0.1)
    e = estimate(sample, None)
    standard_error = np.sqrt(0.5 * (0.9**2 + 0.1**2))  # the two trials' variance is 0.5
    assert e.high - e.value == pytest.approx(12.7062 * standard_error, rel=1e-4)
    alike = estimate([np.arange(90.0), np.arange(10.0) + 40], None)  # means of 44.5 both
    assert alike.high - alike.low > 0, "no surer than the values allow"


def studies(settings, trials, training, rng, n=16, count=200):
    """Studies of a knob without effect: structures scatter by 0.4 eV, trainings by `training`."""
    for _ in range(count):
        levels = rng.normal(0.5, training, (settings, trials))
        yield [[rng.normal(level, 0.4, n) for level in row] for row in levels]


@pytest.mark.parametrize("training", [0.0, 0.1, 0.2, 0.4])
def test_two_trainings_for_each_setting_are_enough_to_be_honest(training):
    """Five settings, as in the sweep of beta: however much trainings scatter, a knob without effect
    is seldom said to have one, and intervals hold the truth."""
    wrong = all_hold = own = one = 0
    for samples in studies(5, 2, training, np.random.default_rng(7)):
        best = int(np.argmin([np.median(np.concatenate(sample)) for sample in samples]))
        gaps = differences(samples, best)
        wrong += any(gap.low > 0 for gap in gaps)
        all_hold += all(gap.low <= 0 <= gap.high for gap in gaps)
        pooled, alone = estimate(samples[0], between=scatter(samples)), estimate(samples[0])
        own += pooled.low <= 0.5 <= pooled.high
        one += alone.low <= 0.5 <= alone.high
    assert wrong <= 20
    assert all_hold >= 180
    assert min(own, one) >= (186 if training == 0 else 180)


def test_effects_beyond_the_scatter_of_trainings_are_found():
    rng = np.random.default_rng(8)
    found = 0
    for samples in studies(5, 2, 0.1, rng, count=50):
        far = [[group + 1.5 * (i == 3) for group in sample] for i, sample in enumerate(samples)]
        gaps = differences(far, 0)
        found += [gap.low > 0 for gap in gaps] == [False, False, False, True, False]
    assert found >= 45


def test_scatter_is_the_variance_within_settings():
    samples = [[np.full(3, 1.0), np.full(3, 2.0)], [np.full(3, v) for v in (0.0, 3.0, 6.0)],
               [np.full(3, 50.0)]]  # fmt: skip
    assert scatter(samples) == pytest.approx(((0.5 + 18.0) / 3, 3))
    assert scatter([sample[:1] for sample in samples]) is None
    assert scatter([]) is None


@pytest.mark.parametrize("n", [0, 1, FEW - 1])
def test_too_few_structures_give_no_interval(n):
    e = estimate([np.arange(float(n))])
    assert not e.sure
    assert e.n == n
    assert np.isnan(e.value) == (n == 0)
    with pytest.raises(ValueError, match=f"samples of {FEW} values or more"):
        differences([[np.arange(float(n))], [np.arange(9.0)]], 0)


def test_the_best_of_equals_is_seldom_called_different():
    """The best of five by chance differs from one of the others in about one study of twenty."""
    rng = np.random.default_rng(4)
    wrong = 0
    for _ in range(100):
        samples = [[rng.gamma(2.0, 0.3, 32)] for _ in range(5)]
        best = int(np.argmin([np.median(sample) for sample in samples]))
        wrong += any(gap.low > 0 for gap in differences(samples, best))
    assert wrong <= 12


def test_differences_are_found_where_they_are():
    rng = np.random.default_rng(5)
    samples = [[rng.normal(level, 0.3, 64)] for level in (0.5, 0.0, 0.02, 1.0)]
    gaps = differences(samples, 1)
    medians = [np.median(sample) for sample in samples]
    np.testing.assert_allclose([gap.value for gap in gaps], np.array(medians) - medians[1])
    assert gaps[1].low == gaps[1].high == 0
    assert [gap.low > 0 for gap in gaps] == [True, False, False, True]


def test_trend_is_spearmans():
    rng = np.random.default_rng(6)
    x = rng.integers(0, 5, 30)
    y = 0.3 * x + rng.normal(size=30)
    expected = spearmanr(x, y)
    rho, p = trend(x, y)
    assert rho == pytest.approx(expected.statistic)
    assert p == pytest.approx(expected.pvalue, abs=0.03)
    assert trend([1, 2, 3, 4], [4, 3, 2, 1]) == pytest.approx((-1, 2 / 24)), "all 4! orders"
    assert trend([1, 1, 1], [1, 2, 3]) is None
    assert trend([1, 2], [1, 2]) is None


def test_verdict_tells_the_optimum_from_what_is_worse():
    made = grid(n=80)  # truth: lowest at 0.001, highest at 0; 0.01 is not feasible
    found = verdict(made, KNOB)
    assert found.best.value == 0.001
    assert found.estimate.n == 160
    worse = [setting.value for setting in found.worse]
    assert 0.0 in worse
    assert 0.01 not in worse + [setting.value for setting in found.alike]
    assert {s.value for s in found.worse + found.alike} == {0.0, 0.0001, 0.0003, 0.003}
    assert found.trend[0] < 0
    said = in_words(found)
    assert said.startswith("Median energy, relaxed: best at guide.eta_dt = 0.001, ")
    assert "160 structures in 2 trials" in said
    assert f"Worse beyond the scatter: {', '.join(f'{v:g}' for v in worse)}." in said


def test_verdict_of_what_is_maximised_and_has_no_interval():
    made = study({"gen/hit_rate": "maximize"}, space=THREE)
    space = {"score.sde": CategoricalDistribution(("vp", "brownian"))}
    for sde, rate in (("vp", 0.1), ("brownian", 0.3), ("vp", 0.2)):
        made.add_trial(optuna.trial.create_trial(params={"score.sde": sde}, distributions=space,
                                                 value=rate))  # fmt: skip
    found = verdict(made, "score.sde")
    assert (found.best.value, found.estimate.value) == ("brownian", 0.3)
    assert found.others == []
    assert found.trend is None
    expected = "Hit rate: best at sde = brownian, 0.3 (how sure that is, is not known)."
    assert in_words(found) == expected
    assert verdict(study(space=ETA), KNOB) is None


SDE = {"score.sde.beta_max": CategoricalDistribution((5.0, 10.0, 20.0))}
TRAINED, UNKNOWN = "score.sde.beta_max", "One training each: the scatter between trainings is not"


def trained(levels, repeats=1, space=SDE, n=32):
    """A study with these medians of relaxed energies, structures of 0.1 eV."""
    made, rng = study(space=space), np.random.default_rng(0)
    ((knob, distribution),) = space.items()
    for value, level in zip(distribution.choices, levels, strict=False):
        for _ in range(repeats):
            relaxed = rng.normal(level, 0.1, n).tolist()
            attrs = {"metrics": {MEDIAN: float(np.median(relaxed))},
                     "energies": {"gen_relaxed": relaxed}}  # fmt: skip
            made.add_trial(optuna.trial.create_trial(
                params={knob: value}, distributions=space, value=attrs["metrics"][MEDIAN],
                user_attrs=attrs))  # fmt: skip
    return made


def test_of_one_training_each_no_more_is_said_than_is_known():
    said = in_words(verdict(trained([0.2, 0.8, 0.2]), TRAINED))
    assert "Worse beyond the scatter of structures: 10." in said
    assert UNKNOWN in said
    twice = in_words(verdict(trained([0.2, 2.8, 0.2], repeats=2), TRAINED))
    assert "Worse beyond the scatter: 10." in twice
    assert UNKNOWN not in twice
    sampled = trained([0.2, 0.8, 0.2], space=ETA)
    assert UNKNOWN not in in_words(verdict(sampled, KNOB)), "the same networks for all"
    definition = sampled.user_attrs["definition"] | {"stages": {"score": []}}
    sampled.set_user_attr("definition", definition)
    assert UNKNOWN in in_words(verdict(sampled, KNOB)), "each trial trains its own"


def test_settings_with_too_few_structures_are_named():
    made = trained([0.2, 0.8])
    attrs = {"metrics": {MEDIAN: 0.3}, "energies": {"gen_relaxed": [0.3] * (FEW - 1)}}
    made.add_trial(optuna.trial.create_trial(params={TRAINED: 20.0}, distributions=SDE, value=0.3,
                                             user_attrs=attrs))  # fmt: skip
    assert "Too few structures to tell: 20." in in_words(verdict(made, TRAINED))
