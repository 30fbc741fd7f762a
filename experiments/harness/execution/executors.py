"""Executors beyond this machine's processes: a Dask cluster, and Slurm jobs that form one."""

import signal
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

ANSWERS = "20s"
"""How long a scheduler is waited for."""
RETRIES = 5
"""How often a task is begun again whose worker died."""


class Dask(Executor):
    """The workers of a Dask scheduler, as an executor.

    address: of a scheduler that is running (tcp://host:8786); None: a cluster of `max_workers`
    processes with one thread each on this machine. Tasks of a worker that dies go to another one.
    Raises ValueError if there is no scheduler at the address.
    """

    def __init__(self, address: str | None = None, max_workers: int = 2) -> None:
        from distributed import Client, LocalCluster

        self.cluster: Any = None
        if address is None:
            self.cluster = LocalCluster(
                n_workers=max_workers, threads_per_worker=1, dashboard_address=None
            )
        self._connect(Client, address or self.cluster)

    def _connect(self, client: Any, to: Any) -> None:
        try:
            self.client = client(to, timeout=ANSWERS, set_as_default=False)
        except OSError as error:
            raise ValueError(f"no Dask scheduler answers at {to}: {error}") from error
        self.inner = self.client.get_executor(pure=False, retries=RETRIES)
        self.futures: list[Future[Any]] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = self.inner.submit(fn, *args, **kwargs)
        self.futures.append(future)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        if cancel_futures:
            for future in self.futures:
                future.cancel()
        self.inner.shutdown(wait=wait)
        self.client.close()
        if self.cluster is not None:
            self.cluster.close()


class Slurm(Dask):
    """Slurm jobs that are the workers of a Dask cluster; more of them join as the queue allows.

    jobs: how many; cores of each, with as many worker processes; memory such as "16GB"; walltime
    such as "04:00:00"; queue: the partition; more: other arguments of dask_jobqueue.SLURMCluster.
    With dry_run=True nothing is submitted: ValueError holds the job's script.
    """

    def __init__(
        self,
        jobs: int = 4,
        cores: int = 16,
        memory: str = "32GB",
        walltime: str = "04:00:00",
        queue: str | None = None,
        more: dict[str, Any] | None = None,
        dry_run: bool = False,
    ) -> None:
        from distributed import Client

        self.cluster = _slurm_cluster()(
            cores=cores, processes=cores, memory=memory, walltime=walltime, queue=queue,
            scheduler_options={"dashboard_address": None}, **(more or {}),
        )  # fmt: skip
        if dry_run:
            script = self.cluster.job_script()
            self.cluster.close()
            raise ValueError(f"dry run, nothing was submitted; {jobs} jobs would run\n{script}")
        self.cluster.scale(jobs=jobs)
        self._connect(Client, self.cluster)


def _slurm_cluster() -> Any:
    """Import dask_jobqueue, which takes over Ctrl-C: commands would end as if all had been done."""
    handler = signal.getsignal(signal.SIGINT)
    from dask_jobqueue import SLURMCluster

    signal.signal(signal.SIGINT, handler)
    return SLURMCluster
