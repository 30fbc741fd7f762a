"""What one knob does to one objective, and how sure that is."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from optuna import Study

from sweeps.analysis.names import knob_title, metric_title
from sweeps.analysis.trials import (
    Setting,
    estimates,
    is_number,
    objectives,
    sample_of,
    setting_title,
    settings,
)
from sweeps.analysis.uncertainty import Estimate, differences, trend

MANY = 6
"""Settings that are counted in a sentence, not listed."""
TRAININGS = ("score", "forcefield")
"""Stages that train."""


@dataclass(frozen=True)
class Verdict:
    """What a knob does to an objective.

    others   the other settings, each with its objective minus the best one's
    untold   those that have too few structures to tell
    trend    Spearman's correlation over the trials, with its p; sees trends in one direction only
    lone     each setting is a single training, so that how much trainings scatter is not known
    """

    knob: str
    objective: str
    best: Setting
    estimate: Estimate
    others: list[tuple[Setting, Estimate]]
    untold: list[Setting]
    trend: tuple[float, float] | None
    lone: bool

    @property
    def worse(self) -> list[Setting]:
        """The settings that differ from the best one beyond the scatter."""
        return [setting for setting, gap in self.others if gap.low > 0 or gap.high < 0]

    @property
    def alike(self) -> list[Setting]:
        return [setting for setting, gap in self.others if gap.low <= 0 <= gap.high]


def verdict(study: Study, knob: str, objective: str | None = None) -> Verdict | None:
    """Is the best setting of ``knob`` different from the others beyond the scatter?

    Of the first objective, or a named one; None if no trial met the constraints. The scatter is
    that of structures, and between trials that repeat a setting, of all settings together.
    """
    name = objective or next(iter(objectives(study)))
    sign = 1 if objectives(study)[name] else -1
    usable = [setting for setting in settings(study, knob) if setting.feasible]
    found = enumerate(estimates(usable, name))
    values = {i: value for i, value in found if math.isfinite(value.value)}
    if not values:
        return None
    chosen = min(values, key=lambda i: sign * values[i].value)
    sure = [i for i, value in values.items() if value.sure]
    others, untold = [], []
    if chosen in sure:
        untold = [usable[i] for i in values if i not in sure]
    if chosen in sure and len(sure) > 1:
        samples = [sample_of(usable[i].trials, name) for i in sure]
        gaps = differences([s for s, _ in samples], sure.index(chosen), samples[0][1])
        others = [(usable[i], gap) for i, gap in zip(sure, gaps, strict=True) if i != chosen]
    trials = [o for s in usable for o in s.trials if name in o.numbers]
    pairs = [(o.knobs[knob], o.numbers[name]) for o in trials if is_number(o.knobs[knob])]
    slope = trend(*zip(*pairs, strict=True)) if len(pairs) == len(trials) else None
    lone = _trains(study, knob) and not any(
        len(sample_of(usable[i].trials, name)[0]) > 1 for i in values
    )
    return Verdict(knob, name, usable[chosen], values[chosen], others, untold, slope, lone)


def _trains(study: Study, knob: str) -> bool:
    """Whether each trial trains a network of its own."""
    stages = study.user_attrs.get("definition", {}).get("stages", {})
    return any(name.partition(".")[0] in TRAININGS for name in (knob, *stages))


def in_words(verdict: Verdict) -> str:
    """A verdict as a few sentences."""
    value, trials = verdict.estimate, len(verdict.best.trials)
    unit = " eV" if "/energy_" in verdict.objective else ""
    place = f"{knob_title(verdict.knob)} = {setting_title(verdict.best)}"
    metric = metric_title(verdict.objective).partition(" (")[0]
    said = f"{metric}: best at {place}, {value.value:.3g}{unit}"
    if value.sure:
        from_ = f"{value.n} structures in {trials} trial{'s' * (trials > 1)}"
        said += f" (95 % interval {value.low:.3g} to {value.high:.3g}; {from_})"
    else:
        said += " (how sure that is, is not known)"
    said += "."
    if verdict.worse:
        of = " of structures" * verdict.lone
        said += f" Worse beyond the scatter{of}: {_listed(verdict.worse)}."
    if verdict.alike:
        said += f" Not told apart from it: {_listed(verdict.alike)}."
    if verdict.untold:
        said += f" Too few structures to tell: {_listed(verdict.untold)}."
    if verdict.lone and value.sure:
        said += " One training each: the scatter between trainings is not known."
    if verdict.trend:
        rho, p = verdict.trend
        sign = "\N{MINUS SIGN}" if rho < 0 else ""
        said += f" Rank correlation over the trials: {sign}{abs(rho):.2f} (p = {p:.2g})."
    return said


def _listed(group: Sequence[Setting]) -> str:
    if len(group) > MANY:
        return f"{len(group)} other settings"
    return ", ".join(map(setting_title, group))
