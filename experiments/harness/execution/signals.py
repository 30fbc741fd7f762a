"""Ending a run from outside as cleanly as from inside."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SOON = 0.05  # seconds


@contextmanager
def sigterm_exits() -> Iterator[None]:
    """Inside, SIGTERM (`kill`, Slurm's time limit) is a SystemExit: context managers close."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers
        return
    previous, hook = signal.signal(signal.SIGTERM, _exit), sys.unraisablehook
    again: list[threading.Timer] = []
    sys.unraisablehook = _exit_yet(hook, again)
    try:
        yield
    finally:
        sys.unraisablehook = hook
        for timer in again:  # none may go off outside, where SIGTERM means something else
            timer.cancel()
            timer.join()
        signal.signal(signal.SIGTERM, previous)


def _exit(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)  # a second one shall not interrupt the closing
    raise SystemExit(128 + number)


def _exit_yet(
    otherwise: Callable[[Any], Any], again: list[threading.Timer]
) -> Callable[[Any], None]:
    """Python swallows what is raised in a finaliser or a weak reference's callback, where a signal
    may well find it: then the signal is sent once more, by a timer that joins ``again``."""

    def hook(unraisable: Any) -> None:
        ending = signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
        here = threading.current_thread() is threading.main_thread()
        if not (ending and here and isinstance(unraisable.exc_value, SystemExit)):
            otherwise(unraisable)
            return
        signal.signal(signal.SIGTERM, _exit)
        timer = threading.Timer(SOON, os.kill, (os.getpid(), signal.SIGTERM))
        again.append(timer)
        timer.start()

    return hook


class Stopped(Exception):
    """A run that was stopped early, as by a sweep's pruner; not a failure."""


def exit_code(error: BaseException | None) -> int:
    """What the shell will see if ``error`` ends the process."""
    if isinstance(error, Stopped):
        return 0
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    if isinstance(error, KeyboardInterrupt):
        return 128 + signal.SIGINT
    return int(error is not None)
