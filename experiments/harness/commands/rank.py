"""Compare how calculators rank the same structures, beside one that is taken to be right.

For structures of one composition and cell only energy differences matter: reported are the rank
correlation, the mean error of the differences, and which structure each calculator puts lowest.
"""

from collections.abc import Sequence

from experiments.harness.commands.command_line import run_from_config

EXAMPLES = ("'labels={gpaw: runs/label/gpaw, emt: runs/label/emt}' reference=gpaw",)


def main(arguments: Sequence[str]) -> None:
    run_from_config("rank", "experiments.harness.comparison.rank", __doc__, EXAMPLES, arguments)
