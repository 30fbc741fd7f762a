"""Run the command of a run folder again, on the same inputs, and compare what comes out.

The command runs in a temporary folder; RUN stays as it is. Structures, networks and metrics are
compared file by file, up to lattice vectors and without times. Inputs must be those whose digests
the folder records. A folder that stands for several runs, such as an experiment's, is verified run
by run. KEY=VALUE changes what a continued run may change: verify runs/sample/a batch_size=4.

Exit code 0: the same within the tolerance; 1: different; 2: cannot be run again.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.harness.commands.command_line import Parser, refusing


def main(arguments: Sequence[str]) -> None:
    parser = Parser("verify", __doc__)
    parser.add_argument("given", nargs="+", metavar="RUN",
                        help="folders of runs, then KEY=VALUE")  # fmt: skip
    parser.add_argument("--tolerance", type=float, default=1e-5, metavar="X",
                        help="Å, eV; relative for numbers above 1 (default: 1e-5)")  # fmt: skip
    parsed = parser.parse_args(arguments)
    with refusing("verify", parsed.traceback):
        from experiments.harness.pipeline import experiment, verify

        paths = [Path(one) for one in parsed.given if "=" not in one or Path(one).exists()]
        others = [one.partition("=") for one in parsed.given if Path(one) not in paths]
        overrides = {key: experiment.parsed(value) for key, _, value in others}
        if not paths:
            raise ValueError("name the folder of a run first")
        trust = bool(overrides.pop("trust", False))
        runs = [folder for path in paths for folder in verify.verifiable(path)]
        same = True
        for folder in runs:
            found = verify.repeat(folder, overrides, trust)
            print("\n".join(verify.report(found, parsed.tolerance)))
            same &= found.within(parsed.tolerance)
    if not same:
        sys.exit(1)
