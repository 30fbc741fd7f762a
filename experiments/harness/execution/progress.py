"""Progress with the time left: a bar on a terminal, plain lines elsewhere.

A process that is one of several (see `logs`) draws no bar.
"""

import logging
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

from tqdm import tqdm

from experiments.harness.execution.logs import has_prefix

log = logging.getLogger(__name__)
T = TypeVar("T")
FIRST_LINE, LONGEST_PAUSE = 5.0, 30.0  # seconds: plain lines come ever more rarely


def progress(
    items: Iterable[T], label: str, total: int | None = None, done: int = 0
) -> Iterator[T]:
    """Yield `items`, showing `label`, how many of `total` are done, and the time left.

    `done` were done before.
    """
    total = len(items) + done if total is None and isinstance(items, Sized) else total
    if sys.stderr.isatty() and not has_prefix():
        yield from tqdm(items, desc=label, total=total, initial=done, leave=True)
        return
    start = last = time.monotonic()
    pause = FIRST_LINE
    for n, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - last >= pause:
            last, pause = now, min(1.5 * pause, LONGEST_PAUSE)
            log.info(_line(label, done + n, total, (now - start) / n))


def _line(label: str, n: int, total: int | None, seconds_each: float) -> str:
    if total is None:
        return f"{label}: {n}"
    left = int((total - n) * seconds_each)
    return f"{label}: {n}/{total}, {left // 60}:{left % 60:02d} left"
