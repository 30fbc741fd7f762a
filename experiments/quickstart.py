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
STAGES = {
    "forcefield": ("train", train.run),
    "score": ("train", train.run),
    "sample": ("sample", sample.run),
    "evaluate": ("evaluate", evaluate.run),
}


def run(config: DictConfig) -> dict[str, Any]:
    """Four stages, each a command of its own; returns the summary of the last."""
    home = Path(config.output) / "quickstart" / config.name
    commands, configs = plan(config, home)
    folder = RunFolder(home)
    plain: Any = OmegaConf.to_container(config, resolve=True)
    folder.save_config(plain, may_change=MAY_CHANGE)
    folder.save_environment()
    seconds = {k: v for k, v in folder.summary.items() if k.startswith("seconds/")}
    for number, (stage, (entry, run_stage)) in enumerate(STAGES.items(), start=1):
        command = " ".join(commands[stage])
        say(f"[{number}/{len(STAGES)}] {stage}: python -m experiments.{entry} {command}")
        started = time.perf_counter()
        result = run_stage(configs[stage])
        # A continued run adds to what its earlier parts took.
        spent = seconds.get(f"seconds/{stage}", 0.0) + time.perf_counter() - started
        seconds[f"seconds/{stage}"] = round(spent, 1)
        seconds["seconds/all"] = round(sum(seconds[f"seconds/{s}"] for s in STAGES
                                           if f"seconds/{s}" in seconds), 1)  # fmt: skip
        folder.update_summary(seconds)
    summary = result | seconds
    for stage in ("forcefield", "score"):
        trained = RunFolder(home / "train" / configs[stage].name).summary
        summary |= {
            f"{stage}/{key.split('/')[-1]}": value
            for key, value in trained.items()
            if key.startswith(("val/", "forcefield/"))
        }
    folder.update_summary(summary)
    say(
        f"{seconds['seconds/all'] / 60:.1f} minutes; everything is in {home}, "
        "the numbers in summary.json"
    )
    return summary


def plan(config: DictConfig, home: Path) -> tuple[dict[str, list[str]], dict[str, DictConfig]]:
    """What each stage's own command would be given, and its config: checked before any begins."""
    common = [f"output={home}", f"seed={config.seed}", f"tracking.group={config.name}",
              f"tracking.mode={config.tracking_mode or 'null'}"]  # fmt: skip
    threads = [] if config.threads is None else [f"threads={config.threads}"]
    commands: dict[str, list[str]] = {}
    configs: dict[str, DictConfig] = {}

    def add(stage: str, *own: str) -> Path:
        """Returns where the stages of its entry point keep their runs."""
        entry, _ = STAGES[stage]
        commands[stage] = [*own, *common, *config[stage]]
        configs[stage] = cli.load(entry, commands[stage])
        return home / entry

    forcefield = add("forcefield", "task=forcefield", *threads) / configs["forcefield"].name
    score = add("score", "task=score", *threads) / configs["score"].name
    networks = (f"score={score}", f"forcefield={forcefield}")
    sampled = add("sample", *networks, *threads) / configs["sample"].name
    add("evaluate", f"sample={sampled}")
    return commands, configs


if __name__ == "__main__":
    cli.main("quickstart", run, __doc__, "name=mine")
