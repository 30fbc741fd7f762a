"""Settings compared structure by structure: the same noise is told from other noise."""

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution
from scipy.stats import wilcoxon

from sweeps.analysis.pairs import in_words, paired

ETA, SEED = "sample.guide.eta_dt", "sample.seed"
SHIFTS = {0.0: 0.0, 0.001: -0.02, 0.01: -0.3}


def study_of(energies, seeds=(0, 1), stages=(), n=20):
    """A grid over eta and seeds; `energies(eta, seed)` are those of its structures."""
    study = optuna.create_study()
    study.set_user_attr("definition", {
        "objectives": {"gen_relaxed/energy_median": "minimize"}, "space": {ETA: {}, SEED: {}},
        "stages": {"sample": list(stages)},
    })  # fmt: skip
    for eta in SHIFTS:
        for seed in seeds or (0,):
            values = energies(eta, seed)
            params = {ETA: eta} | ({SEED: seed} if seeds else {})
            choices = {ETA: list(SHIFTS), SEED: list(seeds)}
            study.add_trial(optuna.create_trial(
                params=params, value=float(np.median(values)),
                distributions={k: CategoricalDistribution(choices[k]) for k in params},
                user_attrs={"energies": {"gen_relaxed": list(values)}, "metrics": {"gen/n": n}},
            ))  # fmt: skip
    return study


def same_noise(eta, seed):
    structures = np.random.default_rng(seed).gamma(2.0, 0.5, 20)
    own = np.random.default_rng([seed, round(1e4 * eta)]).normal(0, 0.05, 20)
    return structures + SHIFTS[eta] + own


def test_differences_are_of_pairs_with_the_same_noise():
    gaps = {gap.value: gap for gap in paired(study_of(same_noise), ETA, "gen_relaxed")}
    assert list(gaps) == [0.001, 0.01]
    for eta, gap in gaps.items():
        expected = np.concatenate([same_noise(eta, s) - same_noise(0.0, s) for s in (0, 1)])
        assert gap.n == 40
        assert gap.difference == pytest.approx(np.median(expected))
        raw = wilcoxon(expected).pvalue
        assert 2 * raw <= gap.p <= 4 * raw  # two sets of energies; Holm: the smaller twice
    # A shift of 0.3 eV is seen under energies that scatter by 0.7 eV.
    assert gaps[0.01].p < 1e-6


def test_p_is_corrected_for_the_number_of_settings():
    gaps = paired(study_of(same_noise), ETA, "gen_relaxed")
    raw = {
        eta: wilcoxon(
            np.concatenate([same_noise(eta, s) - same_noise(0.0, s) for s in (0, 1)])
        ).pvalue
        for eta in (0.001, 0.01)
    }
    assert {g.value: g.p for g in gaps} == pytest.approx(
        {0.01: 4 * raw[0.01], 0.001: max(4 * raw[0.01], 2 * raw[0.001])}
    )


def test_other_noise_makes_no_pairs():
    """Without a seed in common every trial has its own."""
    assert paired(study_of(same_noise, seeds=()), ETA, "gen_relaxed") == []
    assert len(paired(study_of(same_noise, (), ["seed=3"]), ETA, "gen_relaxed")) == 2


def test_trained_settings_are_not_paired():
    """Two trainings differ by more than the noise of sampling."""
    assert paired(study_of(same_noise), "score.sde.beta_max", "gen_relaxed") == []


def test_a_missing_structure_is_noticed():
    """Each setting lost another structure: as many energies, but the k-th are no pair."""
    lost = {0.0: 0, 0.001: 7, 0.01: 12}
    study = study_of(lambda eta, seed: np.delete(same_noise(eta, seed), lost[eta]))
    assert paired(study, ETA, "gen_relaxed") == []
    study = study_of(lambda eta, seed: np.delete(same_noise(eta, seed), lost[eta]), n=19)
    assert len(paired(study, ETA, "gen_relaxed")) == 2  # that they are all there is believed


def test_words():
    study = study_of(same_noise)
    said = in_words(study, ETA, "gen_relaxed", paired(study, ETA, "gen_relaxed"))
    assert "against guide.eta_dt = 0" in said
    assert "0.01 \N{MINUS SIGN}0.29 eV" in said
