"""Run an experiment: a claim, and the stages that test it. The same command continues it.

usage: surfdiff run EXPERIMENT [STAGE.KEY=VALUE ...] [KEY=VALUE ...] [options]

  EXPERIMENT       a folder with experiment.yaml, a YAML file, or one of the names below
  STAGE.KEY=VALUE  change a stage, e.g. score.train.steps=100 or sample.guide=none
  small=true       its setting for minutes
  name=NAME        everything is below <output>/<NAME>; default: the experiment's name
  output=FOLDER    default: runs
  seed=NUMBER      of all stages that do not set their own; default: the seed of its file
  threads=NUMBER   cores; from 2 on, two networks are trained at once; default: 2
  tracking_mode=MODE  online, offline or disabled; default: online if there is a key, else offline
  trust=true       build calculators and samplers that are on no list of this project's
  --config-dir DIR a folder with more files of groups, e.g. DIR/calculator/mine.yaml for
                   evaluate.calculator=mine
  --cfg            print the command of each stage and stop
  --traceback      show where an error came from

Experiments of this project:

"""

import shlex
from collections.abc import Sequence

from experiments.harness.commands.command_line import (
    TRACEBACK,
    OverridesParser,
    add_config_dir,
    refusing,
)


def main(arguments: Sequence[str]) -> None:
    if {"--help", "-h"} & set(arguments):
        print(f"{(__doc__ or '').rstrip()}\n\n{_listing()}")
        return
    run_experiment("run", arguments)


def run_experiment(command: str, arguments: Sequence[str], parent: str = "") -> None:
    """Run the experiment that the first argument names, and print its numbers.

    Args:
        command: what the user typed, for errors.
        arguments: an experiment, overrides and flags.
        parent: a folder between the output and the experiment's, if any.
    """
    with refusing(command, TRACEBACK in arguments, "continues where it stopped"):
        parser = OverridesParser(command)
        add_config_dir(parser)
        given = parser.parse(arguments)
        rest = given.overrides
        if not rest or "=" in rest[0]:
            raise ValueError("name an experiment first; --help lists them")
        from experiments.harness.pipeline import runner

        if given.cfg:
            for stage in runner.prepare(rest[0], rest[1:], parent, given.directory).stages:
                print(f"surfdiff {stage.entry} {shlex.join(stage.command)}")
            return
        print(runner.run(rest[0], rest[1:], parent, directory=given.directory).table)


def _listing() -> str:
    from experiments.harness.pipeline.experiment import Experiment, read, shipped

    found: dict[str, Experiment] = {name: read(file) for name, file in shipped().items()}
    width = max(map(len, found))
    return "\n".join(f"  {name:{width}}  {one.cost}" for name, one in found.items())
