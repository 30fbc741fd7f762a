"""The numbers of an experiment as a table: one column for each sampling, one for random search."""

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.harness.pipeline.experiment import Experiment
from experiments.harness.pipeline.kinds import NETWORKS, stage_name
from experiments.harness.runs.markdown import table
from experiments.harness.runs.metrics import SHARE, count

ROWS = (
    # label, format (a share is written as a count), of generated structures, of random search
    ("structures", "{:.0f}", "gen/n", "rss/n"),
    ("median energy as generated (eV)", "{:.2f}", "gen/energy_median", None),
    ("median energy, relaxed (eV)", "{:.2f}", "gen_relaxed/energy_median", "rss/energy_median"),
    ("lowest energy, relaxed (eV)", "{:.2f}", "gen_relaxed/energy_min", None),
    ("valid as generated", SHARE, "gen/frac_valid", None),
    ("different surfaces, relaxed", SHARE, "gen/frac_unique", None),
    ("relaxed to the lowest minimum of random search", SHARE, "gen/hit_rate", "rss/hit_rate"),
    ("lower than that minimum by over 0.05 eV", SHARE, "gen/frac_below_reference", None),
    ("relaxation steps, mean", "{:.0f}", "gen/relax_steps_mean", "rss/relax_steps_mean"),
    (
        "force field, energy error (meV/atom), held-out frames under 5 eV/Å",
        "{:.0f}",
        "forcefield/energy_mae",
        None,
    ),
    ("force field, force error (meV/Å), all atoms", "{:.0f}", "forcefield/force_mae", None),
    ("seconds", "{:.0f}", "seconds/all", None),
)

ENERGIES = ("gen/energy_median", "gen_relaxed/energy_median", "gen_relaxed/energy_min")
"""Rows that count from the lowest minimum of random search, or from the lowest that was made."""


def columns(experiment: Experiment, summary: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The numbers of each sampling, by its label; networks without one are everybody's.

    An experiment without labels has one column, of its own name.
    """
    labels = {label for label in (stage_name(n).label for n in experiment.stages) if label}
    shared = {k: v for k, v in summary.items() if k.split("/")[0] not in labels}
    sampled = [n for n in map(stage_name, experiment.stages) if n.kind == "sample"]
    if [n.label for n in sampled] in ([], [""]):
        return {experiment.name: shared}
    networks = {k: v for k, v in shared.items() if k.split("/")[0] in NETWORKS}
    found = {
        name.label or experiment.name: networks
        | {
            key.removeprefix(f"{name.label}/"): value
            for key, value in (summary if name.label else shared).items()
            if key.startswith(f"{name.label}/" if name.label else "")
        }
        for name in sampled
    }
    kinds: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for stage, column in zip(filter(_samples, experiment.stages), found.values(), strict=True):
        if "rss/n" not in column:
            kinds.setdefault(_surface(experiment.stages[stage]), []).append(column)
    for alike in kinds.values():
        _count_from_one_zero(alike)
    return found


def _samples(stage: str) -> bool:
    return stage_name(stage).kind == "sample"


def _surface(overrides: Sequence[str]) -> tuple[str, ...]:
    """What a sampling generates: surfaces of one composition on one template."""
    return tuple(sorted(o for o in overrides if o.startswith(("composition=", "template."))))


def _count_from_one_zero(alike: Sequence[dict[str, Any]]) -> None:
    """Count energies of columns without a random search, each from its own lowest, from all's."""
    relative, absolute = "gen_relaxed/energy_median", "gen_relaxed/energy_median_abs"
    relaxed = [column for column in alike if column.get(absolute) is not None]
    zeros = [column[absolute] - column[relative] for column in relaxed]
    for column, zero in zip(relaxed, zeros, strict=True):
        column |= {key: column[key] + zero - min(zeros) for key in ENERGIES if key in column}


def results(columns: Mapping[str, Mapping[str, Any]]) -> str:
    """Markdown: one column for each of these summaries, and one for random search."""
    first = next(iter(columns.values()))
    header = ["", "random search", *(f"`{name}`" for name in columns)]
    lines = []
    for label, form, key, rss in ROWS:
        cells = [
            _cell(form, first, rss),
            *(_cell(form, column, key) for column in columns.values()),
        ]
        if any(cell != "–" for cell in cells):
            lines.append([label, *cells])
    return table(header, lines)


def _cell(form: str, summary: Mapping[str, Any], key: str | None) -> str:
    if key is None or summary.get(key) is None:
        return "–"
    if form == SHARE:
        return "{} of {}".format(*count(summary, key))
    return form.format(summary[key])
