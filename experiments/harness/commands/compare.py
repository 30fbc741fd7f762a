"""Compare runs on one page: what differs, what came out, energies, learning curves, structures.

Each PATH is a run folder (one with config.yaml) or a folder that stands for all runs below it, such
as runs/evaluate or a sweep's runs/sweeps/eta. The page is one file and needs no network.
"""

from collections.abc import Sequence
from pathlib import Path

from experiments.harness.commands.command_line import Parser, refusing


def main(arguments: Sequence[str]) -> None:
    parser = Parser("compare", __doc__)
    parser.add_argument("paths", type=Path, nargs="+", metavar="PATH", help="folders of runs")
    parser.add_argument("-o", dest="output", type=Path, metavar="OUT.html",
                        help="default: compare.html where the first PATH's runs are")  # fmt: skip
    parser.add_argument("--names", nargs="+", default=(), metavar="NAME",
                        help="what to call the runs, in their order")  # fmt: skip
    parsed = parser.parse_args(arguments)
    with refusing("compare", parsed.traceback):
        from experiments.harness.comparison.compare import compare

        page, count = compare(parsed.paths, parsed.output, parsed.names)
    print(f"{count} run{'s' * (count > 1)} compared: look at {page}")
