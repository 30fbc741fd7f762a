"""The claims of all published runs: experiments/paper.json, and the tables made of it."""

import json
from pathlib import Path
from typing import Any

from experiments.harness.pipeline.claims import HEADER, row
from experiments.harness.runs.markdown import table

FILE = "experiments/paper.json"
NOT_YET = "No experiment of the paper has been published yet: `surfdiff publish RUN` does so."


def collected(root: Path) -> list[dict[str, Any]]:
    """Take the claims from the results of every experiment, with run and command; no small runs."""
    found: list[dict[str, Any]] = []
    for file in sorted((root / "experiments").rglob("results.json")):
        name = file.parent.relative_to(root / "experiments").as_posix()
        for run, one in json.loads(file.read_text(encoding="utf-8")).items():
            if not isinstance(one, dict) or "small=true" in str(one.get("command")).split():
                continue
            about = {"experiment": name, "run": run, "command": one.get("command")}
            found += [claim | about for claim in one.get("claims", [])]
    return found


def text(claims: list[dict[str, Any]]) -> str:
    """Write the claims as JSON."""
    return json.dumps(claims, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def claims_table(claims: list[dict[str, Any]]) -> str:
    """Write a row for each claim, and the commands."""
    if not claims:
        return NOT_YET
    rows = [[*row(claim), claim["experiment"]] for claim in claims]
    commands = dict.fromkeys(f"- `{claim['command']}`" for claim in claims)
    return "\n".join([table([*HEADER, "experiment"], rows), "", *commands])
