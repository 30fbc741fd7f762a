"""From single times to rates, ratios, shares and goals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from experiments.harness.benchmarks.machine import Cost, Machine
from experiments.harness.benchmarks.workloads import Timing

Times = Mapping[str, Sequence[Timing]]
"""Of every contender, one timing per round."""


@dataclass(frozen=True)
class Goal:
    """What is wanted of a number: more than `at_least`, or with `below` less."""

    at_least: float
    aim: float | None = None
    below: bool = False

    def outcome(self, value: float) -> str:
        if (value >= self.at_least) if self.below else (value < self.at_least):
            return "missed"
        return "aim reached" if self.aim is not None and value >= self.aim else "ok"


@dataclass(frozen=True)
class Pair:
    """Two ways to do the same: ours (the sum of several, if need be) and another's."""

    task: str
    ours: tuple[str, ...]
    who: str
    goal: Goal | None = None

    @property
    def theirs(self) -> str:
        """The name of the other contender."""
        return f"{self.task}: {self.who}"


@dataclass(frozen=True)
class Spread:
    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        return cls(median(values), min(values), max(values))


def rates(times: Sequence[Timing]) -> list[float]:
    """Units per second of each round."""
    return [1 / t.each for t in times]


def ratios(pair: Pair, times: Times) -> list[float]:
    """How many times faster we are, in each round."""
    theirs = [t.each for t in times[pair.theirs]]
    rounds = zip(*(times[name] for name in pair.ours), strict=True)
    ours = [sum(t.each for t in together) for together in rounds]
    return [b / a for a, b in zip(ours, theirs, strict=True)]


def shares(
    times: Sequence[Timing], cost: Cost, machines: Sequence[Machine]
) -> tuple[list[float], list[float]]:
    """Of the machine's matrix rate and of its bandwidth (see `machine`), in each round."""
    pairs = list(zip(times, machines, strict=True))
    return (
        [cost.operations / t.each / machine.matrix_rate for t, machine in pairs],
        [cost.bytes / t.each / machine.bandwidth for t, machine in pairs],
    )
