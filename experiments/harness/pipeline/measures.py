"""Measure the claims of an experiment when its stages are done.

A quantity is a column of the table that a stage writes, a row a structure. In differences of two
settings that were both trained several times the training is the unit of the interval, and two
settings of the same trainings are compared training by training; elsewhere the structure is the
unit, of all trainings together.
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from experiments.harness.config.instantiate import identity
from experiments.harness.generation.evaluate import SEARCH, STRUCTURES
from experiments.harness.generation.recall import TABLE
from experiments.harness.pipeline.claims import RANDOM_SEARCH, REPEAT, Claim, Expected
from experiments.harness.pipeline.stages import Stage
from experiments.harness.runs import statistics
from experiments.harness.runs.run_folder import RunFolder
from experiments.harness.runs.statistics import Estimate

FILES = {"evaluate": STRUCTURES, "recall": TABLE}
"""The table of each kind of stage."""
ENERGIES = ["energy_before", "energy"]
ALONE: dict[str, Callable[..., Any]] = {"median": np.median, "mean": np.mean}
BESIDE: dict[str, Callable[..., Any]] = {
    "difference of medians": lambda a, b: np.median(a) - np.median(b),
    "difference of means": lambda a, b: np.mean(a) - np.mean(b),
    "ratio of means": lambda a, b: np.mean(a) / np.mean(b),
}


def measure(claims: Sequence[Claim], stages: Sequence[Stage], seed: int) -> list[dict[str, Any]]:
    """Measure the claims of finished stages; `seed` is that of resampling.

    Returns for each: claim, paper, here, low, high (NaN where there is none), n, n_beside, seeds,
    p, unit, statistic, and holds: True, False, or None if the interval allows both or is missing.
    """
    return [_measured(claim, stages, seed) for claim in claims]


def _measured(claim: Claim, stages: Sequence[Stage], seed: int) -> dict[str, Any]:
    own = repeated(claim.stage, stages)
    others = [] if claim.beside in (None, RANDOM_SEARCH) else repeated(str(claim.beside), stages)
    beside: list[np.ndarray] = []
    if claim.statistic == "value":
        ones = [np.array([_number(s, claim.quantity)]) for s in own]
        found = Estimate(float(np.mean(np.concatenate(ones))))
    else:
        _require_one_calculator([*own, *others], claim)
        ones, beside = _samples(claim, own, others)
        shared = _scores(own, stages) == _scores(others, stages)
        found = _estimate(claim, ones, beside, seed, shared)
    return {
        "claim": claim.claim,
        "paper": claim.paper,
        "here": found.value,
        "low": found.low,
        "high": found.high,
        "n": sum(map(len, ones)),
        "n_beside": sum(map(len, beside)) if beside else None,
        "seeds": _seeds([*own, *others], stages),
        "p": found.p,
        "unit": claim.unit,
        "statistic": claim.statistic,
        "expected": claim.expected.model_dump(exclude_none=True),
        "holds": _holds(found, claim.expected),
    }


def _estimate(
    claim: Claim, ones: list[np.ndarray], others: list[np.ndarray], seed: int, shared: bool
) -> Estimate:
    """Estimate a claim; `shared`: both sides are of the same trainings, in the same order."""
    one = np.concatenate(ones)
    if not len(one) or (claim.beside and not sum(map(len, others))):
        return Estimate(float("nan"))
    if claim.statistic == "share":
        return statistics.proportion(int(one.sum()), len(one))
    if claim.statistic in ALONE:
        return statistics.bootstrapped([one], ALONE[claim.statistic], seed)
    other = np.concatenate(others)
    if claim.statistic == "energy distance":
        return statistics.energy_distance(one, other, seed)
    trained_often = min(len(ones), len(others)) > 1 and "difference" in claim.statistic
    if trained_often and not claim.paired:
        middle = np.median if "medians" in claim.statistic else np.mean
        own, beside = ([float(middle(sample)) for sample in some] for some in (ones, others))
        return statistics.of_trainings(own, beside, paired=shared)
    return statistics.bootstrapped([one, other], BESIDE[claim.statistic], seed, claim.paired)


def _scores(measured: Sequence[Stage], stages: Sequence[Stage]) -> list[str | None]:
    """Return the score behind each of these stages, by the place of its training."""
    samples = {stage.folder: stage for stage in stages if stage.kind == "sample"}
    makers = [samples.get(Path(getattr(s.config, "sample", None) or ""), s) for s in measured]
    return [getattr(maker.config, "score", None) for maker in makers]


def _samples(
    claim: Claim, own: Sequence[Stage], others: Sequence[Stage]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Take the values of the quantity, an array for each training; missing ones are left out."""
    ones = [_rows(stage, claim, absolute=bool(others)) for stage in own]
    if claim.beside == RANDOM_SEARCH:
        beside = [_search(own[0], claim)]
    else:
        beside = [_rows(stage, claim, absolute=True) for stage in others]
    if claim.paired:
        for k, (one, other) in enumerate(zip(ones, beside, strict=True)):
            both = one.index.intersection(other.index)
            ones[k], beside[k] = one[both], other[both]
    return [values.to_numpy() for values in ones], [values.to_numpy() for values in beside]


def _rows(stage: Stage, claim: Claim, absolute: bool) -> "pd.Series[float]":
    """Values by the index of structures; absolute energies, as stages may differ in their zero."""
    if absolute and stage.kind == "evaluate":
        return _values(absolute_energies(stage), claim)
    return _values(pd.read_csv(stage.folder / FILES[stage.kind], index_col="index"), claim)


def absolute_energies(stage: Stage) -> pd.DataFrame:
    """Return the table of an evaluation with its energies as the calculator gives them, eV."""
    table = pd.read_csv(stage.folder / STRUCTURES, index_col="index")
    table[ENERGIES] += zero_of(stage)[0]
    return table


def _number(stage: Stage, name: str) -> float:
    """Return a number of a stage's summary; NaN (null in the file) if it has none."""
    found = RunFolder(stage.folder).summary.get(name)
    return float("nan") if found is None else float(found)


def zero_of(stage: Stage) -> tuple[float, str]:
    """Return the energy (eV) from which an evaluation counts, and what it is in words."""
    absolute, relative = "gen_relaxed/energy_median_abs", "gen_relaxed/energy_median"
    zero = _number(stage, absolute) - _number(stage, relative)
    searched = (stage.folder / SEARCH).is_file()
    return zero, "the lowest of random search" if searched else "the lowest generated"


def _search(stage: Stage, claim: Claim) -> "pd.Series[float]":
    """Values of the random search beside an evaluation; none if there is no such search."""
    file: Path = stage.folder / SEARCH
    if not file.is_file():
        return pd.Series(dtype=float)
    return _values(pd.read_csv(file, index_col="index"), claim)


def _values(table: pd.DataFrame, claim: Claim) -> "pd.Series[float]":
    if missing := [name for name in (claim.quantity, *claim.at) if name not in table]:
        raise ValueError(
            f"claims: there is no column {missing[0]}, only {', '.join(table)}: {claim.claim}"
        )
    for column, value in claim.at.items():
        table = table[table[column] == value]
    values = table[claim.quantity]
    if claim.statistic == "share":  # a structure that was lost counts, as none
        met = values.astype(float) > 0 if claim.at_most is None else values <= claim.at_most
        return met.astype(float)
    return values.astype(float).dropna()


def repeated(name: str, stages: Sequence[Stage]) -> list[Stage]:
    """Return a stage and its repeated trainings."""
    pattern = re.compile(rf"{re.escape(name)}({REPEAT}\d+)?")
    return [stage for stage in stages if pattern.fullmatch(stage.name)]


def _require_one_calculator(stages: Sequence[Stage], claim: Claim) -> None:
    """ValueError if energies of two calculators would be compared."""
    configs = [RunFolder(stage.folder).config for stage in stages]
    known = [identity(c["calculator"]) for c in configs if "calculator" in c]
    if claim.quantity in ENERGIES and any(one != known[0] for one in known):
        raise ValueError(f"claims: energies of different calculators: {claim.claim}")


def _seeds(measured: Sequence[Stage], stages: Sequence[Stage]) -> list[int]:
    """Return the seeds of these stages and of those that made what they measure."""
    labels = {stage.label for stage in measured} | {""}
    some = [stage for stage in stages if stage.label in labels]
    return sorted(
        {int(seed) for s in some if (seed := getattr(s.config, "seed", None)) is not None}
    )


def _holds(found: Estimate, expected: Expected) -> bool | None:
    low, high = (found.low, found.high) if np.isfinite(found.low) else (found.value, found.value)
    limits = [
        (high < expected.below, low >= expected.below) if expected.below is not None else None,
        (low > expected.above, high <= expected.above) if expected.above is not None else None,
    ]
    given = [limit for limit in limits if limit is not None]
    if not given or not np.isfinite(found.value):
        return None
    if all(met for met, _ in given):
        return True
    return False if any(missed for _, missed in given) else None
