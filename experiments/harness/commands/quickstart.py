"""Run the whole method: train, generate Ag6O3 in p(3x3), relax, compare with random search.

Trains a force field and a score network on the shipped c(2x8) data, generates surfaces in a cell
that the training never saw, relaxes them with the reference calculator, and draws their energies
beside random structure search. The same command continues after a kill.
"""

from collections.abc import Sequence

from experiments.harness.commands.command_line import run_from_config


def main(arguments: Sequence[str]) -> None:
    run_from_config(
        "quickstart", "experiments.harness.pipeline.quickstart", __doc__, "name=mine", arguments
    )
