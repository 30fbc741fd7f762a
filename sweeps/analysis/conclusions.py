"""What a parameter does to an objective, and how certain that is.

The unit of replication is the trial: one value of the objective each, however many structures it
is made of. Settings are compared by Tukey's honestly significant differences (Tukey-Kramer), whose
intervals hold for all pairs at once, so that the best setting may be picked from the same values.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import permutation_test, rankdata, tukey_hsd

from experiments.harness.runs.metrics import metric_title
from sweeps.analysis.table import Trials, is_number, parameter_title

LEVEL = 0.05
"""The family-wise error rate of a conclusion."""


class Difference(NamedTuple):
    """A setting's mean minus the best one's, with Tukey's 95 % interval and p."""

    value: float
    low: float
    high: float
    p: float


@dataclass(frozen=True)
class Conclusion:
    """The setting of a parameter with the best mean, and how the others compare with it.

    values          the objective in each feasible trial of each setting
    worse, similar  settings that were repeated, as the best was, by significance
    correlation     Spearman's over the trials, and its p by permutation; None if not of numbers
    """

    parameter: str
    objective: str
    minimized: bool
    values: Mapping[str, np.ndarray]
    best: str
    worse: Mapping[str, Difference]
    similar: Mapping[str, Difference]
    correlation: tuple[float, float] | None

    @property
    def single(self) -> list[str]:
        """Settings of one trial: insufficient data for a test."""
        return [title for title, values in self.values.items() if len(values) < 2]


def conclude(trials: Trials, parameter: str, objective: str) -> Conclusion | None:
    """Compare the settings of a parameter by one objective; None if no trial is feasible."""
    values = {
        title: rows.loc[rows["feasible"].astype(bool), objective].dropna().to_numpy(float)
        for title, rows in trials.settings(parameter).items()
    }
    values = {title: found for title, found in values.items() if len(found)}
    if not values:
        return None
    minimized = trials.objectives[objective]
    best = (min if minimized else max)(values, key=lambda title: values[title].mean())
    gaps = differences(values, best)
    worse = {title: gap for title, gap in gaps.items() if gap.p < LEVEL}
    similar = {title: gap for title, gap in gaps.items() if title not in worse}
    rank = correlation(trials.feasible, parameter, objective)
    return Conclusion(parameter, objective, minimized, values, best, worse, similar, rank)


def differences(values: Mapping[str, np.ndarray], best: str) -> dict[str, Difference]:
    """Compare every repeated setting with the best; empty if that was not repeated."""
    repeated = [title for title, found in values.items() if len(found) > 1]
    if best not in repeated or len(repeated) < 2:
        return {}
    with np.errstate(divide="ignore", invalid="ignore"):  # trials without any scatter
        test = tukey_hsd(*(values[title] for title in repeated))
        interval = test.confidence_interval(1 - LEVEL)
    j = repeated.index(best)
    columns = (test.statistic[:, j], interval.low[:, j], interval.high[:, j], test.pvalue[:, j])
    found = {t: Difference(*map(float, row)) for t, *row in zip(repeated, *columns, strict=True)}
    return {title: gap for title, gap in found.items() if title != best}


def correlation(rows: pd.DataFrame, parameter: str, objective: str) -> tuple[float, float] | None:
    """Spearman's correlation and its p by permuting whole numbers, which add up exactly."""
    kept = rows[[parameter, objective]].dropna()
    x, y = kept[parameter], kept[objective]
    if not all(map(is_number, x)) or len(kept) < 3 or min(x.nunique(), y.nunique()) < 2:
        return None
    one, other = (2 * rankdata(values.astype(float)) - (len(kept) + 1) for values in (x, y))
    options = {"permutation_type": "pairings", "rng": np.random.default_rng(0)}
    test = permutation_test((one,), lambda one, axis: (one * other).sum(axis), **options)
    return float(test.statistic / np.sqrt((one**2).sum() * (other**2).sum())), float(test.pvalue)


def sentences(found: Conclusion) -> str:
    """Return a conclusion as text."""
    values, unit = found.values[found.best], " eV" * ("/energy_" in found.objective)
    metric = metric_title(found.objective).partition(" (")[0]
    extreme, side = ("lowest", "higher") if found.minimized else ("highest", "lower")
    place = f"{parameter_title(found.parameter)} = {found.best}"
    spread = f"mean of {len(values)} trials, {values.min():.3g} to {values.max():.3g}"
    spread = spread if len(values) > 1 else "a single trial"
    text = f"{metric}: {extreme} at {place}, {values.mean():.3g}{unit} ({spread})."
    if found.worse:
        gaps = [f"{t} ({signed(d.value)}{unit}, p = {d.p:.2g})" for t, d in found.worse.items()]
        text += f" Significantly {side} (Tukey HSD): {_listed(gaps)}."
    if found.similar:
        text += f" No significant difference (Tukey HSD, 5 %): {_listed([*found.similar])}."
    if found.single:
        text += f" Single trials, insufficient data for a test: {_listed(found.single)}."
    if found.correlation:
        rho, p = found.correlation
        text += f" Rank correlation over the trials: {signed(rho)} (p = {p:.2g})."
    return text


def _listed(titles: list[str]) -> str:
    return f"{len(titles)} settings" if len(titles) > 6 else ", ".join(titles)


def signed(value: float) -> str:
    """Return a number with its sign and two decimals."""
    return f"{value:+.2f}".replace("-", "\N{MINUS SIGN}")
