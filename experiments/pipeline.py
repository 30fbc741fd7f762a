"""Several commands as one: a force field, a score, samples, their evaluation, below one folder.

What each stage leaves is what its own command would leave, and the next one finds it there.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from experiments import cli, evaluate, sample, train
from experiments.progress import say
from experiments.runfolder import RunFolder

Run = Callable[..., dict[str, Any]]
STAGES: dict[str, tuple[str, Run]] = {
    "forcefield": ("train", train.run),
    "score": ("train", train.run),
    "sample": ("sample", sample.run),
    "evaluate": ("evaluate", evaluate.run),
}
"""In their order, each with the command that it is."""
NETWORKS = ("forcefield", "score")


@dataclass(frozen=True)
class Stage:
    """A command with its config, composed and checked."""

    name: str
    entry: str
    command: list[str]
    config: DictConfig
    home: Path

    @property
    def folder(self) -> Path:
        name = self.config.name or Path(self.config.sample).name  # evaluate: as the sample's
        return self.home / self.entry / name


def plan(
    stages: Mapping[str, Sequence[str]],
    home: Path,
    identity: str,
    *,
    models: Mapping[str, str] | None = None,
    common: Sequence[str] = (),
    cores: int | None = None,
) -> list[Stage]:
    """The stages in order, checked before any begins; ValueError for a config that is not valid.

    stages    the overrides of each stage that is wanted: "forcefield", "score", "sample",
              "evaluate"
    identity  what the runs are called in W&B, before the name of their stage
    models    folders of networks that no stage trains
    common    overrides of every stage, before its own
    cores     how many of them a stage may use; None: as its own command does
    """
    unknown = sorted(set(stages) - set(STAGES))
    if unknown:
        raise ValueError(f"there is no stage {unknown[0]!r}: there are {', '.join(STAGES)}")
    found = dict(models or {})
    planned: list[Stage] = []
    for name in (n for n in STAGES if n in stages):
        entry = STAGES[name][0]
        own = _wiring(name, found, stages[name])
        if cores is not None:
            own.append(f"{'executor.max_workers' if name == 'evaluate' else 'threads'}={cores}")
        own += [f"output={home}", f"tracking.id={identity}-{name}", *common]
        command = [*own, *stages[name]]
        try:
            stage = Stage(name, entry, command, cli.load(entry, command), home)
        except ValueError as error:
            raise ValueError(f"stage {name}: {error}") from error
        planned.append(stage)
        found[name] = str(stage.folder)
    return planned


def _wiring(name: str, found: Mapping[str, str], overrides: Sequence[str]) -> list[str]:
    """How a stage is told what the stages before it left."""
    if name in NETWORKS:
        return [f"task={name}"]
    if name == "evaluate":
        return [f"sample={found['sample']}"] if "sample" in found else []
    guided = "guide=none" not in overrides
    return [f"{n}={found[n]}" for n in NETWORKS if n in found and (guided or n == "score")]


def run(
    stages: Sequence[Stage], folder: RunFolder, observe: Callable[..., None] | None = None
) -> dict[str, Any]:
    """Run the stages; returns what they reached, and the seconds that each took.

    `observe` is called as observe(stage, row) with every row that a stage logs.
    """
    seconds = {k: v for k, v in folder.summary.items() if k.startswith("seconds/")}
    result: dict[str, Any] = {}
    for number, stage in enumerate(stages, start=1):
        command = " ".join(stage.command)
        told = f"[{number}/{len(stages)}] {stage.name}"
        say(f"{told}: python -m experiments.{stage.entry} {command}")
        started = time.perf_counter()
        try:
            summary = STAGES[stage.name][1](stage.config, observe=_of_stage(observe, stage.name))
            result |= _told(stage.name, summary)
        finally:  # a continued run adds to what its earlier parts took
            spent = seconds.get(f"seconds/{stage.name}", 0.0) + time.perf_counter() - started
            seconds[f"seconds/{stage.name}"] = round(spent, 1)
            parts = [seconds.get(f"seconds/{s}", 0.0) for s in STAGES]
            seconds["seconds/all"] = round(sum(parts), 1)
            folder.update_summary(seconds)
    folder.update_summary(result | seconds)
    return result | seconds


def _told(stage: str, summary: Mapping[str, Any]) -> dict[str, Any]:
    """What a pipeline's summary takes over from that of a stage."""
    if stage not in NETWORKS:
        return dict(summary)
    reached = ("val/", "forcefield/")
    return {f"{stage}/{k.split('/')[1]}": v for k, v in summary.items() if k.startswith(reached)}


def _of_stage(
    observe: Callable[..., None] | None, stage: str
) -> Callable[[Mapping[str, Any]], None] | None:
    return None if observe is None else lambda row: observe(stage, row)
