"""Commands with a second or two of work each, as processes that something can happen to.

They are forked from a process that has imported everything: a try costs a second of work, and not
five of imports.
"""

import contextlib
import itertools
import os
import resource
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

from experiments.harness.commands.main import main as surfdiff
from experiments.harness.comparison.folder_diff import folder_differences
from experiments.harness.comparison.run_reader import parts
from tests.integration.sweeps.tiny_sweep import TEXTS, trained, write
from tests.tiny import GUIDED, PATIENCE, SAMPLE, SEARCH, TRAIN, World, no_pictures, run

PROCESSES = get_context("forkserver")
PROCESSES.set_forkserver_preload(
    [__name__, "sweeps.analysis.report", "experiments.harness.pipeline.runner"]
)
PAUSE = 0.05
"""Seconds, at most, that a command goes on after it has written so much."""


@dataclass(frozen=True)
class Command:
    """A command line in which `{}` stands for the output, and the folder in there that it fills."""

    folder: str
    line: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.line[0]


def make_commands(world: World, home: Path) -> list[Command]:
    """Return one command of each kind; what they read is made in `home`."""
    score, few = f"score={world.score}", [*SAMPLE, "guide=none", "composition=Ag2O"]
    run("sample", *few, score, "n=6", "name=few", f"output={home}")
    search = [*SEARCH, "executor.max_workers=1", "name=a", "output={}"]
    reference = f"reference={world.reference}"
    stages = {"score": [*TRAIN, f"data.path={world.minima}", "train.steps=20"],
              "sample": few, "evaluate": [*SEARCH, reference]}  # fmt: skip
    texts = {name: text for name, text in TEXTS.items() if name != "question"}
    experiment = write(home / "discover.yaml", texts | {"stages": stages})
    stages = {"score": [*stages["score"], "train.steps=12"], "sample": few}
    sweep = write(home / "tiny.yaml", trained(budget=2, stages=stages))
    return [
        Command("train/a", ("train", *TRAIN, "task=score", f"data.path={world.minima}", "name=a",
                            "train.steps=60", "train.checkpoint_every=2", "output={}")),
        Command("sample/a", ("sample", *GUIDED, *world.networks, "composition=Ag2O", "n=8",
                             "batch_size=1", "sampler.steps=20", "name=a", "output={}")),
        Command("evaluate/a", ("evaluate", *search, f"sample={home}/sample/few", reference)),
        Command("generate_data/a", ("generate_data", *search, "compositions=[Ag3,Ag2O]",
                                    "n_per_composition=5", "task_size=1", "surrogate=null")),
        Command("discover", ("run", str(experiment), "output={}", "threads=1",
                             "tracking_mode=disabled")),
        Command("sweeps/tiny", ("sweep", "run", str(sweep), "runs={}", "heartbeat=1")),
    ]  # fmt: skip


class Work:
    """A command that has begun, in a process of its own; its log lies beside the output."""

    _numbers = itertools.count()

    def __init__(self, command: Command, output: Path, largest_file: int | None = None) -> None:
        self.output, self.log = output, output.with_name(f"{output.name}.log{next(self._numbers)}")
        arguments = [word.format(output) for word in command.line]
        self.process = PROCESSES.Process(target=_work, args=(arguments, self.log, largest_file))
        self.process.start()

    def reach(self, undisturbed: Path, rng: np.random.Generator) -> bool:
        """Wait for a random moment: of the bytes that an undisturbed run has written, and a little
        later. False if the command has ended before."""
        done, whole = size_of(self.output), size_of(undisturbed)
        moment, end = rng.uniform(done, max(done, whole)), time.monotonic() + PATIENCE
        while self.process.is_alive() and size_of(self.output) < moment:
            assert time.monotonic() < end, "a command hangs"
            time.sleep(0.005)
        time.sleep(rng.uniform(0, PAUSE))
        return self.process.is_alive()

    def send(self, number: int) -> None:
        if self.process.is_alive() and self.process.pid is not None:
            os.kill(self.process.pid, number)

    def end(self, *expected: int) -> str:
        """Wait for the end; returns what is wrong with it, if anything: `kind: reason`."""
        self.process.join(PATIENCE)
        if self.process.exitcode is None:
            self.process.kill()
            return "wrong: it hangs"
        reported = self.log.read_text(errors="replace") if self.log.exists() else ""
        last = (reported.strip().splitlines() or [""])[-1][:300]
        if "Traceback" in reported:
            return f"traceback: {last}"
        code = self.process.exitcode
        return "" if code in expected else f"wrong: it ended with {code}: {last}"


def _work(arguments: Sequence[str], log: Path, largest_file: int | None) -> None:
    descriptor = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    sys.stdout, sys.stderr = (os.fdopen(n, "w", buffering=1) for n in (1, 2))
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if largest_file is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    torch.set_num_threads(1)
    with no_pictures():
        surfdiff(list(arguments))


def size_of(folder: Path) -> int:
    """Return the bytes of all files in a folder, some of which may vanish meanwhile."""
    found = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            found += path.stat().st_size
    return found


def differences(command: Command, output: Path, undisturbed: Path) -> list[str]:
    """Return what differs from an undisturbed run: a structure, a weight or a number that has not
    the same bits, or a run folder that only one of them has."""
    one, other = output / command.folder, undisturbed / command.folder
    inner, theirs = ({folder.relative_to(home) for folder in parts(home)} for home in (one, other))
    found = [f"{folder} is in one of them alone" for folder in sorted(inner ^ theirs)]
    return found + [
        f"{place / difference.file}: {difference.where} ({difference.largest:g})"
        for place in (Path(), *sorted(inner & theirs))
        for difference in folder_differences(one / place, other / place)
        if difference.largest > 0
    ]
