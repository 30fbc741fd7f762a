"""Test what a score knows: noise known structures, denoise them, and count which come back.

Each is noised to a level sigma, denoised with the score, guided or not, relaxed on the force field,
and compared with the same structure relaxed on the force field. Reported are the share that comes
back and the median displacement at each sigma, with a figure and a table of all draws.
"""

from collections.abc import Sequence

from experiments.harness.commands.command_line import run_from_config

EXAMPLES = (
    "structures=ag6_p4x4 draws=24",
    "score=runs/train/score forcefield=runs/train/forcefield guide=none 'sigmas=[0.2,0.45]'",
)


def main(arguments: Sequence[str]) -> None:
    run_from_config(
        "recall",
        "experiments.harness.generation.recall",
        __doc__,
        EXAMPLES,
        arguments,
        inputs={"score": "checkpoint", "forcefield": "checkpoint", "structures": "data set"},
    )
