"""Many tasks on any `concurrent.futures.Executor`, or a few long ones side by side."""

import os
import pickle
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from multiprocessing import connection, get_context, parent_process
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

from tqdm import tqdm

from experiments.harness.config.instantiate import build
from experiments.harness.execution.logs import log_to_stderr
from experiments.harness.execution.signals import sigterm_exits
from experiments.harness.runs.run_folder import Observe

Task = Callable[[Observe | None], Any]
T = TypeVar("T")
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


def side_by_side(
    tasks: Mapping[str, Task], observe: Callable[..., None] | None = None
) -> Iterator[tuple[str, Any]]:
    """Run each task in a process of its own; yields (name, result) as they end.

    What a task passes to its observer goes to observe(name, row) here, and it waits: what is raised
    here is raised there. The first exception of a task is raised here; ValueError if a process dies
    without one. However this ends, the processes that are still at work get SIGTERM, and end first.
    """
    spawn = get_context("spawn")
    links: dict[Any, BaseProcess] = {}
    # Nothing but bars needs it, and a killed process would leave it behind with a warning.
    terminal = spawn.RLock() if sys.stderr.isatty() else None
    with ended_at_last() as processes:
        for row, (name, task) in enumerate(tasks.items()):
            link, theirs = spawn.Pipe()
            arguments = (name, row, terminal, task, theirs, observe is not None)
            process = spawn.Process(target=_work, args=arguments, name=name)
            process.start()
            processes.append(process)
            links[link] = process
            theirs.close()  # so that the link ends with the process
        while links:
            ready: Any
            for ready in connection.wait(list(links)):
                name, (what, content) = links[ready].name, _received(ready, links[ready])
                if what == "row":
                    assert observe is not None
                    ready.send(_objection(partial(observe, name), content))
                elif what == "error":
                    raise content
                else:
                    links.pop(ready).join()
                    yield name, content


@contextmanager
def ended_at_last() -> Iterator[list[BaseProcess]]:
    """End the processes in the list before this one, however it ends, by SIGTERM too."""
    processes: list[BaseProcess] = []
    with sigterm_exits():
        try:
            yield processes
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.join()


def _work(name: str, row: int, terminal: Any, task: Task, link: Any, observed: bool) -> None:
    """Run a task in its process: send its rows, wait for the answer to each, send its outcome.

    Bars of all processes are drawn under one lock, `terminal`, each in its own row.
    """
    follow_parent()
    if terminal is not None:
        tqdm.set_lock(terminal)
    log_to_stderr(name, row)

    def observe(row: Mapping[str, Any]) -> None:
        link.send(("row", dict(row)))
        objection = link.recv()
        if objection is not None:
            raise objection

    try:
        link.send(("result", task(observe if observed else None)))
    except Exception as error:
        link.send(("error", _portable(error)))


def _received(link: Any, process: BaseProcess) -> tuple[str, Any]:
    """What a task sent; ValueError if its process has ended without a word."""
    try:
        return link.recv()
    except (EOFError, ConnectionError) as error:
        process.join()
        code = process.exitcode or 0
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
        raise ValueError(
            f"the process of {process.name} {how} (out of memory?): the same command continues; "
            "fewer threads need less memory (threads=1)"
        ) from error


def _objection(observe: Observe, row: Mapping[str, Any]) -> Exception | None:
    try:
        observe(row)
    except Exception as error:
        return _portable(error)
    return None


def _portable(error: Exception) -> Exception:
    """What another process can raise: the same, with the traceback, which would be lost, as a note;
    or a RuntimeError with its words, for the few exceptions that cannot be pickled."""
    error.add_note("".join(traceback.format_exception(error)))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        plain = RuntimeError(f"{type(error).__name__}: {error}")
        plain.add_note(error.__notes__[-1])
        return plain
    return error


def outcomes(
    executor: Executor,
    turns: Iterable[Sequence[Callable[[], Sequence[T]]]],
    row: Callable[[T], Mapping[str, Any]],
    succeeded: int = 0,
) -> Iterator[T]:
    """Yield what calls return for each of their structures, call by call as they end.

    Args:
        executor: what carries out the calls (see `workers`).
        turns: calls, each of which computes some structures and returns something for each of
            them; those of a turn begin when all of the turn before have ended.
        row: the row of such a thing; a structure that failed has the reason there, as `failed`.
        succeeded: number of structures that succeeded before.

    Raises:
        ValueError: if most structures have failed, as soon as that is clear.
    """
    ended = (
        future for turn in turns for future in as_completed([executor.submit(c) for c in turn])
    )
    results = (one for future in ended for one in future.result())
    failed, attempted, reason = 0, succeeded, ""
    for one in results:
        attempted += 1
        if "failed" in row(one):
            failed, reason = failed + 1, row(one)["failed"]
        yield one
        require_success(failed, attempted, reason)
    require_success(failed, attempted, reason, last=True)


def require_success(failed: int, attempted: int, reason: str, last: bool = False) -> None:
    """ValueError if more than half of the tasks failed: then it is not the structures' fault."""
    if failed > attempted / 2 and (last or attempted >= ENOUGH_TO_JUDGE):
        raise ValueError(
            f"{failed} of {attempted} structures failed, the last with {reason}: check the "
            "calculator"
        )
