"""Many tasks on any `concurrent.futures.Executor`, and what may go wrong with workers."""

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Executor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import connection, parent_process
from typing import Any

from experiments.build import build

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
ENOUGH_TO_JUDGE = 10  # tasks


@contextmanager
def workers(config: Any) -> Iterator[Executor]:
    """The executor that `config` describes; on leaving, what has not begun is not begun.

    Worker processes compute with one thread each: several libraries that each spin their own
    threads on the same cores cost a factor of ten. ValueError if a worker dies.
    """
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    try:
        executor: Executor = build(config)
        try:
            yield executor
        finally:
            executor.shutdown(wait=True, cancel_futures=True)
    except BrokenProcessPool as error:
        raise ValueError(
            "a worker died (out of memory?): the same command continues; fewer workers need less "
            "memory (executor.max_workers=1)"
        ) from error
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def follow_parent() -> None:
    """For a worker process: end with the main process, even if that is killed, and leave it Ctrl-C.

    The workers of a killed main process would otherwise wait, with all their memory, for ever.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    parent = parent_process()
    assert parent is not None  # only worker processes come here
    connection.wait([parent.sentinel])
    os._exit(1)


def require_success(failed: int, attempted: int, reason: str, last: bool = False) -> None:
    """ValueError if more than half of the tasks failed: then it is not the structures' fault."""
    if failed > attempted / 2 and (last or attempted >= ENOUGH_TO_JUDGE):
        raise ValueError(
            f"{failed} of {attempted} structures failed, the last with {reason}: check the "
            "calculator"
        )
