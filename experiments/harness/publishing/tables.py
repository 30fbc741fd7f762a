"""The published records as text: every number in the README and the documentation is written here.

A record is the content of an `experiments/NAME/results.json`: runs by name, or one measurement.
"""

import textwrap
from collections.abc import Callable
from typing import Any

import numpy as np

from experiments.harness.config.instantiate import calculator_name
from experiments.harness.pipeline.claims import row
from experiments.harness.pipeline.table import results as summary_table
from experiments.harness.runs.markdown import table
from experiments.harness.runs.metrics import count
from experiments.harness.structure_search.cost_comparison import table as search_cost_table

Record = dict[str, Any]
DASH = "–"
SPEED_FORMS: dict[str, Callable[[float], str]] = {
    "ratio": "{:.1f}×".format,
    "share": "{:.0%}".format,
    "bytes": lambda value: f"{value / 1e9:.2f} GB",
}


def headline(results: Record) -> str:
    """Write what the first quickstart run reached, in sentences with counts."""
    first = next(iter(results.values()))
    s = first["summary"]
    n, rss = s["gen/n"], s["rss/n"]
    return textwrap.fill(
        f"In {s['seconds/all']:.0f} seconds on two CPU cores it trains on the shipped minima "
        f"of c(2x8) cells and generates {n} structures of {s['gen/composition']} in p(3x3), "
        f"{count(s, 'gen/frac_valid')[0]} of them valid. Relaxed with the reference calculator "
        f"({first['calculator']}), their median energy is {s['gen_relaxed/energy_median']:.2f} "
        f"eV, against {s['rss/energy_median']:.2f} eV of {rss} minima of random search, above the "
        "lowest of these.",
        width=110,
    )


def claims(speed: Record, search: Record, paper: list[Record]) -> str:
    """Write the README's table: claim, paper, here; `paper` are the claims of experiments."""
    reached = {(one["task"], one["beside"]): one for one in speed["record"]["reached"]}
    agedi, rounds = f"AGeDi {_peer(speed, 'AGeDi')}", len(speed["record"]["machine"])
    loose = search["record"]["results"][0]
    saved = loose["prerelaxed"]["calls_saved"]
    rows = [
        *_of_the_paper(paper),
        (
            f"samples p(3x3) with guidance faster than {agedi}, on one core",
            DASH,
            _ratio(reached["sampling p3x3 guided", "AGeDi"], rounds),
        ),
        (f"trains a score faster than {agedi}, on one core", DASH,
         _ratio(reached["training score", "AGeDi"], rounds)),
        (
            f"a surrogate saves calls of the calculator in random search, to {loose['fmax']:g} "
            "eV/Å",
            DASH,
            f"{saved[0]:.1f}× fewer than ASE's BFGS ({saved[1]:.1f} to {saved[2]:.1f}, "
            f"n = {loose['compared']})",
        ),
    ]  # fmt: skip
    return table(("claim", "paper", "here"), rows)


def _of_the_paper(claims: list[Record]) -> list[tuple[str, ...]]:
    """Write for each experiment the first of its claims that the paper has."""
    first: dict[str, Record] = {}
    for claim in claims:
        if claim["paper"]:
            first.setdefault(claim["experiment"], claim)
    return [
        (text, there, here if interval == DASH else f"{here} ({interval})")
        for text, there, here, interval, *_ in map(row, first.values())
    ]


def results_table(results: Record) -> str:
    """Write one column per published run and one for random search; then the commands."""
    commands = [
        f"- `{name}`: `{run['command']}` (seed {run['seed']}; {run['machine']}; "
        f"{_commit(run['environment'])})"
        for name, run in results.items()
    ]
    summaries = {name: run["summary"] for name, run in results.items()}
    return "\n".join([summary_table(summaries), "", *commands])


def speed_table(speed: Record) -> str:
    """Write what `surfdiff benchmark` compared, and where it was measured."""
    record = speed["record"]
    rows = []
    for one in record["reached"]:
        form, goal = SPEED_FORMS[one["kind"]], one["goal"]
        rate = record["times"].get(one["task"], {}).get("per_second")
        limit = "" if goal is None else form(goal["at_least"])
        low, high = form(one["low"]), form(one["high"])
        rows.append([
            one["task"].replace("_", " "),
            DASH if rate is None else f"{rate['median']:.3g}",
            one["beside"],
            form(one["median"]),
            DASH if low == high else f"{low} to {high}",
            DASH if goal is None else f"{'under' if goal['below'] else 'at least'} {limit}",
        ])  # fmt: skip
    machine = {key: np.median([m[key] for m in record["machine"]]) for key in record["machine"][0]}
    peers = "".join(f", {name} {_peer(speed, name)}" for name in record["peers"])
    source = (
        f"- `{speed['command']}`; {record['processor']}, threads: {record['threads']}, "
        f"{machine['matrix_rate'] / 1e9:.0f} GFLOP/s in matrix products, "
        f"{machine['bandwidth'] / 1e9:.0f} GB/s; torch {speed['environment']['torch']}{peers}; "
        f"{_commit(speed['environment'])}"
    )
    header = ("task", "per second", "compared with", "median", "lowest to highest", "goal")
    return "\n".join([table(header, rows), "", source])


def search_table(search: Record) -> str:
    """Write what `surfdiff search_cost` compared, and how it was measured."""
    environment, record = search["environment"], search["record"]
    source = (
        f"- `{search['command']}`: {record['candidates']} starts, from candidate {record['first']} "
        f"on; torch {environment['torch']}, {calculator_name(search['search']['calculator'])}; "
        f"{_commit(environment)}; the force field of {search['training']['train']['steps']} steps"
    )
    return f"{search_cost_table(record)}\n\n{source}"


def _peer(speed: Record, name: str) -> str:
    return speed["record"]["peers"][name][name.lower()]


def _ratio(one: Record, rounds: int) -> str:
    return f"{one['median']:.1f}× ({one['low']:.1f} to {one['high']:.1f}, {rounds} rounds)"


def _commit(environment: Record) -> str:
    commit = environment["commit"]
    if commit is None:
        return "outside git"
    return f"commit {commit[:7]}{' with changes' if '+' in commit else ''}"
