"""Settings compared structure by structure, where their structures began with the same noise.

Structure k of one seed starts from the same place and, in as many steps, draws the same noise,
whatever the guide is. The differences between two settings then scatter less than the energies.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna import Study
from scipy.stats import wilcoxon

from sweeps.analysis.names import knob_title, metric_title, value_title
from sweeps.analysis.trials import Outcome, settings

SURE = 0.05
PAIRED = ("sample.guide.", "sample.sampler.")
"""Knobs that leave alone where structures start, and what they are made of."""
SETS = ("gen", "gen_relaxed")
FEW = 6  # pairs below which no test can tell


@dataclass(frozen=True)
class Gap:
    """How far a setting's energies lie above the first setting's (eV, median over n pairs), and
    the p of Wilcoxon's signed-rank test, after Holm for all settings of the knob, twice: for
    energies as generated and relaxed."""

    value: Any
    difference: float
    p: float
    n: int


def paired(study: Study, knob: str, name: str) -> list[Gap]:
    """Every setting of `knob` against the first one, for the energies called `name`.

    Empty unless the knob is one of sampling, its trials share seeds and differ in nothing else.
    """
    found_settings = settings(study, knob)
    if not knob.startswith(PAIRED) or len(found_settings) < 2:
        return []
    first, *rest = found_settings
    by_rest = {
        _others(study, o, knob): o.energies(name) for o in first.trials if _is_whole(o, name)
    }
    found = []
    for setting in rest:
        differences = [
            o.energies(name) - by_rest[others]
            for o in setting.trials
            if (others := _others(study, o, knob)) in by_rest
            and _is_whole(o, name)
            and len(o.energies(name)) == len(by_rest[others])
        ]
        pairs = np.concatenate([*differences, []])
        if setting.feasible and setting.low == setting.high and len(pairs) >= FEW and np.any(pairs):
            p = float(wilcoxon(pairs).pvalue)
            found.append(Gap(setting.value, float(np.median(pairs)), p, len(pairs)))
    return _holm(found)


def _is_whole(outcome: Outcome, name: str) -> bool:
    """Whether every structure has its energy: one that is missing would shift all after it."""
    return len(outcome.energies(name)) == outcome.numbers.get("gen/n")


def _others(study: Study, outcome: Outcome, knob: str) -> tuple[Any, ...] | int:
    """What trials must have in common to be paired; the trial's own number if its noise is its."""
    stages = study.user_attrs.get("definition", {}).get("stages", {})
    fixed = any(override.startswith("seed=") for override in stages.get("sample", []))
    if "sample.seed" not in outcome.knobs and not fixed:
        return outcome.number
    return tuple(sorted((k, str(v)) for k, v in outcome.knobs.items() if k != knob))


def _holm(gaps: list[Gap]) -> list[Gap]:
    corrected, largest = {}, 0.0
    for rank, i in enumerate(sorted(range(len(gaps)), key=lambda i: gaps[i].p)):
        largest = max(largest, min(1.0, len(SETS) * gaps[i].p * (len(gaps) - rank)))
        corrected[i] = largest
    return [Gap(g.value, g.difference, corrected[i], g.n) for i, g in enumerate(gaps)]


def in_words(study: Study, knob: str, name: str, gaps: list[Gap]) -> str:
    """As a sentence or two."""
    first = value_title(settings(study, knob)[0].value)
    title = metric_title(f"{name}/energy_median").split(" (")[0]
    told = [f"{value_title(g.value)} {_signed(g.difference)} eV (p = {g.p:.2g})" for g in gaps
            if g.p < SURE]  # fmt: skip
    n = sorted({g.n for g in gaps})
    same = "start" if knob.startswith("sample.sampler.") else "noise"
    alike = [value_title(g.value) for g in gaps if g.p >= SURE]
    said = (
        f"{title}, structure by structure from the same {same} (n = {n[0]}"
        f"{f' to {n[-1]}' if len(n) > 1 else ''}), against "
        f"{knob_title(knob)} = {first}: "
    )
    said += ", ".join(told) if told else "no setting is told apart"
    return said + (f"; not told apart: {', '.join(alike)}." if told and alike else ".")


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "\N{MINUS SIGN}")
