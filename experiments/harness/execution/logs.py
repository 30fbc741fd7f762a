"""What commands log, as lines on standard error: `logging`, set up once by the command line.

Modules log to `logging.getLogger(__name__)`; whoever calls them from Python sees nothing unless
they set up `logging` themselves.
"""

import logging
import sys

ROOTS = ("experiments", "sweeps")
_prefix = ""


class _StandardError(logging.Handler):
    """Writes to the `sys.stderr` of the moment, each record in one go, after the prefix."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stderr.write(f"{_prefix}{self.format(record)}\n")
            sys.stderr.flush()
        except Exception:
            self.handleError(record)


def log_to_stderr(name: str = "") -> None:
    """Show records from INFO on; with a name, for one of several processes, after "[name] "."""
    global _prefix
    _prefix = f"[{name}] " if name else ""
    for root in map(logging.getLogger, ROOTS):
        root.setLevel(logging.INFO)
        root.handlers = [_StandardError()]
        root.propagate = False


def has_prefix() -> bool:
    """Whether this process is one of several that log to the same place."""
    return bool(_prefix)
