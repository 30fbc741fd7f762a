"""What happens to commands: each function starts one and disturbs it once.

It returns whether that met the command at work, and what went wrong, if anything. What is lost is
seen later, when the same command has been repeated to its end (`trial.attempt`).
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.system.kill.commands import Command, Work

TERMINATED = 128 + signal.SIGTERM
HOUR = 3600
GRACE = 0.1
"""Seconds, at most, between SIGTERM and SIGKILL."""

Rng = np.random.Generator
Try = tuple[bool, str]
Fault = Callable[[Command, Path, Path, Rng], Try]
"""Of a command, its output and that of an undisturbed run."""


def sigterm(command: Command, output: Path, undisturbed: Path, rng: Rng) -> Try:
    """SIGTERM, as at Slurm's time limit: the command closes what is open and ends."""
    work = Work(command, output)
    met = work.reach(undisturbed, rng)
    work.send(signal.SIGTERM)
    return met, work.end(TERMINATED, -signal.SIGTERM, 0)


def sigkill(command: Command, output: Path, undisturbed: Path, rng: Rng) -> Try:
    """SIGKILL, as on a machine without memory."""
    work = Work(command, output)
    met = work.reach(undisturbed, rng)
    work.send(signal.SIGKILL)
    return met, work.end(-signal.SIGKILL, 0)


def both(command: Command, output: Path, undisturbed: Path, rng: Rng) -> Try:
    """SIGTERM, and SIGKILL while the command closes what is open."""
    work = Work(command, output)
    met = work.reach(undisturbed, rng)
    work.send(signal.SIGTERM)
    time.sleep(rng.uniform(0, GRACE))
    work.send(signal.SIGKILL)
    return met, work.end(TERMINATED, -signal.SIGTERM, -signal.SIGKILL, 0)


def second_command(command: Command, output: Path, undisturbed: Path, rng: Rng) -> Try:
    """The same command once more: of a sweep it shares the work, of others it is refused."""
    first = Work(command, output)
    met = first.reach(undisturbed, rng)
    second = Work(command, output)
    refused = second.end(*([0] if command.name == "sweep" else [0, 2]))
    return met, first.end(0) or refused


def moved_folder(command: Command, output: Path, undisturbed: Path, rng: Rng) -> Try:
    """A folder that is moved after a kill, and continued elsewhere."""
    before = output.with_name(f"{output.name}-before")
    met, wrong = sigkill(command, before, undisturbed, rng)
    if before.exists():
        shutil.move(before, output)
    return met, wrong


def full_disk(command: Command, output: Path, undisturbed: Path, rng: Rng) -> Try:
    """A file that may not grow beyond a random size."""
    sizes = [p.stat().st_size for p in (undisturbed / command.folder).rglob("*") if p.is_file()]
    work = Work(command, output, int(rng.integers(4096, max(*sizes, 8192))))
    wrong = work.end(0, 2)
    return work.process.exitcode == 2, wrong


def read_only(command: Command, output: Path, undisturbed: Path, rng: Rng) -> Try:
    """A killed command that is repeated on a disk mounted for reading only; needs root."""
    met, wrong = sigkill(command, output, undisturbed, rng)
    output.mkdir(exist_ok=True)
    subprocess.run(["mount", "--bind", output, output], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", output], check=True)
        return met, wrong or Work(command, output).end(2)
    finally:
        subprocess.run(["umount", output], check=True)


def clock_back(command: Command, output: Path, undisturbed: Path, rng: Rng) -> Try:
    """A clock that is set back after a kill: all that was written is of an hour from now."""
    met, wrong = sigkill(command, output, undisturbed, rng)
    for path in output.rglob("*"):
        os.utime(path, times=(time.time() + HOUR, path.stat().st_mtime + HOUR))
    return met, wrong


FAULTS: dict[str, Fault] = {
    "SIGTERM": sigterm,
    "SIGKILL": sigkill,
    "SIGTERM, then SIGKILL": both,
    "second command": second_command,
    "folder moved": moved_folder,
    "disk full": full_disk,
    "read-only": read_only,
    "clock back": clock_back,
}
KILLS = ("SIGTERM", "SIGKILL", "SIGTERM, then SIGKILL")
"""Faults that come several times to one run."""
