"""Measure what a force field saves a random structure search, and whether it finds the same minima.

The search that made a set continues from new random starts, each relaxed in four ways: with the
surrogate's pre-relaxation or within its trust radius; and by the calculator alone, with the same
optimiser and with ASE's BFGS. The ways take turns, task by task, on the same workers. At the end a
table that compares each way with ASE's, energy histograms, and search_cost.json. CPU time is that
of a worker's process: of executor=threads take one worker.
"""

from collections.abc import Sequence

from experiments.harness.commands.command_line import run_from_config

EXAMPLES = ("surrogate.model=runs/train/forcefield candidates=200",)


def main(arguments: Sequence[str]) -> None:
    run_from_config(
        "search_cost",
        "experiments.harness.structure_search.search_cost",
        __doc__,
        EXAMPLES,
        arguments,
    )
