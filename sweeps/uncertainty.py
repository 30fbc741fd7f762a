"""How sure a number is that was measured on a few structures of a few trials.

A sample is a list of groups: the values of each trial. Where there are several, the bootstrap draws
trials first and then values of each, for trainings scatter, too; of one trial only the values.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import permutation_test, rankdata

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


def estimate(sample: Sample, q: float | None = 0.5) -> Estimate:
    """A quantile of all values (None: their mean) and its bootstrap interval, always the same."""
    pooled = np.concatenate([*sample, []])
    if not len(pooled):
        return Estimate(math.nan)
    value = float(pooled.mean() if q is None else np.quantile(pooled, q))
    if len(pooled) < FEW:
        return Estimate(value, n=len(pooled))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(resampled(sample, q), [tail, 1 - tail])
    return Estimate(value, float(low), float(high), len(pooled))


def resampled(sample: Sample, q: float | None, seed: int = 0) -> np.ndarray:
    """The quantile (None: the mean) of each of ``RESAMPLES`` draws."""
    rng = np.random.default_rng(seed)
    sizes = np.array([len(group) for group in sample])
    table = np.full((len(sample), sizes.max()), np.inf)
    for row, group in zip(table, sample, strict=True):
        row[: len(group)] = group
    chosen = rng.integers(len(sample), size=(RESAMPLES, len(sample)))
    size = sizes[chosen][..., None]
    drawn = (rng.random((*chosen.shape, sizes.max())) * size).astype(int)
    values = table[chosen[..., None], drawn]
    surplus = np.broadcast_to(np.arange(sizes.max()) >= size, values.shape)
    n = size.sum(axis=(1, 2))
    if q is None:
        return np.where(surplus, 0.0, values).sum(axis=(1, 2)) / n
    values = np.sort(np.where(surplus, np.inf, values).reshape(RESAMPLES, -1), axis=1)
    position = q * (n - 1)
    below = position.astype(int)
    draws = np.arange(RESAMPLES)
    lower, upper = values[draws, below], values[draws, np.minimum(below + 1, n - 1)]
    return lower + (position - below) * (upper - lower)


def differences(samples: Sequence[Sample], best: int, q: float | None = 0.5) -> list[Estimate]:
    """Each sample's quantile minus that of ``samples[best]``, with its interval.

    The intervals hold for all pairs of samples at once, as Tukey's do, so that it is allowed to
    pick the best one by the same values. ValueError for a sample of fewer than ``FEW`` values.
    """
    values = [estimate(sample, q) for sample in samples]
    if not all(value.sure for value in values):
        raise ValueError(f"a difference needs samples of {FEW} values or more")
    # Seeds of their own: errors of independent samples must not cancel.
    draws = np.array([resampled(sample, q, seed) for seed, sample in enumerate(samples)])
    first, second = np.triu_indices(len(samples), 1)
    errors = draws[first] - draws[second]
    spreads = np.maximum(errors.std(axis=1), 1e-12)
    errors -= errors.mean(axis=1, keepdims=True)
    factor = np.quantile((np.abs(errors) / spreads[:, None]).max(axis=0), CONFIDENCE)
    width = np.zeros((len(samples), len(samples)))
    width[first, second] = width[second, first] = factor * spreads
    return [
        Estimate(gap := value.value - values[best].value, gap - off, gap + off, value.n)
        for value, off in zip(values, width[best], strict=True)
    ]


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
