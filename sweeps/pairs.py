"""Settings compared structure by structure, where their structures began with the same noise.

Structure k of one seed starts from the same prior and draws the same noise, whatever the other
knobs are, so that the differences between two settings scatter less than the energies themselves.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna import Study
from scipy.stats import wilcoxon

from sweeps.answers import Outcome, settings
from sweeps.names import knob_title, metric_title, value_title

SURE = 0.05
FEW = 6  # pairs below which no test can tell


@dataclass(frozen=True)
class Gap:
    """How far a setting's energies lie above the first setting's (eV, median over n pairs), and
    the p of Wilcoxon's signed-rank test, after Holm for all settings of the knob."""

    value: Any
    difference: float
    p: float
    n: int


def paired(study: Study, knob: str, name: str) -> list[Gap]:
    """Every setting of `knob` against the first one, for the energies called `name`.

    Empty unless the knob is one of sampling, its trials share seeds and differ in nothing else.
    """
    found_settings = settings(study, knob)
    if not knob.startswith("sample.") or not found_settings:
        return []
    first, *rest = found_settings
    by_rest = {_others(study, o, knob): o.energies(name) for o in first.trials}
    found = []
    for setting in rest:
        differences = [
            o.energies(name) - by_rest[others]
            for o in setting.trials
            if (others := _others(study, o, knob)) in by_rest
            and len(o.energies(name)) == len(by_rest[others])
        ]
        pairs = np.concatenate([*differences, []])
        if setting.low == setting.high and len(pairs) >= FEW and np.any(pairs):
            p = float(wilcoxon(pairs).pvalue)
            found.append(Gap(setting.value, float(np.median(pairs)), p, len(pairs)))
    return _holm(found)


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
        largest = max(largest, min(1.0, gaps[i].p * (len(gaps) - rank)))
        corrected[i] = largest
    return [Gap(g.value, g.difference, corrected[i], g.n) for i, g in enumerate(gaps)]


def in_words(study: Study, knob: str, name: str, gaps: list[Gap]) -> str:
    """As a sentence or two."""
    first = value_title(settings(study, knob)[0].value)
    title = metric_title(f"{name}/energy_median").split(" (")[0]
    told = [f"{value_title(g.value)} {g.difference:+.2f} eV (p = {g.p:.2g})" for g in gaps
            if g.p < SURE]  # fmt: skip
    alike = [value_title(g.value) for g in gaps if g.p >= SURE]
    said = (
        f"{title}, structure by structure from the same noise (n = {gaps[0].n}), against "
        f"{knob_title(knob)} = {first}: "
    )
    said += ", ".join(told) if told else "no setting is told apart"
    return said.replace("-", "\N{MINUS SIGN}") + (
        f"; not told apart: {', '.join(alike)}." if told and alike else "."
    )
