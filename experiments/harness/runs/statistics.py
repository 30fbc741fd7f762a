"""Estimates with intervals, by scipy: shares, differences, ratios and distances of distributions.

All intervals are of 95 %.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

LEVEL = 0.95
RESAMPLES = 2000


class Estimate(NamedTuple):
    """A number with its interval; NaN where there is none, and p where it was tested."""

    value: float
    low: float = float("nan")
    high: float = float("nan")
    p: float | None = None


def proportion(hits: int, n: int) -> Estimate:
    """Estimate a share by Wilson's interval."""
    interval = stats.binomtest(hits, n).proportion_ci(LEVEL, method="wilson")
    return Estimate(hits / n, float(interval.low), float(interval.high))


def bootstrapped(
    samples: Sequence[np.ndarray],
    statistic: Callable[..., float],
    seed: int,
    paired: bool = False,
) -> Estimate:
    """Estimate a statistic of samples by the percentiles of resampled ones."""
    given = [np.asarray(sample, dtype=float) for sample in samples]
    value = float(statistic(*given))
    if min(map(len, given)) < 2:
        return Estimate(value)
    interval = stats.bootstrap(
        given, statistic, vectorized=False, paired=paired, n_resamples=RESAMPLES,
        confidence_level=LEVEL, method="percentile", rng=np.random.default_rng(seed),
    ).confidence_interval  # fmt: skip
    return Estimate(value, float(interval.low), float(interval.high))


def of_trainings(
    values: Sequence[float], others: Sequence[float], paired: bool = False
) -> Estimate:
    """Estimate the difference of the means of two settings, a value each (a t test).

    The training is the unit: structures of one network are not independent of each other. Values
    at equal places are `paired` if they are of the same training; otherwise the t is Welch's.
    """
    test: Any = (
        stats.ttest_rel(values, others)
        if paired
        else stats.ttest_ind(values, others, equal_var=False)
    )
    interval = test.confidence_interval(LEVEL)
    difference = float(np.mean(values) - np.mean(others))
    return Estimate(difference, float(interval.low), float(interval.high), float(test.pvalue))


def energy_distance(one: np.ndarray, other: np.ndarray, seed: int) -> Estimate:
    """Estimate the energy distance of two samples; p of its permutation test that they are alike.

    It is 0 for equal distributions, and in the root of the samples' unit. There is no interval:
    resampled samples differ more than those that are given, and of alike ones the percentiles lie
    above the distance itself.
    """
    test = stats.permutation_test(
        (one, other), stats.energy_distance, vectorized=False, n_resamples=RESAMPLES // 2 - 1,
        alternative="greater", rng=np.random.default_rng(seed),
    )  # fmt: skip
    return Estimate(float(test.statistic), p=float(test.pvalue))
