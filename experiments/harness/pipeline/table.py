"""The numbers of an experiment as a table: one column for each sampling, one for random search."""

from collections.abc import Mapping
from typing import Any

from experiments.harness.pipeline.experiment import Experiment
from experiments.harness.pipeline.kinds import NETWORKS, stage_name
from experiments.harness.runs.markdown import table

ROWS = (
    # label, how it is written, of generated structures, of random search
    ("structures", "{:.0f}", "gen/n", "rss/n"),
    ("median energy as generated (eV)", "{:.2f}", "gen/energy_median", None),
    ("median energy, relaxed (eV)", "{:.2f}", "gen_relaxed/energy_median", "rss/energy_median"),
    ("lowest energy, relaxed (eV)", "{:.2f}", "gen_relaxed/energy_min", None),
    ("valid as generated", "{:.0%}", "gen/frac_valid", None),
    ("different surfaces, relaxed", "{:.0%}", "gen/frac_unique", None),
    ("ends in the lowest of random search", "{:.0%}", "gen/hit_rate", "rss/hit_rate"),
    ("ends lower than that by over 0.05 eV", "{:.0%}", "gen/frac_below_reference", None),
    ("relaxation steps, mean", "{:.0f}", "gen/relax_steps_mean", "rss/relax_steps_mean"),
    (
        "force field, held-out frames under 5 eV/Å: energy (meV/atom)",
        "{:.0f}",
        "forcefield/energy_mae",
        None,
    ),
    ("the same: forces on all atoms (meV/Å)", "{:.0f}", "forcefield/force_mae", None),
    ("seconds", "{:.0f}", "seconds/all", None),
)


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
    return {
        name.label or experiment.name: networks
        | {
            key.removeprefix(f"{name.label}/"): value
            for key, value in (summary if name.label else shared).items()
            if key.startswith(f"{name.label}/" if name.label else "")
        }
        for name in sampled
    }


def results(columns: Mapping[str, Mapping[str, Any]]) -> str:
    """Markdown: one column for each of these summaries, and one for random search."""
    first = next(iter(columns.values()))
    header = ["", "random search", *(f"`{name}`" for name in columns)]
    lines = []
    for label, form, key, rss in ROWS:
        cells = [
            _cell(form, first.get(rss or "")),
            *(_cell(form, c.get(key)) for c in columns.values()),
        ]
        if any(cell != "–" for cell in cells):
            lines.append([label, *cells])
    return table(header, lines)


def _cell(form: str, value: float | None) -> str:
    return "–" if value is None else form.format(value)
