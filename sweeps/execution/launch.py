"""Run the workers of a study as Slurm jobs, through submitit.

The jobs share the study's budget, in any number and at any time. A job that is preempted or reaches
its time limit gives its trial back, and submitit submits it again while trials are left.
"""

import logging
import os
from dataclasses import replace
from typing import Any, Literal

from experiments.harness.config.fields import Count, Section
from sweeps.definition.sweep import Sweep
from sweeps.execution.run import Settings, prepare, run_worker

log = logging.getLogger(__name__)


class Jobs(Section):
    """How many jobs, and what each of them gets: cores, GB of memory, hours."""

    cluster: Literal["slurm", "local"] = "slurm"
    jobs: Count = 4
    cpus: Count = 4
    memory: Count = 8
    hours: Count = 12
    wait: bool = False
    more: dict[str, Any] = {}


class Worker:
    """What a job runs; submitit calls `checkpoint` before it ends one, and submits the result."""

    def __init__(self, sweep: Sweep, settings: Settings, cpus: int) -> None:
        self.sweep, self.settings, self.cpus = sweep, settings, cpus

    def __call__(self) -> None:
        os.environ.setdefault("OMP_NUM_THREADS", str(self.cpus))
        place = self.settings.place  # all cores that the job sees: those of others, too
        place = replace(place, cores=min(self.cpus, place.cores))
        run_worker(self.sweep, self.settings, place)

    def checkpoint(self) -> Any:
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(Worker(self.sweep, self.settings, self.cpus))


def submit(sweep: Sweep, settings: Settings, jobs: Jobs) -> list[Any]:
    """Create the study and submit its workers; returns submitit's jobs.

    ValueError without submitit or Slurm, or for a database that other machines cannot reach.
    """
    if settings.workers != 1:
        raise ValueError("workers=N is for `surfdiff sweep run`; here it is jobs=N")
    if settings.url.startswith("sqlite") and jobs.cluster == "slurm":
        raise ValueError("SQLite is for one machine: give storage=postgresql://... for Slurm jobs")
    prepare(sweep, settings)
    logs = settings.place.study(sweep.name).resolve() / "jobs"
    try:
        import submitit

        executor = submitit.AutoExecutor(folder=str(logs), cluster=jobs.cluster)
    except ImportError as error:
        raise ValueError("submitit is missing: pip install -c constraints.txt submitit") from error
    except RuntimeError as error:  # no srun
        raise ValueError(f"there is no Slurm on this machine ({error}); cluster=local") from error
    about = {"name": f"sweep-{sweep.name}", "timeout_min": 60 * jobs.hours}
    about |= {"cpus_per_task": jobs.cpus, "mem_gb": jobs.memory}
    executor.update_parameters(**about, **(jobs.more if jobs.cluster == "slurm" else {}))
    worker = Worker(sweep, settings, jobs.cpus)
    submitted = [executor.submit(worker) for _ in range(jobs.jobs)]
    log.info(f"{sweep.name}: {jobs.jobs} workers: {', '.join(job.job_id for job in submitted)}")
    for job in submitted if jobs.wait else ():
        job.result()
    return submitted
