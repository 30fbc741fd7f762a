"""`surfdiff COMMAND ...`: find the command and hand its arguments on."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from itertools import groupby
from typing import TextIO

from experiments.harness.commands.command_line import refuse
from experiments.harness.execution.logs import log_to_stderr

HARNESS = "experiments.harness.commands"
COMMANDS, SWEEPS, MAINTENANCE = "commands", "sweeps", "tools of the maintainers"
"""Sections of the list of commands."""


@dataclass(frozen=True)
class Command:
    """A command: its section in the list, its name, the module with its main, a line about it."""

    section: str
    name: str
    module: str
    about: str


LIST = (
    Command(COMMANDS, "doctor", f"{HARNESS}.doctor", "check the installation"),
    Command(COMMANDS, "quickstart", f"{HARNESS}.quickstart",
            "run the whole method at a small scale: train, sample, evaluate"),
    Command(COMMANDS, "check", f"{HARNESS}.check",
            "check files of structures: what can be learned from them"),
    Command(COMMANDS, "generate_data", f"{HARNESS}.generate_data",
            "make training data by random structure search"),
    Command(COMMANDS, "train", f"{HARNESS}.train", "train a score network or a force field"),
    Command(COMMANDS, "sample", f"{HARNESS}.sample", "generate surfaces with a trained model"),
    Command(COMMANDS, "evaluate", f"{HARNESS}.evaluate",
            "relax generated surfaces and compare them with random search"),
    Command(COMMANDS, "recall", f"{HARNESS}.recall",
            "count which known structures come back from noise"),
    Command(COMMANDS, "label", f"{HARNESS}.label",
            "compute energies and forces of structures with a calculator"),
    Command(COMMANDS, "convert", f"{HARNESS}.convert",
            "write the best structures as input of VASP, GPAW and others"),
    Command(COMMANDS, "predict", f"{HARNESS}.predict",
            "predict energies and forces of structures in a file"),
    Command(COMMANDS, "inspect", f"{HARNESS}.inspect", "show what a run or a model file holds"),
    Command(COMMANDS, "run", f"{HARNESS}.run",
            "run an experiment: a claim and the stages that test it"),
    Command(COMMANDS, "compare", f"{HARNESS}.compare", "compare runs on one page"),
    Command(COMMANDS, "verify", f"{HARNESS}.verify",
            "run a folder's command again and compare what comes out"),
    Command(COMMANDS, "sync", f"{HARNESS}.sync", "mirror run folders in Weights & Biases"),
    Command(SWEEPS, "sweep", "sweeps.commands",
            "run a sweep or continue it; show, launch, trial, publish"),
    Command(MAINTENANCE, "dashboard", f"{HARNESS}.dashboard",
            "build a Weights & Biases dashboard of a sweep"),
    Command(MAINTENANCE, "benchmark", f"{HARNESS}.benchmark", "measure speed and memory"),
    Command(MAINTENANCE, "search_cost", f"{HARNESS}.search_cost",
            "measure what a force field saves a structure search"),
    Command(MAINTENANCE, "rank", f"{HARNESS}.rank",
            "compare how calculators rank the same structures"),
    Command(MAINTENANCE, "publish", f"{HARNESS}.publish", "publish the numbers of a run in docs/"),
    Command(MAINTENANCE, "package_data", f"{HARNESS}.package_data",
            "put random searches among the shipped data"),
    Command(MAINTENANCE, "package_model", f"{HARNESS}.package_model",
            "put trained networks among the shipped ones"),
)  # fmt: skip
"""All commands, in the order of a working day."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command that the first arguments name; exit code 2 if there is none.

    Args:
        arguments: the command line after `surfdiff`; None: that of this process.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    try:
        _dispatch(given)
        sys.stdout.flush()
    except BrokenPipeError:
        if not _cut(sys.stdout):
            raise  # another pipe, such as a worker's, has broken: that is an error
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)  # as a shell reports SIGPIPE


def _cut(stream: TextIO) -> bool:
    """Whether whoever reads this, such as `head`, has stopped."""
    try:
        stream.write("\n")
        stream.flush()
    except BrokenPipeError:
        return True
    return False


def _dispatch(given: list[str]) -> None:
    if not given or given[0] in ("-h", "--help"):
        print(listing(LIST))
        return
    modules = {command.name: command.module for command in LIST}
    if given[0] not in modules:
        refuse("surfdiff", ValueError(f"there is no command {given[0]}; --help lists them"))
    log_to_stderr()
    import_module(modules[given[0]]).main(given[1:])


def listing(commands: Sequence[Command]) -> str:
    """List commands, a line each, under the titles of their sections."""
    lines = ["usage: surfdiff COMMAND ...", ""]
    for section, some in groupby(commands, lambda command: command.section):
        lines.append(f"{section}:")
        lines += [f"  {command.name:<14} {command.about}" for command in some]
        lines.append("")
    return "\n".join([*lines, "surfdiff COMMAND --help explains a command."])
