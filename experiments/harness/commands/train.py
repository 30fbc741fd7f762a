"""Train a score network (task=score) or a force field (task=forcefield).

The run folder gets metrics, checkpoints and `model.pt`, one file from which the network, its
window, elements and cutoff are rebuilt. The same command continues an interrupted run to the same
numbers.
"""

from collections.abc import Sequence

from experiments.harness.commands.command_line import run_from_config

EXAMPLES = (
    "task=score data.path=mine.traj train.steps=8000",
    "task=forcefield data.path=mine.traj name=mine",
    "-m seed=0,1,2 sde=brownian,vp",
)


def main(arguments: Sequence[str]) -> None:
    run_from_config(
        "train",
        "experiments.harness.training.train",
        __doc__,
        EXAMPLES,
        arguments,
        inputs={"data.path": "data set"},
    )
