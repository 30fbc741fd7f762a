"""What commands log, as lines on standard error: `logging`, set up once by the command line.

Modules log to `logging.getLogger(__name__)`; whoever calls them from Python sees nothing unless
they set up `logging` themselves.
"""

import logging
import sys
from dataclasses import dataclass

ROOTS = ("experiments", "sweeps", "sdedata")


@dataclass(frozen=True)
class _Place:
    """Where this process writes, beside others: a name before its lines, a row for its bar."""

    name: str = ""
    row: int | None = None


_place = _Place()


class _StandardError(logging.Handler):
    """Write to the `sys.stderr` of the moment: each record in one go, above the bars, if any."""

    def emit(self, record: logging.LogRecord) -> None:
        line = f"{prefix()}{self.format(record)}\n"
        try:
            if sys.stderr.isatty():
                from tqdm import tqdm  # here: only terminals have bars

                tqdm.write(line, sys.stderr, end="")
                return
            sys.stderr.write(line)
            sys.stderr.flush()
        except Exception:
            self.handleError(record)


def log_to_stderr(name: str = "", row: int | None = None) -> None:
    """Show records from INFO on.

    Args:
        name: of a process beside which others log to the same place: "[name] " before its lines.
        row: of its bar on a terminal, from 0, where each process draws one; None: the only bar.
    """
    global _place
    _place = _Place(name, row)
    for root in map(logging.getLogger, ROOTS):
        root.setLevel(logging.INFO)
        root.handlers = [_StandardError()]
        root.propagate = False


def prefix() -> str:
    """What stands before the lines and the bar of this process."""
    return f"[{_place.name}] " if _place.name else ""


def row() -> int | None:
    """The row of this process's bar; None where it draws the only one."""
    return _place.row
