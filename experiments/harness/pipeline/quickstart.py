"""The whole method in one command: train, generate Ag6O3 in p(3x3), relax, compare.

Trains a force field and a score network on the shipped c(2x8) data, generates surfaces in a cell
that the training never saw, relaxes them with the reference calculator, and draws their energies
beside random structure search. The same command continues after a kill.
"""

import logging
from pathlib import Path
from typing import Any

from experiments.harness.config.settings import Quickstart
from experiments.harness.pipeline import stages as pipeline
from experiments.harness.runs.run_folder import RunFolder

log = logging.getLogger(__name__)

MAY_CHANGE = ("output", "threads", "tracking_mode")


def run(config: Quickstart) -> dict[str, Any]:
    """Four stages, each a command of its own; returns the summary of all."""
    home = Path(config.output) / "quickstart" / config.name
    common = [f"seed={config.seed}", f"tracking.group={config.name}",
              f"tracking.mode={config.tracking_mode or 'null'}"]  # fmt: skip
    stages = pipeline.plan(
        {name: getattr(config, name) for name in pipeline.STAGES},
        home,
        f"quickstart-{config.name}",
        common=common,
        cores=config.threads,
    )
    folder = RunFolder(home)
    folder.save_config(config.plain(), may_change=MAY_CHANGE)
    folder.save_environment()
    summary = pipeline.run(stages, folder)
    log.info(
        f"{summary['seconds/all'] / 60:.1f} minutes; everything is in {home}, "
        "the numbers in summary.json"
    )
    return summary
