"""Several commands as one: a force field, a score, samples, their evaluation, below one folder.

What each stage leaves is what its own command would leave, and the next one finds it there. The two
trainings need nothing of each other: with two cores or more they run at once, each on half of them,
which is quicker than one after the other on all of them.
"""

import logging
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from itertools import groupby
from pathlib import Path
from typing import Any

from experiments.harness.config import compose
from experiments.harness.execution.workers import side_by_side
from experiments.harness.runs.run_folder import Observe, RunFolder

log = logging.getLogger(__name__)

STAGES = {"forcefield": "train", "score": "train", "sample": "sample", "evaluate": "evaluate"}
"""In their order, each with the command that it is."""
NETWORKS = ("forcefield", "score")
HOMES = {
    "train": "experiments.harness.training.train",
    "sample": "experiments.harness.generation.sample",
    "evaluate": "experiments.harness.generation.evaluate",
}
"""Where each command's `run` is."""


@dataclass(frozen=True)
class Stage:
    """A command with its config, composed and checked."""

    name: str
    entry: str
    command: list[str]
    config: Any
    """Its settings: `Train`, `Sample` or `Evaluate`."""
    home: Path
    at_once: bool = False
    """Whether it runs beside the other stage that does, each in a process of its own."""

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
    cores     how many of them the stages may use; None: each as its own command does
    """
    unknown = sorted(set(stages) - set(STAGES))
    if unknown:
        raise ValueError(f"there is no stage {unknown[0]!r}: there are {', '.join(STAGES)}")
    found = dict(models or {})
    planned: list[Stage] = []
    both = cores is not None and cores > 1 and set(NETWORKS) <= set(stages)
    for name in (n for n in STAGES if n in stages):
        entry = STAGES[name]
        own = _wiring(name, found, stages[name])
        at_once = both and name in NETWORKS
        if cores is not None:
            share = cores // 2 if at_once else cores
            own.append(f"{'executor.max_workers' if name == 'evaluate' else 'threads'}={share}")
        own += [f"output={home}", f"tracking.id={identity}-{name}", *common]
        command = [*own, *stages[name]]
        try:
            stage = Stage(name, entry, command, compose.load(entry, command), home, at_once)
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
    """Run the stages; returns what they reached, and how long they took.

    `observe` is called as observe(stage, row) with every row that a stage logs; what it raises ends
    that stage, and with it the run. "seconds/STAGE" are from a stage's beginning to its end, and
    "seconds/all" what the user waited: less than their sum where two ran at once.
    """
    result: dict[str, Any] = {}
    numbers = {stage.name: number for number, stage in enumerate(stages, start=1)}
    for _, together in groupby(stages, key=lambda stage: stage.at_once or stage.name):
        group = {stage.name: stage for stage in together}
        for name, stage in group.items():
            told = f"[{numbers[name]}/{len(stages)}] {name}"
            log.info(f"{told}: surfdiff {stage.entry} {' '.join(stage.command)}")
        with _timed(folder, group) as ended, closing(_run_all(group, observe)) as results:
            for name, summary in results:
                ended(name)
                result |= _told(name, summary)
    folder.update_summary(result)
    return result | {k: v for k, v in folder.summary.items() if k.startswith("seconds/")}


def _run_all(
    group: Mapping[str, Stage], observe: Callable[..., None] | None
) -> Generator[tuple[str, Any], None, None]:
    """(name, summary) of each stage as it ends; several run side by side."""
    if len(group) > 1:
        yield from side_by_side({n: partial(_run, stage) for n, stage in group.items()}, observe)
        return
    for name, stage in group.items():
        yield name, _run(stage, None if observe is None else partial(observe, name))


def _run(stage: Stage, observe: Observe | None) -> dict[str, Any]:
    command = import_module(HOMES[stage.entry])  # here: torch takes seconds to import
    return command.run(stage.config, observe=observe)


@contextmanager
def _timed(folder: RunFolder, names: Iterable[str]) -> Iterator[Callable[[str], None]]:
    """Inside, these stages are at work; `ended(name)` says that one is done.

    Their seconds go to the folder's summary however they end, and a continued run adds to what its
    earlier parts took.
    """
    before, started = folder.summary, time.perf_counter()
    took: dict[str, float] = {}

    def elapsed() -> float:
        return time.perf_counter() - started

    try:
        yield lambda name: took.update({name: elapsed()})
    finally:
        seconds = dict.fromkeys([*names, "all"], elapsed()) | took
        keyed = {f"seconds/{name}": spent for name, spent in seconds.items()}
        folder.update_summary({k: round(before.get(k, 0.0) + s, 1) for k, s in keyed.items()})


def _told(stage: str, summary: Mapping[str, Any]) -> dict[str, Any]:
    """What a pipeline's summary takes over from that of a stage."""
    if stage not in NETWORKS:
        return dict(summary)
    reached = ("val/", "forcefield/")
    return {f"{stage}/{k.split('/')[1]}": v for k, v in summary.items() if k.startswith(reached)}
