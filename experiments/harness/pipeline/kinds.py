"""Kinds of stages: the command that each is, and how the name of a stage is read."""

import difflib
from collections.abc import Collection
from typing import NamedTuple

KINDS = {
    "generate_data": "generate_data",
    "forcefield": "train",
    "score": "train",
    "search_cost": "search_cost",
    "sample": "sample",
    "evaluate": "evaluate",
}
"""The command of each kind, in the order in which stages run."""
NETWORKS = ("forcefield", "score")
HOMES = {
    "generate_data": "experiments.harness.structure_search.generate_data",
    "train": "experiments.harness.training.train",
    "search_cost": "experiments.harness.structure_search.search_cost",
    "sample": "experiments.harness.generation.sample",
    "evaluate": "experiments.harness.generation.evaluate",
}
"""The module of each command, which has its `run`."""


class StageName(NamedTuple):
    """A name such as `score_lowE`: a kind and, if there are several of it, a label."""

    kind: str
    label: str
    """Empty for a stage that is called as its kind."""

    @property
    def text(self) -> str:
        return f"{self.kind}_{self.label}" if self.label else self.kind


def stage_name(text: str) -> StageName:
    """Read `KIND` or `KIND_LABEL`; ValueError if it begins with no kind."""
    for kind in KINDS:
        if text == kind or (text.startswith(f"{kind}_") and len(text) > len(kind) + 1):
            return StageName(kind, text[len(kind) + 1 :])
    raise ValueError(
        f"there is no stage {text!r}: a stage is KIND or KIND_LABEL with a kind of "
        f"{', '.join(KINDS)}{hint(text.split('_')[0], KINDS)}"
    )


def hint(name: str, known: Collection[str]) -> str:
    """A suggestion to add to an error: the name that is most like this one, if one is."""
    near = difflib.get_close_matches(name, sorted(known), 1)
    return f"; did you mean {near[0]}?" if near else ""
