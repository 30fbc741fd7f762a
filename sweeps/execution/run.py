"""Run a sweep, or go on with it: surfdiff sweep run sweeps/eta.yaml

The trials belong to a study in a database, and any number of workers, here and on other machines,
takes them from there; the same command joins, continues, or tells that all is done.

usage: surfdiff sweep run FILE [KEY=VALUE ...] [--help] [--traceback]

  storage=URL         the database (sqlite:///FILE for one machine, postgresql://... for several);
                      default: sweeps/studies.db below runs
  runs=FOLDER         where the trials' run folders are, below sweeps/NAME (default: runs)
  workers=N           processes on this machine, which share its cores (default: 1)
  retry_failed=true   let the failed trials of the study wait again
  heartbeat=SECONDS   a worker silent for three of them is taken for dead (default: 20)
  KEY=VALUE           change a key of the file, e.g. budget=24 name=eta_long tracking.mode=disabled

The keys of a file are explained in sweeps/README.md.
"""

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna

from experiments.harness.commands.command_line import refuse
from experiments.harness.execution.signals import sigterm_exits
from sweeps.definition.reader import read
from sweeps.execution.study import (
    HEARTBEAT,
    default_url,
    open_storage,
    open_study,
    retry_failed,
    revive,
    shown,
    states,
)
from sweeps.execution.trial import Place, cores
from sweeps.execution.worker import AllFail, stop_if_all_fail, work

log = logging.getLogger(__name__)

FAILING = 3
"""The exit code of a worker that stopped because all trials fail."""
WORKER = "SWEEP_WORKER"
"""Set for a worker process, to its number: it works, and leaves the telling to its parent."""


@dataclass(frozen=True)
class Settings:
    """How a sweep is run, beside what its file says."""

    storage: str | None = None
    runs: str = "runs"
    workers: int = 1
    retry_failed: bool = False
    heartbeat: int = HEARTBEAT

    @property
    def url(self) -> str:
        return self.storage or default_url(Path(self.runs))

    @property
    def place(self) -> Place:
        return Place(Path(self.runs), max(1, cores() // self.workers))


def parse(arguments: Sequence[str]) -> tuple[str, Settings, list[str]]:
    """The sweep's file, the settings, and the rest, which changes keys of the file."""
    unknown = {a for a in arguments if a.startswith("-")} - {"--traceback"}
    if unknown:
        raise ValueError(f"unknown option {min(unknown)}; --help lists what there is")
    files = [a for a in arguments if "=" not in a and not a.startswith("-")]
    if len(files) != 1:
        raise ValueError("give one sweep file, e.g. sweeps/eta.yaml; --help tells more")
    fields = Settings.__dataclass_fields__
    own: dict[str, Any] = {}
    overrides = []
    for argument in (a for a in arguments if "=" in a):
        key, _, value = argument.partition("=")
        if key not in fields:
            overrides.append(argument)
        elif key in ("workers", "heartbeat"):
            if not value.isdigit() or int(value) < 1:
                raise ValueError(f"{key} must be a whole number above 0, got {value!r}")
            own[key] = int(value)
        elif key == "retry_failed":
            if value not in ("true", "false"):
                raise ValueError(f"retry_failed must be true or false, got {value!r}")
            own[key] = value == "true"
        else:
            own[key] = value
    return files[0], Settings(**own), overrides


def run(arguments: Sequence[str]) -> optuna.Study:
    """Run what the command line says; returns the study when none of its trials is left."""
    file, settings, overrides = parse(arguments)
    sweep = read(file, overrides)
    worker = os.environ.get(WORKER)
    if worker is not None:
        with sigterm_exits(), _silent_failing():
            work(sweep, settings.url, settings.place, settings.heartbeat)
    storage = open_storage(settings.url, sweep.retries, settings.heartbeat)
    study = open_study(sweep, storage)
    if worker is not None:
        return study
    from sweeps.analysis.show import (  # here: no worker waits for matplotlib and scipy.stats
        publish,
        show,
    )

    revive(study, sweep.retries)
    if settings.retry_failed:
        log.info(f"{sweep.name}: {retry_failed(study)} failed trials wait again")
    _tell(study, settings)
    began = datetime.now()
    left = states(study)["waiting"] + states(study)["running"]
    try:
        if left and settings.workers == 1:
            with sigterm_exits():
                work(sweep, settings.url, settings.place, settings.heartbeat)
        elif left:
            _supervise(arguments, settings)
            stop_if_all_fail(study, began)
    except AllFail:
        print(show(study))
        publish(study, settings.place, sweep.tracking)
        raise
    if left:
        print(show(study))
    publish(study, settings.place, sweep.tracking)
    return study


@contextmanager
def _silent_failing() -> Iterator[None]:
    """The parent of all workers says once that all trials fail."""
    try:
        yield
    except AllFail as error:
        raise SystemExit(FAILING) from error


def _tell(study: optuna.Study, settings: Settings) -> None:
    counts = ", ".join(f"{n} {state}" for state, n in states(study).items() if n)
    budget = study.user_attrs["budget"]
    log.info(f"{study.study_name}: {budget} trials: {counts} ({shown(settings.url)})")


def _supervise(arguments: Sequence[str], settings: Settings) -> None:
    """Workers as processes of their own: one that is killed takes no other with it."""
    command = [sys.executable, "-m", "experiments", "sweep", "run", *arguments]
    threads = {"OMP_NUM_THREADS": str(settings.place.cores)}
    started = [
        subprocess.Popen(command, env=threads | os.environ | {WORKER: str(number)})
        for number in range(1, settings.workers + 1)
    ]
    with _ended(started):
        codes = [process.wait() for process in started]
    for number, code in enumerate(codes, start=1):
        if code < 0:
            log.info(f"worker {number} was killed by {signal.Signals(-code).name}")
    if all(code < 0 for code in codes):
        log.info("no worker is left; the same command continues where they stopped")
        raise SystemExit(1)
    if set(codes) - {0, FAILING} and max(codes) > 0:
        raise SystemExit(max(codes))


@contextmanager
def _ended(processes: Sequence[subprocess.Popen[bytes]]) -> Iterator[None]:
    """However this process ends, its workers end too, and give their trials back."""
    try:
        with sigterm_exits():
            yield
    finally:
        for process in processes:
            if process.poll() is None:
                process.terminate()
        for process in processes:
            process.wait()


def main(arguments: Sequence[str]) -> None:
    if not arguments or {"--help", "-h"} & set(arguments):
        print(__doc__.strip())
        sys.exit(0 if arguments else 2)
    try:
        study = run(arguments)
        if os.environ.get(WORKER) is None and not states(study)["complete"]:
            raise SystemExit(1)  # as shown
    except (ValueError, OSError) as error:
        if "--traceback" in arguments:
            raise
        refuse("sweep run", error)
    except KeyboardInterrupt:
        log.info("sweep run: interrupted; the same command continues where it stopped")
        sys.exit(130)
