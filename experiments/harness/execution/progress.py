"""Progress with the time left: a bar on a terminal, plain lines elsewhere.

Processes that run side by side draw a bar each, one below the other (see `logs`).
"""

import logging
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

from tqdm import tqdm

from experiments.harness.execution import logs

log = logging.getLogger(__name__)
T = TypeVar("T")
FIRST_LINE, LONGEST_PAUSE = 5.0, 30.0
"""Seconds between plain lines: at first, and at most."""
ENOUGH = 3
"""Items after the first from which the time that the others take is estimated."""


def progress(
    items: Iterable[T], label: str, total: int | None = None, done: int = 0
) -> Iterator[T]:
    """Yield `items` and show how many of `total` are done, and the time left once it is known.

    Args:
        items: what is worked on; the time between two of them is the time of one.
        label: what the items are part of, such as "train".
        total: number of items, those done before included; None: as many as `items` has.
        done: number of items that were done before.
    """
    total = len(items) + done if total is None and isinstance(items, Sized) else total
    if sys.stderr.isatty():
        label = f"{logs.prefix()}{label}"
        row = logs.row()
        yield from tqdm(items, label, total, initial=done, position=row, leave=row is None)
        return
    first = last = time.monotonic()
    pause = FIRST_LINE
    for n, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if n == 1:
            first = now  # the first item waits for imports, workers and compilers
        if now - last >= pause:
            last, pause = now, min(1.5 * pause, LONGEST_PAUSE)
            each = (now - first) / (n - 1) if n > ENOUGH else None
            log.info(_line(label, done + n, total, each))


def _line(label: str, n: int, total: int | None, seconds_each: float | None) -> str:
    if total is None:
        return f"{label}: {n}"
    if seconds_each is None:
        return f"{label}: {n} of {total}"
    left = int((total - n) * seconds_each)
    return f"{label}: {n} of {total}, {left // 60}:{left % 60:02d} left"
