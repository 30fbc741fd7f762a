"""One trial: a pipeline at one point of a sweep's space, and one run of the study's group."""

import hashlib
import math
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.harness.execution.signals import Stopped
from experiments.harness.pipeline import stages as pipeline
from experiments.harness.pipeline.experiment import parsed
from experiments.harness.pipeline.kinds import NETWORKS
from experiments.harness.pipeline.stages import Stage
from experiments.harness.runs.run_folder import RunFolder
from experiments.harness.tracking.tracker import Tracker
from experiments.harness.training import curves
from sweeps.definition.sweep import Sweep

MAY_CHANGE = ("stages", "tracking")  # they hold how many threads, and where
BEST, RELAXED = "best", "relaxed"


@dataclass(frozen=True)
class Place:
    """Where trials run, and how many cores one of them has."""

    runs: Path
    cores: int

    def study(self, name: str) -> Path:
        return self.runs / "sweeps" / name


@dataclass(frozen=True)
class Result:
    """The metrics of a trial, and its energies by name (eV above the reference)."""

    summary: dict[str, Any]
    energies: dict[str, list[float]]


def run_trial(
    sweep: Sweep,
    label: str,
    seed: int,
    params: Mapping[str, Any],
    place: Place,
    observe: Callable[..., None] | None = None,
) -> Result:
    """Run, or continue, the trial whose folder is called `label`.

    `observe` is called as observe(stage, row) with every row of every stage, and may raise Stopped
    to prune. ValueError if an objective or a constraint was not reported.
    """
    folder = RunFolder(place.study(sweep.name) / label)
    tracking = sweep.tracking.model_dump(include={"service", "mode", "project", "entity"})
    common = [f"seed={seed}", f"tracking.group={sweep.name}"]
    common += [f"tracking.{k}={'null' if v is None else v}" for k, v in tracking.items()]
    stages = list(sweep.plan(params, folder.path, common=common, cores=place.cores).values())
    recorded = {
        "study": sweep.name, "trial": label, "seed": seed, "params": dict(params),
        "stages": {stage.name: stage.config.plain() for stage in stages},
    }  # fmt: skip
    about = sweep.tracking.model_dump() | {"group": sweep.name}
    trained = [stage for stage in stages if stage.kind in NETWORKS]
    axes = {k: v for stage in trained for k, v in curves.axes(stage.name).items()}
    name = f"{sweep.name}-{label}"
    with (
        folder.recording(recorded, MAY_CHANGE),
        Tracker(folder, **about, job_type="trial", name=name, axes=axes) as tracker,
    ):
        tracker.summary({f"param/{name}": value for name, value in params.items()})
        try:
            summary = pipeline.run(stages, folder, observe)
            energies = _log_results(stages, folder, tracker)
            _require_all(sweep, summary)
            tracker.summary(summary | {"optuna/state": "complete", "optuna/reason": None})
        except Exception as error:
            state = "pruned" if isinstance(error, Stopped) else "failed"
            with suppress(OSError):  # a full disk must not hide the error
                tracker.summary({"optuna/state": state, "optuna/reason": reason_of(error)})
            raise
        finally:
            with suppress(OSError):
                for stage in trained:
                    curves.log_curves(stage.name, RunFolder(stage.folder), tracker)
    return Result(summary, energies)


def reason_of(error: BaseException) -> str:
    """Return an error as one line."""
    text = " ".join(str(error).split())
    return text if isinstance(error, ValueError | Stopped) else f"{type(error).__name__}: {text}"


def _log_results(
    stages: list[Stage], folder: RunFolder, tracker: Tracker
) -> dict[str, list[float]]:
    """Log energies and best structures as the trial's own, once; returns the energies.

    Those of a labelled stage have its label before their names, as its metrics have.
    """
    energies: dict[str, list[float]] = {}
    logged = {(row.get("event"), row.get("name")) for row in folder.rows()}
    for stage in (stage for stage in stages if stage.kind not in NETWORKS):
        source, prefix = RunFolder(stage.folder), f"{stage.label}/" if stage.label else ""
        for row in source.rows():
            best = f"{BEST}_{stage.label}" if stage.label else BEST
            match row.get("event"), row.get("name"):
                case "energies", name:
                    energies[f"{prefix}{name}"] = row["energies"]
                case "structures", name if name == RELAXED and ("structures", best) not in logged:
                    shown = source.structures(RELAXED)[: len(row["captions"])]
                    tracker.structures(best, shown, row["captions"])
    for name, values in energies.items():
        if ("energies", name) not in logged:
            tracker.energies(name, values)
    return energies


def _require_all(sweep: Sweep, summary: Mapping[str, Any]) -> None:
    for name in [*sweep.objectives, *sweep.constraints]:
        value = summary.get(name)
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"the trial reported no {name}")


def run_point(sweep: Sweep, values: Mapping[str, str], place: Place) -> Result:
    """Run the point that `values` give as text; ValueError if one is missing or out of range."""
    for name in sorted(values.keys() ^ sweep.space.keys()):
        what = "is missing" if name in sweep.space else "is no parameter"
        raise ValueError(f"{name} {what}: give {', '.join(sweep.space)} as NAME=VALUE")
    params = {name: parsed(values[name]) for name in sweep.space}
    sweep.plan(params)
    text = "-".join(f"{name.split('.')[-1]}_{value}" for name, value in params.items())
    label = "by_hand-" + re.sub(r"[^\w.-]", "_", text)
    number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
    return run_trial(sweep, label, sweep.trial_seed(number), params, place)
