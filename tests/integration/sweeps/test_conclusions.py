"""What is concluded from a study is as certain as its trials make it."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr, tukey_hsd, wilcoxon
from statsmodels.stats.multitest import multipletests

from sweeps.analysis import pairs
from sweeps.analysis.conclusions import conclude, correlation, differences, sentences
from sweeps.analysis.report import statements
from sweeps.analysis.table import load
from tests.integration.sweeps.studies import ETA, MEDIAN, SEED, add, grid, study

SHIFTS = {0.0: 0.0, 0.001: -0.02, 0.01: -0.3}
TRAINED = "score.sde.beta_max"


def values_of(study_values):
    return {str(i): np.asarray(found, float) for i, found in enumerate(study_values)}


@pytest.mark.parametrize("training", [0.0, 0.4])
def test_a_parameter_without_effect_is_seldom_reported_to_have_one(training):
    """Five settings with two trainings each, as in the sweep of beta; 16 structures each, which
    scatter by 0.4 eV, and trainings by `training`: however many structures, trials count."""
    rng, wrong, covered = np.random.default_rng(7), 0, 0
    for _ in range(40):
        levels = rng.normal(0.5, training, (5, 2))
        medians = np.median(rng.normal(levels[..., None], 0.4, (5, 2, 16)), axis=-1)
        values = values_of(medians)
        gaps = differences(values, min(values, key=lambda t: values[t].mean())).values()
        wrong += any(gap.p < 0.05 for gap in gaps)
        covered += all(gap.low <= 0 <= gap.high for gap in gaps)
    assert wrong <= 6
    assert covered >= 34


def test_effects_beyond_the_scatter_of_trials_are_found():
    rng, found = np.random.default_rng(8), 0
    for _ in range(10):
        values = values_of(rng.normal(0.5, 0.1, (5, 2)) + 1.5 * (np.arange(5) == 3)[:, None])
        gaps = differences(values, "0")
        found += [title for title, gap in gaps.items() if gap.low > 0] == ["3"]
    assert found >= 9


def test_differences_are_scipys():
    values = values_of([[1.0, 2.0], [3.0, 3.5, 4.0], [9.0]])
    gaps = differences(values, "0")
    test = tukey_hsd(values["0"], values["1"])
    assert list(gaps) == ["1"], "a single trial has no scatter of its own"
    assert gaps["1"].value == pytest.approx(2.0)
    assert gaps["1"].p == pytest.approx(test.pvalue[1, 0])
    assert gaps["1"].low == pytest.approx(test.confidence_interval().low[1, 0])
    assert differences(values, "2") == {}


def test_correlation_is_spearmans():
    trials = grid()
    rho, p = correlation(trials.feasible, ETA, MEDIAN)
    expected = spearmanr(trials.feasible[ETA].astype(float), trials.feasible[MEDIAN].astype(float))
    assert rho == pytest.approx(expected.statistic)
    assert p == pytest.approx(expected.pvalue, abs=0.05)
    assert correlation(trials.feasible.iloc[:2], ETA, MEDIAN) is None


def test_a_correlation_of_zero_is_zero_on_any_machine():
    repeats = [1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 4.0, 4.0]
    energies = [0.1, 0.4, 0.5, 0.8, 0.6, 0.7, 0.2, 0.3]  # ranks whose sum with these is zero
    rows = pd.DataFrame({ETA: repeats, MEDIAN: energies})
    assert correlation(rows, ETA, MEDIAN) == (0.0, 1.0)
    moved = rows.assign(**{MEDIAN: [0.4, 0.1, 0.5, 0.8, 0.6, 0.7, 0.3, 0.2]})
    assert correlation(moved, ETA, MEDIAN) == (0.0, 1.0)


def test_a_conclusion_separates_the_optimum_from_what_is_worse():
    found = conclude(grid(), ETA, MEDIAN)  # truth: lowest at 0.001, highest at 0; 0.01 infeasible
    assert found.best == "0.001"
    assert set(found.worse) == {"0", "0.0001", "0.0003", "0.003"}
    assert "0.01" not in found.values
    assert found.correlation[0] < 0
    text = sentences(found)
    assert text.startswith("Median energy, relaxed: lowest at guide.eta_dt = 0.001, 0.353 eV")
    assert "Significantly higher (Tukey HSD): 0 (+0.42 eV, p = " in text
    highest = conclude(grid(objectives={MEDIAN: "maximize"}), ETA, MEDIAN)
    assert highest.best == "0"
    assert "highest at guide.eta_dt = 0" in sentences(highest)


def test_single_trials_are_reported_as_insufficient_data():
    found = conclude(grid(seeds=(0,)), ETA, MEDIAN)
    assert not found.worse
    assert not found.similar
    assert "insufficient data for a test: 0, 0.0001, 0.0003, 0.001, 0.003" in sentences(found)


def test_nothing_feasible_concludes_nothing():
    made = study({ETA: {"choices": [0.0]}})
    add(made, 0, {ETA: 0.0}, metrics={MEDIAN: 0.1}, finite=0.5)
    assert conclude(load(made), ETA, MEDIAN) is None
    assert statements(load(made)) == ["No trial has met the constraints."]


# Structure by structure


def same_noise(eta, seed):
    structures = np.random.default_rng(seed).gamma(2.0, 0.5, 20)
    own = np.random.default_rng([seed, round(1e4 * eta)]).normal(0, 0.05, 20)
    return structures + SHIFTS[eta] + own


def paired(energies=same_noise, parameter=ETA, seeds=(0, 1), sample=(), values=SHIFTS, **metrics):
    """A grid over a parameter and seeds; `energies(eta, seed)` are those of its structures."""
    space = {parameter: {"choices": list(values)}}
    space |= {SEED: {"choices": list(seeds)}} if seeds else {}
    made, slot = study(space, stages={"sample": list(sample)}), 0
    for eta in values:
        for seed in seeds or (0,):
            params = {parameter: eta} | ({SEED: seed} if seeds else {})
            found = {"gen_relaxed": energies(eta, seed)}
            add(made, slot, params, energies=found, metrics={"gen/n": 20, **metrics})
            slot += 1
    return load(made)


def test_differences_are_of_pairs_with_the_same_noise():
    gaps = {gap.setting: gap for gap in pairs.compare(paired(), ETA)}
    expected = {
        eta: np.concatenate([same_noise(eta, s) - same_noise(0.0, s) for s in (0, 1)])
        for eta in (0.001, 0.01)
    }
    holm = multipletests([wilcoxon(gap).pvalue for gap in expected.values()], method="holm")[1]
    for (eta, values), p in zip(expected.items(), holm, strict=True):
        gap = gaps[str(eta)]
        assert (gap.n, gap.first) == (40, "0")
        assert gap.difference == pytest.approx(np.median(values))
        assert gap.p == pytest.approx(p)
    assert gaps["0.01"].p < 1e-6, "0.3 eV are seen under energies that scatter by 0.7 eV"
    (text,) = pairs.sentences(ETA, list(gaps.values()))
    assert "against guide.eta_dt = 0" in text
    assert "0.01 \N{MINUS SIGN}0.29 eV" in text


def test_other_noise_makes_no_pairs():
    """Without a seed in common every trial has its own; two trainings differ by more than noise."""
    assert pairs.compare(paired(seeds=()), ETA) == []
    assert len(pairs.compare(paired(seeds=(), sample=["seed=3"]), ETA)) == 2
    assert pairs.compare(paired(parameter=TRAINED), TRAINED) == []


@pytest.mark.parametrize("stage", ["score", "score_a", "forcefield", "generate_data"])
def test_networks_of_each_trial_s_own_make_no_pairs(stage):
    """By default a stage has the seed of the trial's slot."""
    for overrides, pairs_made in ([], 0), (["train.steps=9", "seed=3"], 2):
        trials = paired()
        stages = {stage: overrides, "sample": []}
        trials = replace(trials, definition={**trials.definition, "stages": stages})
        assert len(pairs.compare(trials, ETA)) == pairs_made
    space = trials.definition["space"] | {f"{stage}.seed": {"choices": [0]}}
    trials.trials[f"{stage}.seed"] = 0
    stages = {stage: [], "sample": []}
    trials = replace(trials, definition={**trials.definition, "stages": stages, "space": space})
    assert len(pairs.compare(trials, ETA)) == 2


def test_values_of_mixed_types_are_compared_in_the_order_of_the_sweep():
    shifts = {10.0: 0.0, "null": 0.2, 3.0: -0.2}
    trials = paired(lambda value, seed: same_noise(0.0, seed) + shifts[value], values=shifts)
    found = pairs.compare(trials, ETA)
    assert [(gap.first, gap.setting) for gap in found] == [("10", "null"), ("10", "3")]
    assert [gap.difference for gap in found] == pytest.approx([0.2, -0.2])
    assert list(trials.settings(ETA)) == ["10", "null", "3"]


def test_a_missing_structure_is_noticed():
    """Each setting lost another structure: as many energies, but the k-th are no pair."""
    lost = {0.0: 0, 0.001: 7, 0.01: 12}
    trials = paired(lambda eta, seed: np.delete(same_noise(eta, seed), lost[eta]))
    assert pairs.compare(trials, ETA) == []
