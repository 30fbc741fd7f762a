"""Ending a run from outside as cleanly as from inside."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def sigterm_exits() -> Iterator[None]:
    """Inside, SIGTERM (`kill`, Slurm's time limit) is a SystemExit: context managers close."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers
        return
    previous = signal.signal(signal.SIGTERM, _exit)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _exit(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)  # a second one shall not interrupt the closing
    raise SystemExit(128 + number)


class Stopped(Exception):
    """A run that was told to stop early, as by a sweep's pruner; not a failure."""


def exit_code(error: BaseException | None) -> int:
    """What the shell will see if ``error`` ends the process."""
    if isinstance(error, Stopped):
        return 0
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    if isinstance(error, KeyboardInterrupt):
        return 128 + signal.SIGINT
    return int(error is not None)
