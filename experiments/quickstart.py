"""The whole method in one command: train, generate Ag6O3 in p(3x3), relax, compare.

Trains a force field and a score network on the shipped c(2x8) data, generates surfaces in a cell
that the training never saw, relaxes them with the reference calculator, and draws their energies
beside random structure search. The same command continues after a kill.
"""

import time
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from experiments import cli, evaluate, sample, train
from experiments.progress import say
from experiments.runfolder import RunFolder

MAY_CHANGE = ("output", "threads", "tracking_mode")
STAGES = (("forcefield", "train", train.run), ("score", "train", train.run),
          ("sample", "sample", sample.run), ("evaluate", "evaluate", evaluate.run))  # fmt: skip


def run(config: DictConfig) -> dict[str, Any]:
    """Four stages, each a command of its own; returns the summary of the last."""
    home = Path(config.output) / "quickstart" / config.name
    folder = RunFolder(home)
    plain: Any = OmegaConf.to_container(config, resolve=True)
    folder.save_config(plain, may_change=MAY_CHANGE)
    folder.save_environment()
    began = time.perf_counter()
    seconds: dict[str, float] = {}
    for number, (stage, entry, run_stage) in enumerate(STAGES, start=1):
        say(f"[{number}/{len(STAGES)}] {stage}: python -m experiments.{entry} "
            + " ".join(overrides(config, stage, home)))  # fmt: skip
        started = time.perf_counter()
        result = run_stage(cli.load(entry, overrides(config, stage, home)))
        seconds[f"seconds/{stage}"] = round(time.perf_counter() - started, 1)
    seconds["seconds/all"] = round(time.perf_counter() - began, 1)
    summary = {k: v for k, v in result.items() if "bins" not in k} | seconds
    for stage in ("forcefield", "score"):
        losses = RunFolder(home / "train" / stage).summary
        summary |= {f"{stage}/{k.split('/')[-1]}": v for k, v in losses.items() if "/" in k}
    folder.update_summary(summary)
    say(
        f"{seconds['seconds/all'] / 60:.1f} minutes; everything is in {home}, "
        "the numbers in summary.json"
    )
    return summary


def overrides(config: DictConfig, stage: str, home: Path) -> list[str]:
    """What the stage's own command would be given."""
    common = [f"output={home}", f"seed={config.seed}", f"tracking.group={config.name}",
              f"tracking.mode={config.tracking_mode or 'null'}"]  # fmt: skip
    if stage in ("forcefield", "score", "sample") and config.threads is not None:
        common.append(f"threads={config.threads}")
    own = {
        "forcefield": ["task=forcefield"],
        "score": ["task=score"],
        "sample": [f"score={home}/train/score", f"forcefield={home}/train/forcefield"],
        "evaluate": [f"sample={home}/sample/Ag6O3"],
    }
    return own[stage] + common + list(config[stage])


if __name__ == "__main__":
    cli.main("quickstart", run, __doc__, "name=mine")
