"""All results of a run: one record for JSON, a flat summary, and two tables to read."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib import metadata
from statistics import median
from typing import Any, Literal, NamedTuple

import torch

from experiments.harness.benchmarks.contest import TRAINING, Contest
from experiments.harness.benchmarks.machine import Machine, processor
from experiments.harness.benchmarks.relaxation import OURS
from experiments.harness.benchmarks.results import Goal, Spread, rates, ratios, shares
from experiments.harness.benchmarks.workloads import Timing
from experiments.harness.runs.markdown import table

MEMORY = Goal(1.5e9, below=True)
SHARE = Goal(0.25, 0.5)
OTHERS = ("ase", "matscipy", "vesin", "torch-cluster")
DASH = "\N{EN DASH}"
FORMATS = {
    "ratio": lambda value: f"{short(value)}\N{MULTIPLICATION SIGN}",
    "share": lambda value: f"{short(100 * value, 2)} %",
    "bytes": lambda value: f"{value / 1e9:.2f} GB",
}


class Reached(NamedTuple):
    """A number that is compared: with another program, with the machine, or with a limit."""

    task: str
    beside: str
    kind: Literal["ratio", "share", "bytes"]
    value: Spread
    goal: Goal | None


@dataclass
class Results:
    """What was measured: `machines` and the timings of each contender, one per round."""

    contest: Contest
    machines: list[Machine] = field(default_factory=list)
    times: dict[str, list[Timing]] = field(default_factory=lambda: defaultdict(list))
    memory: dict[str, int] = field(default_factory=dict)
    """Bytes, at most, of each training."""
    growth: dict[str, list[dict[str, float]]] = field(default_factory=dict)

    def shares(self, name: str) -> tuple[Spread, Spread]:
        """Of the matrix rate and of the bandwidth, for a network of ours."""
        matrix, memory = shares(self.times[name], self.contest.costs[name], self.machines)
        return Spread.of(matrix), Spread.of(memory)

    def reached(self) -> list[Reached]:
        found = [
            Reached(pair.task, pair.who, "ratio", Spread.of(ratios(pair, self.times)), pair.goal)
            for pair in self.contest.pairs
        ]
        goal = SHARE if self.contest.device.type == "cpu" else None
        found += [
            Reached(name, "matrix rate", "share", self.shares(name)[0], goal)
            for name in TRAINING.values()
        ]
        for name, size in self.memory.items():
            found.append(Reached(name, "peak memory", "bytes", Spread.of([size]), MEMORY))
        return found

    def record(self) -> dict[str, Any]:
        """Every single time, and what follows from them."""
        made = self.contest
        return {
            "device": str(made.device),
            "processor": processor(made.device),
            "threads": torch.get_num_threads(),
            "versions": {name: _version(name) for name in OTHERS},
            "machine": [asdict(machine) for machine in self.machines],
            "peers": made.versions,
            "times": {
                name: {
                    "unit": made.units[name],
                    "seconds": [t.seconds for t in times],
                    "amounts": [t.amount for t in times],
                    "per_second": asdict(Spread.of(rates(times))),
                }
                for name, times in self.times.items()
            },
            "costs": {name: asdict(cost) for name, cost in made.costs.items()},
            "shares": {
                name: {
                    "matrix_rate": asdict(self.shares(name)[0]),
                    "bandwidth": asdict(self.shares(name)[1]),
                }
                for name in made.costs
            },
            "ratios": [
                {
                    "task": pair.task,
                    "ours": list(pair.ours),
                    "theirs": pair.theirs,
                    "rounds": ratios(pair, self.times),
                }
                for pair in made.pairs
            ],
            "reached": [
                {
                    "task": one.task,
                    "beside": one.beside,
                    "kind": one.kind,
                    **asdict(one.value),
                    "goal": asdict(one.goal) if one.goal else None,
                    "outcome": outcome(one),
                }
                for one in self.reached()
            ],
            "moves": made.moves,
            "minima": {name: one.differences(OURS) for name, one in made.relaxations.items()},
            "memory": self.memory,
            "growth": self.growth,
            "notes": made.notes,
        }

    def summary(self) -> dict[str, float]:
        """Medians by names without blanks."""
        flat = {f"{name} per second": median(rates(times)) for name, times in self.times.items()}
        for one in self.reached():
            flat[f"{one.task} {one.beside} {one.kind}"] = one.value.median
        return {f"benchmark/{_plain(name)}": value for name, value in flat.items()}

    def tables(self) -> str:
        """Markdown that can be read in a terminal too."""
        notes = [self._moves(), *self._minima(), *self.contest.notes]
        text = "\n".join(f"- {note}." for note in notes)
        return "\n\n".join([self._speeds(), self._machine(), self._comparisons(), text])

    def _speeds(self) -> str:
        header = ("task", "unit", "per second", f"lowest{DASH}highest", "MFLOP each", "MB each",
                  "of matrix rate", "of bandwidth")  # fmt: skip
        lines = []
        for name, times in self.times.items():
            spread = Spread.of(rates(times))
            line = [name, self.contest.units[name], short(spread.median), extent(spread)]
            cost = self.contest.costs.get(name)
            if cost is None:
                line += [DASH] * 4
            else:
                shares = [FORMATS["share"](share.median) for share in self.shares(name)]
                line += [short(cost.operations / 1e6), short(cost.bytes / 1e6), *shares]
            lines.append(line)
        return table(header, lines, texts=2)

    def _machine(self) -> str:
        rate = Spread.of([machine.matrix_rate / 1e9 for machine in self.machines])
        width = Spread.of([machine.bandwidth / 1e9 for machine in self.machines])
        return (
            f"Limits of this machine ({processor(self.contest.device)}, {torch.get_num_threads()} "
            f"of its threads): {short(rate.median)} GFLOP/s in matrix products ({extent(rate)}), "
            f"{short(width.median)} GB/s of memory ({extent(width)})."
        )

    def _moves(self) -> str:
        moves_of = [f"{median(moves):.0f} ({how})" for how, moves in self.contest.moves.items()]
        return f"moves of a relaxation, median: {', '.join(moves_of)}"

    def _minima(self) -> list[str]:
        return [
            "{name}: batch and loop end {energy_median:.1e} eV and {displacement_median:.1e} Å "
            "apart in the median, at most {energy_max:.1e} eV and {displacement_max:.1e} Å, of "
            "{compared} structures".format(name=name, **one.differences(OURS))
            for name, one in self.contest.relaxations.items()
        ]

    def _comparisons(self) -> str:
        header = ("task", "beside", "reached", f"lowest{DASH}highest", "at least", "aim", "")
        lines = []
        for one in self.reached():
            form, goal = FORMATS[one.kind], one.goal
            limits = (goal.at_least, goal.aim) if goal else (None, None)
            wanted = [DASH if limit is None else form(limit) for limit in limits]
            if goal is not None and goal.below:
                wanted[0] = f"under {wanted[0]}"
            values = [form(one.value.median), extent(one.value, form)]
            lines.append([one.task, one.beside, *values, *wanted, outcome(one) or DASH])
        return table(header, lines, texts=2)


def outcome(one: Reached) -> str | None:
    return one.goal.outcome(one.value.median) if one.goal else None


def extent(spread: Spread, form: Callable[[float], str] | None = None) -> str:
    """From the lowest to the highest; nothing for a single number."""
    form = form or short
    return DASH if spread.low == spread.high else f"{form(spread.low)}{DASH}{form(spread.high)}"


def short(value: float, digits: int = 3) -> str:
    """About that many digits."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.{digits}g}"


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _plain(name: str) -> str:
    return name.replace(":", "").replace("\N{MIDDLE DOT}", "_").replace(" ", "_").lower()
