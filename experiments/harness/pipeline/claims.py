"""Claims of an experiment: which number of which stages tests each, and how it is written.

`experiment.yaml` lists them; `surfdiff run` measures them (`pipeline.measures`).
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self, get_args

from pydantic import model_validator

from experiments.harness.config.fields import Section
from experiments.harness.pipeline.kinds import stage_name

RANDOM_SEARCH = "random_search"
"""What stands for the random search beside an evaluation."""
REPEAT = "_seed"
"""Between the name of a stage and the number of its repeated training."""
COLUMNS = {
    "evaluate": (
        "formula", "finite", "valid", "energy_before", "energy", "steps", "converged", "adsorbed",
        "surface", "hit", "target_distance",
    ),
    "recall": ("structure", "composition", "sigma", "draw", "displacement", "energy"),
    RANDOM_SEARCH: ("energy", "steps", "target_distance"),
}  # fmt: skip
"""What the tables of structures hold, by the kind of stage that writes one, beside the index."""
Alone = Literal["value", "share", "median", "mean"]
Beside = Literal[
    "difference of medians", "difference of means", "ratio of means", "energy distance"
]
Statistic = Alone | Beside


class Expected(Section):
    """Where the whole interval lies if the claim holds."""

    below: float | None = None
    above: float | None = None


class Claim(Section):
    """A number that stages give, beside the paper's."""

    claim: str
    paper: str | None = None
    """What the paper has."""
    stage: str
    """The stage that is measured, with its repeated trainings."""
    beside: str | None = None
    """The stage that it is compared with, or `random_search`."""
    quantity: str
    """A column of the stage's table; for `value` a name in its summary."""
    statistic: Statistic
    at: dict[str, float | int | str | bool] = {}
    """Columns and the values that they have in the rows that count."""
    at_most: float | None = None
    """Of a share: which values count; None: those that are true."""
    paired: bool = False
    """Whether structures of equal index belong together, as those from the same noise do."""
    unit: str = ""
    expected: Expected = Expected()

    @model_validator(mode="after")
    def _compares_if_it_must(self) -> Self:
        needs = self.statistic in get_args(Beside)
        if needs != (self.beside is not None):
            raise ValueError(
                f"{self.statistic} {'needs' if needs else 'has no'} beside=STAGE or {RANDOM_SEARCH}"
            )
        return self


def require_stages(claims: Sequence[Claim], names: Sequence[str]) -> None:
    """Raise ValueError for a claim of what no stage writes: a stage, a table or a column of it."""
    for claim in claims:
        for name in filter(None, (claim.stage, claim.beside)):
            if name == RANDOM_SEARCH and name != claim.stage:
                _require_columns(claim, "random search", COLUMNS[name])
                continue
            if name not in names:
                raise ValueError(f"claims: there is no stage {name}: {claim.claim}")
            if claim.statistic == "value":
                continue
            kind = stage_name(name).kind
            if kind not in COLUMNS:
                raise ValueError(f"claims: stage {name} has no table of structures: {claim.claim}")
            _require_columns(claim, name, COLUMNS[kind])


def _require_columns(claim: Claim, stage: str, columns: Sequence[str]) -> None:
    for name in (claim.quantity, *claim.at):
        if name not in columns:
            raise ValueError(
                f"claims: {stage} has no column {name}, only {', '.join(columns)}: {claim.claim}"
            )


HEADER = ("claim", "paper", "here", "95 % interval", "n", "seeds", "holds")
ANSWERS = {True: "yes", False: "no", None: "not resolved"}


def row(found: Mapping[str, Any]) -> list[str]:
    """Write a measured claim as cells under `HEADER`."""
    unit = f" {found['unit']}" if found["unit"] else ""
    share = found["statistic"] == "share"

    def number(value: float | None) -> str:
        if value is None or not math.isfinite(value):
            return "–"
        if share:
            return f"{100 * value:.3g} %"
        if found["unit"] == "eV" and abs(value) >= 10:  # a total energy: hundredths count
            return f"{value:.2f}"
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"

    here = f"{number(found['here'])}{unit}"
    if share and here != "–":
        here = f"{round(found['here'] * found['n'])} of {found['n']}"
    interval = f"{number(found['low'])} to {number(found['high'])}"
    n = str(found["n"]) + (f", {found['n_beside']}" if found["n_beside"] else "")
    n = "–" if found["statistic"] == "value" else n  # a stage's number, of as many as it says
    p = "" if found["p"] is None else f" (p = {found['p']:.2g})"
    return [
        found["claim"], found["paper"] or "–", f"{here}{p}",
        "–" if interval == "– to –" else interval, n, ", ".join(map(str, found["seeds"])),
        ANSWERS[found["holds"]] if found["expected"] else "–",
    ]  # fmt: skip
