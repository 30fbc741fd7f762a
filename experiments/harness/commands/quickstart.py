"""Run the whole method: train, generate Ag6O3 in p(3x3), relax, compare with random search.

Trains a force field and a score network on the shipped c(2x8) data, generates surfaces in a cell
that the training never saw, relaxes them with the reference calculator, and draws their energies
beside random structure search. The same command continues after a kill. The networks that come with
the package learned longer and need no training: surfdiff sample composition=Ag6O3
template.slab=ag111_p3x3 n=32, then surfdiff evaluate sample=runs/sample/Ag6O3.

usage: surfdiff quickstart [STAGE.KEY=VALUE ...] [KEY=VALUE ...] [--cfg] [--traceback] [--help]

It is `surfdiff run quickstart_ag6o3`, with everything below <output>/quickstart/<name>; the name is
ag6o3 if none is given. The stages are forcefield, score, sample and evaluate, e.g.
score.train.steps=8000; `surfdiff run --help` explains the other keys.
"""

from collections.abc import Sequence

from experiments.harness.commands.command_line import TRACEBACK, refusing
from experiments.harness.commands.run import run_experiment

EXPERIMENT = "quickstart_ag6o3"
NAME = "ag6o3"


def main(arguments: Sequence[str]) -> None:
    if {"--help", "-h"} & set(arguments):
        print((__doc__ or "").strip())
        return
    with refusing("quickstart", TRACEBACK in arguments):
        from experiments.harness.pipeline.experiment import split_off
        from experiments.harness.pipeline.runner import Options

        options, _ = split_off(Options, arguments)
    name = f"name={NAME}{'_small' if options.small else ''}"
    run_experiment("quickstart", [EXPERIMENT, name, *arguments], parent="quickstart")
