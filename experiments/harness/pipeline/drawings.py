"""Figures of an experiment: which stages each shows. `experiment.yaml` lists them."""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from experiments.harness.config.fields import Section
from experiments.harness.pipeline.kinds import stage_name

FIGURES = "figures"
"""Folder of the figures in that of the run, and in that of the experiment."""
Kind = Literal["counts", "energies", "lowest", "ranking", "settings", "steps"]
DRAWN: dict[Kind, str] = {
    "counts": "generate_data", "energies": "evaluate", "lowest": "label", "ranking": "rank",
    "settings": "evaluate", "steps": "evaluate",
}  # fmt: skip
"""The kind of stages that each kind of figure shows."""


class Drawing(Section):
    """A figure, and the file of its numbers beside it.

    counts    minima of each stoichiometry and subset, and the lowest of some
    energies  relaxed energies on common bins beside random search, and a structure at each median
    lowest    energies of labelled structures, and the lowest different surfaces
    ranking   energies of several calculators against those of one that is right
    settings  medians of the energies before and after relaxation, shares of valid structures and
              of the lowest minimum of random search, of each setting and each of its trainings
    steps     medians of the energies before and after relaxation against the number of steps
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]
    kind: Kind
    caption: Annotated[str, Field(min_length=1)]
    stages: Annotated[list[str], Field(min_length=1)]
    """In this order; each with its repeated trainings."""


def require_stages(drawings: Sequence[Drawing], names: Sequence[str]) -> None:
    """Raise ValueError for a figure of a stage that is not there, or of another kind."""
    for drawing in drawings:
        for name in drawing.stages:
            if name not in names:
                raise ValueError(f"figures: there is no stage {name}: {drawing.name}")
            if stage_name(name).kind != DRAWN[drawing.kind]:
                raise ValueError(
                    f"figures: {drawing.kind} are of {DRAWN[drawing.kind]} stages, not of {name}"
                )
