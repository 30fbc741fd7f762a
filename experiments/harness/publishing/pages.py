"""Generated blocks of the README and the documentation, made of the results of experiments."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from experiments.harness.publishing import paper, tables
from experiments.harness.runs.markdown import fill

RESULTS, SPEED, SEARCH = "quickstart_ag6o3", "speed", "relaxation_cost"
"""The experiments whose results are written there."""
PAPER = "paper"
"""The claims of all experiments."""
BLOCKS: tuple[tuple[str, str, Callable[[dict[str, Any]], str]], ...] = (
    ("README.md", "headline", lambda of: tables.headline(of[RESULTS])),
    (
        "README.md",
        "claims",
        lambda of: tables.claims(of[SPEED], of[SEARCH], of[PAPER]),
    ),
    ("docs/results.md", "quickstart", lambda of: tables.results_table(of[RESULTS])),
    ("docs/results.md", "paper", lambda of: paper.of_the_paper(of[PAPER])),
    ("docs/results.md", "others", lambda of: paper.of_experiments(of[PAPER])),
    ("docs/speed.md", "speed", lambda of: tables.speed_table(of[SPEED])),
    ("docs/searching.md", "search", lambda of: tables.search_table(of[SEARCH])),
)
"""Each generated block: its file, the name between its markers, and how the records make it."""


def records(root: Path) -> dict[str, Any]:
    """Read the results that the blocks are made of, by experiment."""
    of = {
        name: json.loads((root / f"experiments/{name}/results.json").read_text(encoding="utf-8"))
        for name in (RESULTS, SPEED, SEARCH)
    }
    return of | {PAPER: paper.collected(root)}


def documents(root: Path) -> dict[Path, str]:
    """Return the text of each file of `BLOCKS`, its blocks made anew, and that of paper.json.

    Raises:
        ValueError: for a file without the markers.
    """
    of = records(root)
    texts: dict[Path, str] = {root / paper.FILE: paper.text(of[PAPER])}
    for file, name, make in BLOCKS:
        path = root / file
        texts[path] = fill(texts.get(path) or path.read_text(encoding="utf-8"), name, make(of))
    return texts
