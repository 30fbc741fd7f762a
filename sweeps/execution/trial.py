"""One trial: a pipeline at one point of a sweep's space, and one run of the study's group.

usage: surfdiff sweep trial FILE KNOB=VALUE ... [KEY=VALUE ...] [--help]

Runs a single point, without Optuna: by hand, e.g.

  surfdiff sweep trial sweeps/eta.yaml sample.guide.eta_dt=0.002 sample.seed=3

or as what an agent of W&B's own sweeps calls (see sweeps/agents/), whose run it then becomes.

  KNOB=VALUE     every knob of the file's space
  runs=FOLDER    the run folder is sweeps/NAME/by_hand-... below it (default: runs)
  KEY=VALUE      change a key of the file, e.g. tracking.mode=disabled
"""

import hashlib
import math
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution

from experiments.harness.commands.command_line import refuse
from experiments.harness.execution.signals import Stopped, sigterm_exits
from experiments.harness.pipeline import stages as pipeline
from experiments.harness.pipeline.stages import Stage
from experiments.harness.runs.run_folder import RunFolder
from experiments.harness.tracking.tracker import Tracker
from sweeps.definition.reader import parsed, read
from sweeps.definition.sweep import Sweep

MAY_CHANGE = ("stages", "tracking")  # they hold how many threads, and where
BEST = "best"


@dataclass(frozen=True)
class Place:
    """Where trials run, and how many cores one of them has."""

    runs: Path
    cores: int

    def study(self, name: str) -> Path:
        return self.runs / "sweeps" / name


@dataclass(frozen=True)
class Result:
    """What a trial came to; `energies` by name (gen, gen_relaxed), eV above the reference."""

    summary: dict[str, Any]
    energies: dict[str, list[float]]


def seed_of(sweep: Sweep, number: int) -> int:
    """Another one for every trial, the same for all its attempts."""
    text = f"{sweep.name}/{sweep.seed}/{number}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") % 2**31


def run_trial(
    sweep: Sweep,
    label: str,
    seed: int,
    params: Mapping[str, Any],
    place: Place,
    observe: Callable[..., None] | None = None,
) -> Result:
    """Run, or continue, the trial whose folder is called `label`.

    `observe` is told of every row of every stage, and may raise Stopped to prune. ValueError if an
    objective or a constraint was not reported.
    """
    folder = RunFolder(place.study(sweep.name) / label)
    identity = agent_run() or f"{sweep.name}-{label}"
    stages = _plan(sweep, identity, seed, params, folder.path, place.cores)
    folder.save_config(
        {
            "study": sweep.name, "trial": label, "seed": seed, "params": dict(params),
            "stages": {stage.name: stage.config.plain() for stage in stages},
        },
        may_change=MAY_CHANGE,
    )  # fmt: skip
    folder.save_environment()
    about = sweep.tracking.model_dump() | {"group": sweep.name, "id": identity}
    with Tracker(folder, **about, job_type="trial", name=identity) as tracker:
        tracker.summary({f"knob/{name}": value for name, value in params.items()})
        try:
            summary = pipeline.run(stages, folder, observe)
            energies = _show(stages, folder, tracker)
            _require_all(sweep, summary)
            tracker.summary(summary | {"optuna/state": "complete", "optuna/reason": None})
        except Exception as error:
            state = "pruned" if isinstance(error, Stopped) else "failed"
            with suppress(OSError):  # a full disk shall not hide what went wrong
                tracker.summary({"optuna/state": state, "optuna/reason": reason_of(error)})
            raise
    return Result(summary, energies)


def reason_of(error: BaseException) -> str:
    """One line."""
    text = " ".join(str(error).split())
    return text if isinstance(error, ValueError | Stopped) else f"{type(error).__name__}: {text}"


def _plan(
    sweep: Sweep, identity: str, seed: int, params: Mapping[str, Any], home: Path, cores: int
) -> list[Stage]:
    tracking = sweep.tracking.model_dump(include={"mode", "project", "entity"})
    if agent_run() is not None:  # W&B gives this process one run
        tracking["mode"] = "disabled"
    common = [f"seed={seed}", f"tracking.group={sweep.name}"]
    common += [f"tracking.{k}={'null' if v is None else v}" for k, v in tracking.items()]
    return list(sweep.plan(params, home, identity, common=common, cores=cores).values())


def _show(stages: list[Stage], folder: RunFolder, tracker: Tracker) -> dict[str, list[float]]:
    """The stages' energies, and the best structures, as the trial's own; once."""
    energies: dict[str, list[float]] = {}
    shown = {(row.get("event"), row.get("name")) for row in folder.rows()}
    for stage in (stage for stage in stages if stage.name not in pipeline.NETWORKS):
        source = RunFolder(stage.folder)
        for row in source.rows():
            match row.get("event"):
                case "energies":
                    energies[row["name"]] = row["energies"]
                case "structures" if row["name"] == BEST and ("structures", BEST) not in shown:
                    tracker.structures(BEST, source.structures(BEST), row["captions"])
    for name, values in energies.items():
        if ("energies", name) not in shown:
            tracker.energies(name, values)
    return energies


def _require_all(sweep: Sweep, summary: Mapping[str, Any]) -> None:
    for name in [*sweep.objectives, *sweep.constraints]:
        value = summary.get(name)
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"the trial reported no {name}")


def agent_run() -> str | None:
    """The id of the run that an agent of a W&B sweep has begun for this process, if one has."""
    return os.environ.get("WANDB_RUN_ID") if os.environ.get("WANDB_SWEEP_ID") else None


def main(arguments: Sequence[str]) -> None:
    if not arguments or {"--help", "-h"} & set(arguments):
        print((__doc__ or "").strip())
        sys.exit(0 if arguments else 2)
    try:
        by_hand(arguments)
    except (ValueError, OSError) as error:
        refuse("sweep trial", error)


def by_hand(arguments: Sequence[str]) -> Result:
    """Run the point that the command line says."""
    file, *rest = arguments
    given = dict(argument.partition("=")[::2] for argument in rest)
    runs = given.pop("runs", "runs")
    own = {k: v for k, v in given.items() if k.split(".")[0] in Sweep.model_fields}
    sweep = read(file, [f"{k}={v}" for k, v in own.items()])
    unknown = given.keys() - own.keys() - sweep.space.keys()
    missing = sweep.space.keys() - given.keys()
    if unknown:
        raise ValueError(f"{min(unknown)} is no knob of {file}: there are {', '.join(sweep.space)}")
    if missing:
        raise ValueError(f"{min(missing)} is missing: give every knob of {file} as KNOB=VALUE")
    params = {name: _as_meant(parsed(given[name]), d) for name, d in sweep.distributions().items()}
    sweep.plan(params)
    text = "-".join(f"{name.split('.')[-1]}_{value}" for name, value in params.items())
    label = agent_run() or "by_hand-" + re.sub(r"[^\w.-]", "_", text)
    number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
    with sigterm_exits():
        return run_trial(sweep, label, seed_of(sweep, number), params, Place(Path(runs), cores()))


def _as_meant(value: Any, distribution: BaseDistribution) -> Any:
    """An agent of W&B's may write 200.0 for 200."""
    if isinstance(distribution, CategoricalDistribution):
        return next((choice for choice in distribution.choices if choice == value), value)
    whole = isinstance(distribution, IntDistribution) and isinstance(value, float)
    return int(value) if whole and value.is_integer() else value


def cores() -> int:
    """That this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
