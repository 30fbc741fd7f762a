"""Progress with the time left: a bar on a terminal, plain lines elsewhere.

Where several processes speak at once, each puts its name before its lines, and draws no bar.
"""

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")
FIRST_LINE, LONGEST_PAUSE = 5.0, 30.0  # seconds: plain lines come ever more rarely
_name = ""


def speak_as(name: str) -> None:
    """For a process that is not the only one to speak: its lines begin with [name] from now on."""
    global _name
    _name = name


def progress(
    items: Iterable[T], label: str, total: int | None = None, done: int = 0
) -> Iterator[T]:
    """Yield `items`, showing `label`, how many of `total` are done, and the time left.

    `done` were done before.
    """
    total = len(items) + done if total is None and isinstance(items, Sized) else total
    if sys.stderr.isatty() and not _name:
        yield from tqdm(items, desc=label, total=total, initial=done, leave=True)
        return
    start = last = time.monotonic()
    pause = FIRST_LINE
    for n, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - last >= pause:
            last, pause = now, min(1.5 * pause, LONGEST_PAUSE)
            say(_line(label, done + n, total, (now - start) / n))


def _line(label: str, n: int, total: int | None, seconds_each: float) -> str:
    if total is None:
        return f"{label}: {n}"
    left = int((total - n) * seconds_each)
    return f"{label}: {n}/{total}, {left // 60}:{left % 60:02d} left"


def say(text: str) -> None:
    """One line for the person at the terminal."""
    name = f"[{_name}] " if _name else ""
    sys.stderr.write(f"{name}{text}\n")  # in one go: print would write the line's end on its own
    sys.stderr.flush()
