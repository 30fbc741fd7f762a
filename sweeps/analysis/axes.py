"""Where values lie on an axis: in proportion, by powers of ten, or side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution

from sweeps.analysis.names import value_title
from sweeps.analysis.trials import is_number

SPAN = 10
"""Positive results that differ by more than this factor are drawn by powers of ten."""
UNEVEN = 4
"""Choices are drawn as numbers if their largest step is at most this many of the smallest."""


@dataclass(frozen=True)
class Scale:
    """kind is "linear", "log" or "ordinal"; choices are the values that ticks name, if any."""

    kind: str
    low: Any
    high: Any
    choices: tuple[Any, ...] = ()
    whole: bool = False

    @classmethod
    def of_knob(cls, distribution: BaseDistribution) -> "Scale":
        """Ranges as their distribution has them; choices as they lie evenest."""
        if not isinstance(distribution, CategoricalDistribution):
            found: Any = distribution
            kind, whole = "log" if found.log else "linear", isinstance(found, IntDistribution)
            return cls(kind, found.low, found.high, whole=whole)
        choices: tuple[Any, ...] = tuple(distribution.choices)
        if all(is_number(choice) for choice in choices):
            choices = tuple(sorted(choices))
        return cls(_evenest(choices), choices[0], choices[-1], choices)

    @classmethod
    def of_results(cls, values: Sequence[float]) -> "Scale":
        low, high = (min(values), max(values)) if values else (0.0, 1.0)
        return cls("log" if 0 < SPAN * low < high else "linear", low, high)

    def at(self, value: Any) -> float:
        """Its place, in the axis' own coordinates."""
        return float(self.choices.index(value)) if self.kind == "ordinal" else float(value)

    def limits(self) -> tuple[float, float]:
        """Of an axis that shows all of it, with a margin."""
        if self.kind == "ordinal":
            return -0.5, len(self.choices) - 0.5
        low, high = (np.log(v) if self.kind == "log" else v for v in (self.low, self.high))
        margin = 0.05 * (high - low) or 0.5
        ends = np.array([low - margin, high + margin])
        first, last = np.exp(ends) if self.kind == "log" else ends
        return float(first), float(last)

    def share(self, value: Any) -> float:
        """Its place between low (0) and high (1)."""
        places = np.array([self.at(v) for v in (value, self.low, self.high)])
        place, first, last = np.log(places) if self.kind == "log" else places
        return float((place - first) / (last - first)) if last > first else 0.5

    def ticks(self) -> list[Any]:
        """Values that mark it: its choices, or its ends and powers of ten."""
        if self.choices:
            return list(self.choices)
        if self.low == self.high:
            return [self.low]
        tens = LogLocator().tick_values(self.low, self.high) if self.kind == "log" else []
        return [self.low, *(float(t) for t in tens if 0.1 < self.share(t) < 0.9), self.high]

    def apply(self, axis: Any) -> None:
        """Give a Matplotlib axis the scale, and ticks with plain numbers."""
        if self.kind == "log":
            getattr(axis.axes, f"set_{axis.axis_name}scale")("log")
            between = (1.0,) if self.high > 50 * self.low else (1.0, 2.0, 5.0)
            axis.set_major_locator(LogLocator(subs=between))
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axis.set_minor_formatter(NullFormatter())
        elif self.whole:
            axis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
        if self.choices:
            names = [value_title(choice) for choice in self.choices]
            axis.set_ticks([self.at(choice) for choice in self.choices], names)
            axis.set_minor_locator(NullLocator())


def _evenest(choices: tuple[Any, ...]) -> str:
    """The kind of scale on which steps between choices are most alike; side by side if on none."""
    if len(choices) < 2 or not all(is_number(choice) for choice in choices):
        return "ordinal"
    steps = {"linear": np.diff(choices)}
    if choices[0] > 0:
        steps["log"] = np.diff(np.log(choices))
    uneven = {kind: step.max() / step.min() for kind, step in steps.items()}
    kind = min(uneven, key=lambda k: uneven[k])
    return kind if uneven[kind] <= UNEVEN else "ordinal"
