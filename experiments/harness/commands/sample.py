"""Generate surfaces with a trained score network and, unless guide=none, a trained force field.

Starts from a uniform prior on any slab, takes N reverse steps (Eq. 2) and relaxes on the force
field; with guide=paper its forces also pull in each step (Eq. 3). Each batch is written as it is
done; the same command continues after a kill.
"""

from collections.abc import Sequence

from experiments.harness.commands.command_line import run_from_config

EXAMPLES = (
    "composition=Ag6O3 template.slab=ag111_p3x3",
    "score=runs/train/score forcefield=runs/train/forcefield",
    "score=score.pt guide=none template.slab=slab.xyz composition=Ag6O3 n=64",
)


def main(arguments: Sequence[str]) -> None:
    run_from_config(
        "sample",
        "experiments.harness.generation.sample",
        __doc__,
        EXAMPLES,
        arguments,
        inputs={"score": "checkpoint", "forcefield": "checkpoint"},
    )
