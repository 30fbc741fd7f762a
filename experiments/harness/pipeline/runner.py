"""Run an experiment: read its file, plan and check its stages, run them, collect their numbers."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from experiments.harness.config.fields import Count, Section
from experiments.harness.config.trust import require_known
from experiments.harness.pipeline import claims, table
from experiments.harness.pipeline import stages as pipeline
from experiments.harness.pipeline.checks import check
from experiments.harness.pipeline.experiment import Experiment, find, name_of, read, split_off
from experiments.harness.runs import markdown
from experiments.harness.runs.atomic_io import write_text
from experiments.harness.runs.run_folder import RunFolder

log = logging.getLogger(__name__)

MAY_CHANGE = ("output", "threads", "tracking_mode", "trust", "claim", "paper", "reading", "cost")
"""Keys of the run's config that a continued run may set anew."""
TABLE, CLAIMS = "table.md", "claims.json"


class Options(Section):
    """How an experiment is run."""

    small: bool = False
    output: str = "runs"
    threads: Count | None = 2
    """Cores; from 2 on, two networks are trained at once. None: as each command decides."""
    tracking_mode: Literal["online", "offline", "disabled"] | None = None
    """None: online if there is a key of W&B, else offline."""
    trust: bool = False
    """Whether to build what no list of ours has (`config.trust`)."""


@dataclass(frozen=True)
class Prepared:
    """An experiment with its stages, planned and checked, below `home`."""

    experiment: Experiment
    source: str
    """The name of the experiment that `experiment` is a run of."""
    options: Options
    home: Path
    stages: list[pipeline.Stage]


@dataclass(frozen=True)
class Outcome:
    """The numbers of an experiment, and a table of them in markdown."""

    summary: dict[str, Any]
    table: str


def prepare(
    source: str | Path,
    overrides: Sequence[str] = (),
    parent: str = "",
    directory: Path | None = None,
) -> Prepared:
    """Plan and check a run in <output>/<parent>/<name>; ValueError if it could not reach its end.

    source     an experiment's folder, a YAML file, or the name of an experiment of this project
    overrides  STAGE.KEY=VALUE or KEY=VALUE for the experiment, and the fields of `Options`
    parent     a folder between the output and the experiment's, if any
    directory  a folder with more files of groups, such as calculator/
    """
    options, own = split_off(Options, overrides)
    experiment: Experiment = read(source, own, options.small)
    home = Path(options.output, parent, experiment.name)
    stages = pipeline.plan(
        experiment.stages,
        home,
        models=experiment.models,
        common=[
            f"seed={experiment.seed}",
            f"tracking.mode={options.tracking_mode or 'null'}",
        ],
        cores=options.threads,
        directory=directory,
    )
    for stage in () if options.trust else stages:
        require_known(stage.config.plain(), f"{find(source)}, stage {stage.name},")
    check(stages, experiment.models)
    return Prepared(experiment, name_of(find(source)), options, home, stages)


def run(
    source: str | Path,
    overrides: Sequence[str] = (),
    parent: str = "",
    observe: Callable[..., None] | None = None,
    directory: Path | None = None,
) -> Outcome:
    """Run, or continue, an experiment (see `prepare`).

    observe  called as observe(stage, row) with every row that a stage logs
    """
    from experiments.harness.pipeline.measures import measure  # here: it imports torch

    prepared = prepare(source, overrides, parent, directory)
    folder = RunFolder(prepared.home)
    experiment = prepared.experiment
    described = experiment.model_dump(exclude={"small", "claims", "figures"})
    described |= prepared.options.model_dump()
    with folder.recording({"experiment": prepared.source, **described}, MAY_CHANGE):
        summary = pipeline.run(prepared.stages, folder, observe)
        text = table.results(table.columns(experiment, summary))
        if experiment.claims:
            found = measure(experiment.claims, prepared.stages, experiment.seed)
            folder.write_json(CLAIMS, {"claims": found})
            text += "\n\n" + markdown.table(claims.HEADER, map(claims.row, found))
        write_text(folder / TABLE, text + "\n")
        if experiment.figures:
            from experiments.harness.pipeline.illustrations import illustrate

            illustrate(experiment.figures, prepared.stages, folder.path, experiment.seed)
    log.info(
        f"{summary['seconds/all'] / 60:.1f} minutes; everything is in {prepared.home}, "
        f"the numbers in summary.json and {TABLE}"
    )
    return Outcome(summary, text)
