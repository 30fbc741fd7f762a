"""Check files of structures: what they hold, and which frames cannot be learned from, with reasons.

Exit code 2 if a frame is invalid for training.
"""

import sys
from collections.abc import Sequence

from experiments.harness.commands.command_line import Parser, refusing
from sdedata.options import add_files, add_good, from_options


def main(arguments: Sequence[str]) -> None:
    parser = Parser("check", __doc__)
    add_files(parser)
    add_good(parser)
    parsed = parser.parse_args(arguments)
    with refusing("check", parsed.traceback):
        from sdedata.__main__ import check

        code = check(parsed.files, from_options(parsed), parsed.good)
    if code:
        sys.exit(code)
