"""How sure a number is that was measured on a few structures of a few trials.

A sample is a list of groups: the values of each trial of one setting. Two things scatter: values
within a trial, which the bootstrap shows, and trials that repeat a setting (trainings, say). Two
trials show the latter badly, all settings of a study together better, as in analysis of variance.
"""

import math
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from scipy.stats import permutation_test, rankdata, studentized_range, t

Sample = Sequence[np.ndarray]
CONFIDENCE = 0.95
RESAMPLES = 2000
FEW = 5
"""Values below which no interval is given."""


class Estimate(NamedTuple):
    """A number with its interval (NaN where none can be given), from n values."""

    value: float
    low: float = math.nan
    high: float = math.nan
    n: int = 0

    @property
    def sure(self) -> bool:
        return math.isfinite(self.low)


class Scatter(NamedTuple):
    """Variance of one trial's statistic among repeats of a setting, and its degrees of freedom."""

    variance: float
    dof: int


def scatter(samples: Sequence[Sample], q: float | None = 0.5) -> Scatter | None:
    """How trials scatter about their setting's mean, alike in all; None if none was repeated."""
    levels = [[_statistic(group, q) for group in sample] for sample in samples if len(sample) > 1]
    dof = sum(len(level) - 1 for level in levels)
    squares = sum(len(level) * float(np.var(level)) for level in levels)
    return Scatter(squares / dof, dof) if dof else None


def estimate(sample: Sample, q: float | None = 0.5, between: Scatter | None = None) -> Estimate:
    """A quantile of all values (None: their mean) and its interval, the same again each time.

    ``between`` is the ``scatter`` of the study's trials; without, that of this sample's own, which
    for two trials makes a very wide interval. Of one trial alone it is that of its values only.
    """
    pooled = np.concatenate([*sample, []])
    if not len(pooled):
        return Estimate(math.nan)
    value = _statistic(pooled, q)
    if len(pooled) < FEW:
        return Estimate(value, n=len(pooled))
    between = between or scatter([sample], q)
    tail = (1 - CONFIDENCE) / 2
    if between is None:
        low, high = np.quantile(resampled(sample, q), [tail, 1 - tail])
        return Estimate(value, float(low), float(high), len(pooled))
    off = float(t.ppf(1 - tail, between.dof)) * math.sqrt(_variance(sample, q, between))
    return Estimate(value, value - off, value + off, len(pooled))


def resampled(sample: Sample, q: float | None) -> np.ndarray:
    """The quantile (None: the mean) of each of ``RESAMPLES`` draws of every trial's values."""
    rng = np.random.default_rng(0)
    drawn = [group[rng.integers(len(group), size=(RESAMPLES, len(group)))] for group in sample]
    values = np.concatenate(drawn, axis=1)
    return values.mean(axis=1) if q is None else np.quantile(values, q, axis=1)


def differences(samples: Sequence[Sample], best: int, q: float | None = 0.5) -> list[Estimate]:
    """Each sample's quantile minus that of ``samples[best]``, with its interval.

    The intervals are Tukey's: they hold for all pairs of samples at once, so that it is allowed to
    pick the best one by the same values. Where no setting was repeated they know of the scatter of
    values only. ValueError for a sample of fewer than ``FEW`` values.
    """
    pooled = [np.concatenate([*sample, []]) for sample in samples]
    if any(len(values) < FEW for values in pooled):
        raise ValueError(f"a difference needs samples of {FEW} values or more")
    between = scatter(samples, q)
    dof = between.dof if between else sum(map(len, pooled)) - len(pooled)
    factor = _tukey(len(pooled), dof)
    variances = [_variance(sample, q, between) for sample in samples]
    found = []
    for i, values in enumerate(pooled):
        gap = _statistic(values, q) - _statistic(pooled[best], q)
        off = factor * math.sqrt((variances[i] + variances[best]) / 2) if i != best else 0.0
        found.append(Estimate(gap, gap - off, gap + off, len(values)))
    return found


def _statistic(values: np.ndarray, q: float | None) -> float:
    return float(np.mean(values) if q is None else np.quantile(values, q))


def _variance(sample: Sample, q: float | None, between: Scatter | None) -> float:
    """Of a sample's statistic: what trials show, which holds that of their values, and no less
    than the values alone show."""
    within = float(resampled(sample, q).var())
    sizes = np.array([len(group) for group in sample])
    share = float(np.sum((sizes / sizes.sum()) ** 2))  # 1 / trials, if they are of one size
    return max(within, between.variance * share if between else 0.0)


@cache
def _tukey(samples: int, dof: int) -> float:
    """Quantile of the range of so many means in units of one's standard error."""
    return float(studentized_range.ppf(CONFIDENCE, samples, dof)) if samples > 1 else 0.0


def trend(x: Sequence[float], y: Sequence[float]) -> tuple[float, float] | None:
    """Spearman's correlation and its p by permutation (two-sided); None if either is constant, or
    of fewer than three points."""
    if len(x) < 3 or len(set(x)) < 2 or len(set(y)) < 2:
        return None
    ranks, others = ((r := rankdata(v) - (len(v) + 1) / 2) / np.linalg.norm(r) for v in (x, y))
    test = permutation_test(
        (ranks,),
        lambda permuted, axis: (permuted * others).sum(axis=axis),
        permutation_type="pairings",
        vectorized=True,
        rng=np.random.default_rng(0),
    )
    return float(test.statistic), float(test.pvalue)
