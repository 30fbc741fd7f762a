"""Kinds of stages: the command that each is, and how the name of a stage is read."""

from dataclasses import dataclass
from typing import NamedTuple

from experiments.harness.config.suggestions import hint

HARNESS = "experiments.harness"


@dataclass(frozen=True)
class Kind:
    """A kind of stage.

    command  the entry point, which names its config and its folder
    module   has the `run` of the command
    cores    the config key that takes the number of cores; empty if the config alone decides
    lacks    config keys of other commands that this one does not have
    """

    command: str
    module: str
    cores: str = "threads"
    lacks: tuple[str, ...] = ()


KINDS = {
    "generate_data": Kind(
        "generate_data", f"{HARNESS}.structure_search.generate_data", "executor.max_workers"
    ),
    "forcefield": Kind("train", f"{HARNESS}.training.train"),
    "score": Kind("train", f"{HARNESS}.training.train"),
    "search_cost": Kind(
        "search_cost", f"{HARNESS}.structure_search.search_cost", "executor.max_workers", ("seed",)
    ),
    "sample": Kind("sample", f"{HARNESS}.generation.sample"),
    "evaluate": Kind("evaluate", f"{HARNESS}.generation.evaluate", "executor.max_workers"),
    "recall": Kind("recall", f"{HARNESS}.generation.recall"),
    "label": Kind("label", f"{HARNESS}.generation.label", "executor.max_workers"),
    "rank": Kind("rank", f"{HARNESS}.comparison.rank", ""),
    "benchmark": Kind("benchmark", f"{HARNESS}.benchmarks.benchmark", "", ("tracking",)),
}
"""In the order in which stages run."""
NETWORKS = ("forcefield", "score")
"""Kinds that train a network; two of them can run at once."""
REFERENCE = "reference"
"""The label of the random search that evaluations without one of their own compare with."""


class StageName(NamedTuple):
    """A name such as `score_lowE`: a kind and, where there are several of it, a label."""

    kind: str
    label: str
    """Empty for a stage that is called as its kind."""


def stage_name(text: str) -> StageName:
    """Read `KIND` or `KIND_LABEL`; ValueError if it begins with no kind."""
    for kind in KINDS:
        if text == kind or (text.startswith(f"{kind}_") and len(text) > len(kind) + 1):
            return StageName(kind, text[len(kind) + 1 :])
    raise ValueError(
        f"there is no stage {text!r}: a stage is KIND or KIND_LABEL with a kind of "
        f"{', '.join(KINDS)}{hint(text.split('_')[0], KINDS)}"
    )
