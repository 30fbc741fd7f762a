"""Run the workers of a sweep as Slurm jobs: surfdiff sweep launch sweeps/joint.yaml ...

Each job is a worker of the study: the jobs share its budget, in any number and at
any time. A job that is preempted or reaches its time limit gives its trial back, and is submitted
again by submitit while trials are left.

usage: surfdiff sweep launch FILE [KEY=VALUE ...] [--help]

  cluster=slurm|local   local: processes on this machine instead of jobs (default: slurm)
  jobs=N                how many (default: 4)
  cpus=N                cores of a job (default: 4)
  memory=GB             of a job (default: 8)
  hours=H               time limit of a job (default: 12)
  slurm.KEY=VALUE       any parameter of submitit's, e.g. slurm.partition=gpu slurm.gpus_per_node=1
  wait=true             stay until the jobs have ended
  storage=URL           the database, which every node must reach; SQLite only with cluster=local
  ...                   every other KEY=VALUE as for sweeps.execution.run
"""

import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiments.harness.commands.command_line import refuse
from sweeps.definition.reader import read
from sweeps.execution import run as sweep_run
from sweeps.execution.study import open_storage, open_study, revive

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Jobs:
    """What the command line asks for."""

    cluster: str = "slurm"
    jobs: int = 4
    cpus: int = 4
    memory: int = 8
    hours: int = 12
    wait: bool = False
    more: dict[str, Any] = field(default_factory=dict)


class Worker:
    """What a job runs. Submitit calls `checkpoint` before it ends a job, and submits what that
    returns again."""

    def __init__(self, arguments: Sequence[str], number: int, cpus: int) -> None:
        self.arguments = list(arguments)
        self.number = number
        self.cpus = cpus

    def __call__(self) -> None:
        os.environ[sweep_run.WORKER] = str(self.number)
        os.environ.setdefault("OMP_NUM_THREADS", str(self.cpus))
        sweep_run.run(self.arguments)

    def checkpoint(self) -> Any:
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(Worker(self.arguments, self.number, self.cpus))


def parse(arguments: Sequence[str]) -> tuple[Jobs, list[str]]:
    """The jobs, and what is left for the sweep."""
    own: dict[str, Any] = {"more": {}}
    rest = []
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals or (key not in Jobs.__dataclass_fields__ and not key.startswith("slurm.")):
            rest.append(argument)
        elif key.startswith("slurm."):
            own["more"]["slurm_" + key.removeprefix("slurm.")] = (
                int(value) if value.isdigit() else value
            )
        elif key == "cluster":
            if value not in ("slurm", "local"):
                raise ValueError(f"cluster must be slurm or local, got {value!r}")
            own[key] = value
        elif key == "wait":
            if value not in ("true", "false"):
                raise ValueError(f"wait must be true or false, got {value!r}")
            own[key] = value == "true"
        elif not value.isdigit() or int(value) < 1:
            raise ValueError(f"{key} must be a whole number above 0, got {value!r}")
        else:
            own[key] = int(value)
    return Jobs(**own), rest


def launch(arguments: Sequence[str]) -> list[Any]:
    """Make the study and submit its workers; returns submitit's jobs."""
    jobs, rest = parse(arguments)
    file, settings, overrides = sweep_run.parse(rest)
    if settings.workers != 1:
        raise ValueError("workers=N is for sweeps.execution.run; here it is jobs=N")
    sweep = read(file, overrides)
    if settings.url.startswith("sqlite") and jobs.cluster == "slurm":
        raise ValueError("SQLite is for one machine: give storage=postgresql://... for Slurm jobs")
    study = open_study(sweep, open_storage(settings.url, sweep.retries, settings.heartbeat))
    revive(study, sweep.retries)
    executor = _executor(jobs, Path(settings.runs).resolve() / "sweeps" / sweep.name / "jobs")
    executor.update_parameters(
        name=f"sweep-{sweep.name}",
        cpus_per_task=jobs.cpus,
        mem_gb=jobs.memory,
        timeout_min=60 * jobs.hours,
        **(jobs.more if jobs.cluster == "slurm" else {}),
    )
    submitted = [
        executor.submit(Worker(rest, number, jobs.cpus)) for number in range(1, jobs.jobs + 1)
    ]
    log.info(f"{sweep.name}: {jobs.jobs} workers: {', '.join(job.job_id for job in submitted)}")
    if jobs.wait:
        for job in submitted:
            job.result()
    return submitted


def _executor(jobs: Jobs, logs: Path) -> Any:
    try:
        import submitit
    except ImportError as error:
        raise ValueError("submitit is missing: pip install -c constraints.txt submitit") from error
    try:
        return submitit.AutoExecutor(folder=str(logs), cluster=jobs.cluster)
    except RuntimeError as error:  # no srun
        raise ValueError(f"there is no Slurm on this machine ({error}); cluster=local") from error


def main(arguments: Sequence[str]) -> None:
    if not arguments or {"--help", "-h"} & set(arguments):
        print((__doc__ or "").strip())
        sys.exit(0 if arguments else 2)
    try:
        launch(arguments)
    except (ValueError, OSError) as error:
        refuse("sweep launch", error)
