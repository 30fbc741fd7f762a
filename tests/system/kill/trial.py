"""Disturb commands at random moments, and count what is lost.

python -m tests.system.kill.trial TRIES [seed] [command or fault ...]
"""

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments.harness.runs.markdown import table
from tests.system.kill.commands import Command, Work, differences, make_commands
from tests.system.kill.faults import FAULTS, KILLS, Try
from tests.tiny import make_world, no_pictures

IN_A_ROW = 4
"""Kills of one run, one after the other."""
HEADER = ("command", "fault", "tries", "met at work", "lost", "wrong", "traceback")


def undisturbed_run(command: Command, home: Path) -> Path:
    """Return the output of a run that nothing happens to."""
    output = home / f"{command.name}-undisturbed"
    wrong = Work(command, output).end(0)
    assert not wrong, f"{command.name}: {wrong}"
    return output


def attempt(
    command: Command, fault: str, undisturbed: Path, place: Path, rng: np.random.Generator, n: int
) -> list[Try]:
    """Disturb one run n times, repeat it to its end, and compare; a loss is one of every try."""
    tries = [FAULTS[fault](command, place, undisturbed, rng) for _ in range(n)]
    wrong = Work(command, place).end(0)
    if not wrong and (found := differences(command, place, undisturbed)):
        wrong = f"lost: {'; '.join(found)[:300]}"
    return [(met, earlier or wrong) for met, earlier in tries]


def row(command: str, fault: str, tries: Sequence[Try]) -> list[str]:
    """Return the counts of a command's tries with a fault."""
    kinds = [wrong.split(":")[0] for _, wrong in tries]
    counts = [len(tries), sum(met for met, _ in tries)]
    return [command, fault, *map(str, [*counts, *map(kinds.count, HEADER[-3:])])]


def disturb(
    command: Command, fault: str, count: int, seed: Sequence[int], undisturbed: Path, home: Path
) -> list[Try]:
    """Try a fault `count` times; kills come several times to one run."""
    tries: list[Try] = []
    at_once = IN_A_ROW if fault in KILLS else 1
    for k in range(0, count, at_once):
        place, rng = home / "try/output", np.random.default_rng([*seed, k])
        place.parent.mkdir()
        tries += attempt(command, fault, undisturbed, place, rng, min(at_once, count - k))
        shutil.rmtree(place.parent)
    return tries


def main(arguments: Sequence[str]) -> None:
    """Try, print the table line by line and what went wrong; exit code 1 if anything did."""
    count, seed, *chosen = arguments if len(arguments) > 1 else [*arguments, "0"]
    began, failures = time.monotonic(), []
    with tempfile.TemporaryDirectory() as folder, no_pictures():
        home = Path(folder)
        commands = make_commands(make_world(home / "world"), home)
        print(table(HEADER, []), flush=True)
        for number, command in enumerate(commands):
            if not set(chosen) - set(FAULTS) or command.name in chosen:
                undisturbed = undisturbed_run(command, home)
                for kind, fault in enumerate(FAULTS):
                    if _wanted(fault, chosen):
                        some = int(count) if fault in KILLS else -(-int(count) // 5)
                        tries = disturb(command, fault, some, [int(seed), number, kind],
                                        undisturbed, home)  # fmt: skip
                        print(table(HEADER, [row(command.name, fault, tries)]).splitlines()[-1],
                              flush=True)  # fmt: skip
                        failures += [f"{command.name}, {fault}: {w}" for _, w in tries if w]
    print("\n".join(failures) + f"{time.monotonic() - began:.0f} s")
    sys.exit(bool(failures))


def _wanted(fault: str, chosen: Sequence[str]) -> bool:
    if fault == "read-only" and os.geteuid() != 0:
        print("read-only is not tried: only root may mount a disk")
        return False
    return fault in chosen or not set(chosen) & set(FAULTS)


if __name__ == "__main__":
    main(sys.argv[1:])
