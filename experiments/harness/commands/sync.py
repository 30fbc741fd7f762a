"""Rebuild W&B runs from run folders, as after a kill.

Takes run folders, and folders that hold some at any depth. What W&B has already is left alone; an
incomplete offline log is replaced by a complete one. A run that a process works on is left alone.
Exit code 1 if not every run could be mirrored.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.harness.commands.command_line import Parser, refusing


def main(arguments: Sequence[str]) -> None:
    parser = Parser("sync", __doc__)
    parser.add_argument("folders", type=Path, nargs="+", help="run folders, or folders of runs")
    parser.add_argument(
        "--mode", choices=("online", "offline"),
        help="default: online if there is a key, else offline",
    )  # fmt: skip
    parsed = parser.parse_args(arguments)
    with refusing("sync", parsed.traceback):
        from experiments.harness.tracking.rebuild import sync_all

        complete = True
        for path, outcome, is_mirrored in sync_all(parsed.folders, parsed.mode):
            print(f"{path}: {outcome}", flush=True)
            complete &= is_mirrored
    sys.exit(0 if complete else 1)
