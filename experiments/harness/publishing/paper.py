"""The claims of all published runs: experiments/paper.json, and the tables made of it."""

import json
from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from experiments.harness.pipeline.claims import HEADER, row
from experiments.harness.runs.markdown import table

FILE = "experiments/paper.json"
NOT_YET = "No such claim has been published yet: `surfdiff publish RUN` does so."


def collected(root: Path) -> list[dict[str, Any]]:
    """Take the claims from the results of every experiment, with run and command; no small runs."""
    found: list[dict[str, Any]] = []
    for file in sorted((root / "experiments").rglob("results.json")):
        name = file.parent.relative_to(root / "experiments").as_posix()
        for run, one in json.loads(file.read_text(encoding="utf-8")).items():
            if not isinstance(one, dict) or "small=true" in str(one.get("command")).split():
                continue
            about = {"experiment": name, "run": run}
            about |= {key: one.get(key) for key in ("command", "calculator")}
            found += [claim | about for claim in one.get("claims", [])]
    return found


def text(claims: list[dict[str, Any]]) -> str:
    """Write the claims as JSON."""
    return json.dumps(claims, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def of_the_paper(claims: list[dict[str, Any]]) -> str:
    """Write a row for each claim that the paper has a value of, from all experiments."""
    rows = [
        [*row(claim), claim["experiment"], claim["calculator"] or "–"]
        for claim in claims
        if claim["paper"]
    ]
    return table([*HEADER, "experiment", "energies by"], rows) if rows else NOT_YET


def of_experiments(claims: list[dict[str, Any]]) -> str:
    """Write the other claims, a table under the command of each experiment."""
    parts = []
    for (command, calculator), own in groupby(claims, itemgetter("command", "calculator")):
        if rows := [_without_paper(row(claim)) for claim in own if not claim["paper"]]:
            energies = f" (energies by {calculator})" if calculator else ""
            parts.append(f"`{command}`{energies}\n\n{table(_without_paper(HEADER), rows)}")
    return "\n\n".join(parts) or NOT_YET


def _without_paper(cells: Sequence[str]) -> list[str]:
    return [cell for name, cell in zip(HEADER, cells, strict=True) if name != "paper"]
