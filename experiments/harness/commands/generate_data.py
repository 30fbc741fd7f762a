"""Make training data by random structure search with any ASE calculator.

Once there are some minima, a force field is trained on their paths and pre-relaxes the others; the
calculator decides on each. The same command continues after a kill. At the end the minima (npz and
extxyz), frames of the relaxations, and the counts per stoichiometry (Fig. 2b).
"""

from collections.abc import Sequence

from experiments.harness.commands.command_line import run_from_config

EXAMPLES = (
    "template.slab=slab.xyz composition=Pt7 calculator=emt name=mine",
    "n_per_composition=10 executor=dask",
)


def main(arguments: Sequence[str]) -> None:
    run_from_config(
        "generate_data",
        "experiments.harness.structure_search.generate_data",
        __doc__,
        EXAMPLES,
        arguments,
    )
