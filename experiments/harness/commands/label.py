"""Label structures: energies and forces with a calculator, as they are or after some relaxation.

Each structure is written as soon as it is done, so that long calculations, such as DFT, can be
interrupted and continued. One that fails is reported and tried again by the next call.
"""

from collections.abc import Sequence

from experiments.harness.commands.command_line import run_from_config

EXAMPLES = (
    "structures=mine.extxyz calculator=gpaw executor=threads",
    "structures=best.traj relaxation.max_steps=5 name=best_relaxed",
)


def main(arguments: Sequence[str]) -> None:
    run_from_config(
        "label",
        "experiments.harness.generation.label",
        __doc__,
        EXAMPLES,
        arguments,
        inputs={"structures": "file"},
    )
