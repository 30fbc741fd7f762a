"""Plan the stages of an experiment, each a command, and run them below one folder.

Each stage leaves what its own command would leave, and those after it are given its place. Two
trainings need nothing of each other: with two cores or more they run at once, each on half of them,
which is quicker than one after the other on all of them.
"""

import logging
import re
import shlex
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
from experiments.harness.config.texts import quoted
from experiments.harness.execution.workers import side_by_side
from experiments.harness.pipeline.claims import REPEAT
from experiments.harness.pipeline.kinds import KINDS, NETWORKS, REFERENCE, Kind, stage_name
from experiments.harness.runs.run_folder import Observe, RunFolder

log = logging.getLogger(__name__)

HOME = "{home}"
"""In the override of a stage: the folder of the run."""


@dataclass(frozen=True)
class Stage:
    """A command with its config, composed and checked."""

    name: str
    command: list[str]
    """The overrides of its config."""
    config: Any
    """Its settings (see `config.settings.SCHEMAS`)."""
    home: Path
    turn: int
    """Stages of one turn run at once, each in a process of its own."""

    @property
    def kind(self) -> str:
        return stage_name(self.name).kind

    @property
    def label(self) -> str:
        return stage_name(self.name).label

    @property
    def entry(self) -> str:
        return KINDS[self.kind].command

    @property
    def folder(self) -> Path:
        name = self.config.name or Path(self.config.sample or "").name  # evaluate: its sample's
        return self.home / self.entry / name


def plan(
    stages: Mapping[str, Sequence[str]],
    home: Path,
    *,
    models: Mapping[str, str] | None = None,
    common: Sequence[str] = (),
    cores: int | None = None,
    directory: Path | None = None,
) -> list[Stage]:
    """Compose and check the stages, in the order in which they run; ValueError if one is not valid.

    stages    the overrides of each stage, by its name
    models    folders of networks that no stage trains, by the name of the stage
    common    overrides of every stage, before its own
    cores     how many of them the stages may use; None: each as its own command does
    directory a folder with more files of groups, as `compose.load` takes it
    """
    names = _ordered(stages)
    made: dict[str, Path] = {}
    planned: list[Stage] = []
    for turn, name in zip(_turns(names, cores), names, strict=True):
        kind, label = stage_name(name)
        found = {**(models or {}), **{n: str(folder) for n, folder in made.items()}}
        own = [override.replace(HOME, str(home)) for override in stages[name]]
        command = [
            *_named(name),
            *_wiring(kind, label, found, own),
            *_share(KINDS[kind], cores, _turns(names, cores).count(turn)),
            f"output={quoted(str(home))}",
            *_without(KINDS[kind].lacks, common),
            *own,
        ]
        if any(o.partition("=")[0].lstrip("+") == "output" for o in own):
            raise ValueError(f"stage {name}: output is that of the whole run: output=FOLDER")
        try:
            config = compose.load(KINDS[kind].command, command, directory)
        except ValueError as error:
            raise ValueError(f"stage {name}: {error}") from error
        stage = Stage(name, command, config, home, turn)
        taken = next((s.name for s in planned if s.folder == stage.folder), None)
        if taken is not None:
            raise ValueError(f"stages {taken} and {name} have the same folder: give one a name=")
        planned.append(stage)
        made[name] = stage.folder
    return planned


def _ordered(stages: Mapping[str, Sequence[str]]) -> list[str]:
    """Order stages by their kinds, each after those whose folders its overrides name."""
    kinds = list(KINDS)
    names = sorted(stages, key=lambda name: kinds.index(stage_name(name).kind))
    ordered: list[str] = []

    def place(name: str, above: Sequence[str] = ()) -> None:
        for other in names:
            if other not in (*ordered, *above, name) and _names(stages[name], other):
                place(other, [*above, name])
        if name not in ordered:
            ordered.append(name)

    for name in names:
        place(name)
    return ordered


def _names(overrides: Sequence[str], stage: str) -> bool:
    """Whether one of the overrides names the folder of a stage."""
    folder = f"{HOME}/{KINDS[stage_name(stage).kind].command}/{_own(stage)}"
    return any(re.search(rf"{re.escape(folder)}(?![\w-])", override) for override in overrides)


def _own(name: str) -> str:
    """The name of the run of a stage."""
    kind, label = stage_name(name)
    return f"{kind}_{label}" if label and kind in NETWORKS else label or kind


def _turns(names: Sequence[str], cores: int | None) -> list[int]:
    """The turn of each stage: two trainings share one if there are cores for both."""
    turns, waiting, turn = [], False, -1
    for name in names:
        beside = waiting and stage_name(name).kind in NETWORKS
        turn += not beside
        turns.append(turn)
        paired = cores is not None and cores > 1 and stage_name(name).kind in NETWORKS
        waiting = paired and not beside
    return turns


def _named(name: str) -> list[str]:
    """What distinguishes the run of a labelled stage from others of its kind."""
    kind, label = stage_name(name)
    task = [f"task={kind}"] if kind in NETWORKS else []
    if kind != "label" and (not label or kind == "evaluate"):  # called as its sample
        return task
    return [*task, f"name={quoted(_own(name))}"]


def _wiring(kind: str, label: str, found: Mapping[str, str], own: Sequence[str]) -> list[str]:
    """Overrides that hand a stage what those before it leave: of its label, else of none."""

    def of(wanted: str, *more: str) -> str | None:
        training = re.search(rf"{REPEAT}\d+$", label)
        shared = [f"{wanted}{training[0]}"] if training else []
        names = [f"{wanted}_{label}", *(f"{wanted}_{other}" for other in more), *shared, wanted]
        return next((found[name] for name in names if name in found), None)

    given: dict[str, str | None] = {}
    if kind in NETWORKS:
        search = of("generate_data")
        given["data.path"] = search and f"{search}/minima.npz"
        if kind == "forcefield":
            given["data.frames"] = search and f"{search}/frames.npz"
    elif kind == "search_cost":
        given["surrogate.model"] = of("forcefield")
    elif kind in ("sample", "recall"):
        guided = kind == "recall" or "guide=none" not in own
        given["forcefield"] = of("forcefield") if guided else None
        given["score"] = of("score")
    elif kind == "evaluate":
        search = of("generate_data", REFERENCE)
        given = {"sample": of("sample"), "reference": search and f"{search}/minima.npz"}
        if "calculator=forcefield" in own:
            given["calculator.path"] = of("forcefield")
    elif kind == "rank" and not any(override.startswith("labels=") for override in own):
        labels = {stage_name(n).label or n: p for n, p in found.items() if n.startswith("label")}
        return [f"labels={{{', '.join(f'{n}: {quoted(p)}' for n, p in labels.items())}}}"]
    return [f"{key}={quoted(value)}" for key, value in given.items() if value is not None]


def _share(kind: Kind, cores: int | None, at_once: int) -> list[str]:
    return [f"{kind.cores}={cores // at_once}"] if cores is not None and kind.cores else []


def _without(keys: Sequence[str], overrides: Sequence[str]) -> list[str]:
    return [o for o in overrides if o.partition("=")[0].split(".")[0] not in keys]


def run(
    stages: Sequence[Stage], folder: RunFolder, observe: Callable[..., None] | None = None
) -> dict[str, Any]:
    """Run the stages; returns what they report, and how long they took.

    `observe` is called as observe(stage, row) with every row that a stage logs; what it raises ends
    that stage, and with it the run. "seconds/STAGE" are from a stage's beginning to its end, and
    "seconds/all" what the user waited: less than their sum where two ran at once. The numbers of a
    labelled stage have its label before their names (lowE/gen/energy_median).
    """
    result: dict[str, Any] = {}
    numbers = {stage.name: number for number, stage in enumerate(stages, start=1)}
    for _, together in groupby(stages, key=lambda stage: stage.turn):
        group = {stage.name: stage for stage in together}
        for name, stage in group.items():
            begun = f"[{numbers[name]}/{len(stages)}] {name}"
            log.info(f"{begun}: surfdiff {stage.entry} {shlex.join(stage.command)}")
        with _timed(folder, group) as ended, closing(_run_all(group, observe)) as finished:
            for name in finished:
                ended(name)
                result |= reported(group[name])
    folder.update_summary(result)
    return result | {k: v for k, v in folder.summary.items() if k.startswith("seconds/")}


def _run_all(
    group: Mapping[str, Stage], observe: Callable[..., None] | None
) -> Generator[str, None, None]:
    """Run these stages, side by side if there are several; yields the name of each as it ends."""
    tasks = {name: partial(_run, stage) for name, stage in group.items()}
    if len(tasks) > 1:
        for name, _ in side_by_side(tasks, observe):
            yield name
        return
    for name, task in tasks.items():
        task(None if observe is None else partial(observe, name))
        yield name


def _run(stage: Stage, observe: Observe | None) -> None:
    command = import_module(KINDS[stage.kind].module)  # here: torch takes seconds to import
    command.run(stage.config, observe=observe)


@contextmanager
def _timed(folder: RunFolder, names: Iterable[str]) -> Iterator[Callable[[str], None]]:
    """Inside, these stages are at work; `ended(name)` marks the end of one.

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


def reported(stage: Stage) -> dict[str, Any]:
    """What the summary of a pipeline takes over from that of a stage."""
    own = RunFolder(stage.folder).summary
    if stage.kind in NETWORKS:
        reached = {k: v for k, v in own.items() if k.startswith(("val/", "forcefield/"))}
        own = {f"{stage.kind}/{k.split('/')[1]}": v for k, v in reached.items()}
    prefix = f"{stage.label}/" if stage.label else ""
    return {prefix + key: value for key, value in own.items()}
