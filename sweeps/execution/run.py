"""Run a study with one or several worker processes on this machine."""

import logging
import os
import signal
import sys
from multiprocessing import get_context
from pathlib import Path

import optuna

from experiments.harness.config.fields import Count, Section
from experiments.harness.execution.logs import log_to_stderr
from experiments.harness.execution.signals import sigterm_exits
from experiments.harness.execution.workers import ended_at_last
from sweeps.definition.sweep import Sweep
from sweeps.execution import study as studies
from sweeps.execution.storage import HEARTBEAT, without_password
from sweeps.execution.trial import Place
from sweeps.execution.worker import AllFail, ended, stop_if_all_fail, work

log = logging.getLogger(__name__)

FAILING = 3  # the exit code of a worker process that stopped because all trials fail


class Settings(Section):
    """How a sweep is run, beside what its file holds."""

    storage: str | None = None
    runs: str = "runs"
    workers: Count = 1
    retry_failed: bool = False
    trust: bool = False
    heartbeat: Count = HEARTBEAT

    @property
    def url(self) -> str:
        return self.storage or f"sqlite:///{Path(self.runs).resolve() / 'sweeps/studies.db'}"

    @property
    def place(self) -> Place:
        mine = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        return Place(Path(self.runs), max(1, (mine or 1) // self.workers))


def prepare(sweep: Sweep, settings: Settings) -> optuna.Study:
    """Create or join the study, and queue the trials again that may be retried."""
    study = studies.open_study(sweep, studies.storage_of(sweep, settings.url, settings.heartbeat))
    studies.retry_abandoned(study, sweep.retries)
    if settings.retry_failed:
        log.info(f"{sweep.name}: {studies.retry_failed(study)} failed trials are queued again")
    return study


def run(sweep: Sweep, study: optuna.Study, settings: Settings) -> None:
    """Run what is left of the study.

    AllFail after five failed trials in a row; SystemExit if no worker survives.
    """
    counts, before = studies.states(study), ended(study)
    text = ", ".join(f"{n} {state}" for state, n in counts.items() if n)
    where = without_password(settings.url)
    log.info(f"{sweep.name}: {study.user_attrs['budget']} trials: {text} ({where})")
    if counts["waiting"] + counts["running"] and settings.workers == 1:
        run_worker(sweep, settings, settings.place)
    elif counts["waiting"] + counts["running"]:
        _supervise(sweep, settings)
        stop_if_all_fail(study, before)


def run_worker(sweep: Sweep, settings: Settings, place: Place) -> None:
    """Work in this process; SIGTERM gives its trial back."""
    with sigterm_exits():
        work(sweep, settings.url, place, settings.heartbeat)


def _supervise(sweep: Sweep, settings: Settings) -> None:
    """Run the workers in processes of their own: one that is killed takes no other with it."""
    os.environ.setdefault("OMP_NUM_THREADS", str(settings.place.cores))
    spawn = get_context("spawn")
    with ended_at_last() as processes:  # so that they give their trials back
        for _ in range(settings.workers):
            processes.append(spawn.Process(target=_worker, args=(sweep, settings)))
            processes[-1].start()
        for process in processes:
            process.join()
    codes = [process.exitcode or 0 for process in processes]
    for number, code in enumerate(codes, start=1):
        if code < 0:
            log.info(f"worker {number} was killed by {signal.Signals(-code).name}")
    if max(codes) < 0:
        log.info("no worker is left; the same command continues where they stopped")
    if max(codes) not in (0, FAILING):
        raise SystemExit(max(codes) if max(codes) > 0 else 1)


def _worker(sweep: Sweep, settings: Settings) -> None:
    """The process of a worker: its parent reports once that all trials fail."""
    log_to_stderr()
    try:
        run_worker(sweep, settings, settings.place)
    except AllFail:
        sys.exit(FAILING)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
