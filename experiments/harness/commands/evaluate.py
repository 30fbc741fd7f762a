"""Evaluate generated surfaces: energies, validity, uniqueness and hits, beside random search.

Every structure is relaxed with the reference calculator, written as it is done, and compared with
the shipped random structure search of the same template and composition. Draws the energy histogram
and the best structures, and writes one self-contained page.
"""

from collections.abc import Sequence

from experiments.harness.commands.command_line import run_from_config

EXAMPLES = (
    "sample=runs/sample/Ag6O3",
    "sample=runs/sample/mine calculator=emt reference=null",
)


def main(arguments: Sequence[str]) -> None:
    run_from_config(
        "evaluate",
        "experiments.harness.generation.evaluate",
        __doc__,
        EXAMPLES,
        arguments,
    )
