"""Sweeps at their smallest, their command, and workers whose trials are played."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import optuna
from omegaconf import OmegaConf

from sweeps.definition.sweep import Sweep
from sweeps.execution import worker
from sweeps.execution.storage import open_storage
from sweeps.execution.study import open_study, storage_of
from sweeps.execution.trial import Place, Result
from tests.tiny import PATIENCE, ROOT, SAMPLE, SEARCH, TRAIN, World, until

TEXTS = {
    "question": "Does it?", "claim": "It does.", "reading": "Look.", "cost": "a second",
}  # fmt: skip
TRAINING = [*TRAIN, "train.steps=12"]
UNGUIDED = [*SAMPLE, "guide=none", "composition=Ag2O"]
GRID = {"_target_": "optuna.samplers.GridSampler"}
RANDOM = {"_target_": "optuna.samplers.RandomSampler"}
TPE = {"_target_": "optuna.samplers.TPESampler", "n_startup_trials": 2}
LOSS, MEDIAN = "score/loss", "gen_relaxed/energy_median"
PROCESSES = get_context("forkserver")  # which imports torch once, and nothing of the test's
PROCESSES.set_forkserver_preload([__name__])


def trained(**changes: Any) -> dict[str, Any]:
    """A sweep that trains and samples, and needs nothing but what is shipped."""
    return TEXTS | {
        "stages": {"score": TRAINING, "sample": UNGUIDED},
        "space": {"score.train.learning_rate": {"low": 0.001, "high": 0.01, "log": True}},
        "objectives": {LOSS: "minimize"},
        "sampler": RANDOM,
        "budget": 3,
        "tracking": {"mode": "disabled"},
    } | changes  # fmt: skip


def sampled(world: World, **changes: Any) -> dict[str, Any]:
    """A grid over the steps of a network that is there."""
    return TEXTS | {
        "models": {"score": str(world.score)},
        "stages": {"sample": UNGUIDED, "evaluate": [*SEARCH, f"reference={world.reference}"]},
        "space": {"sample.sampler.steps": {"choices": [2, 3, 4, 5]}},
        "objectives": {MEDIAN: "minimize"},
        "sampler": GRID,
        "tracking": {"mode": "disabled"},
    } | changes  # fmt: skip


def write(path: Path, content: Mapping[str, Any]) -> Path:
    OmegaConf.save(OmegaConf.create(dict(content)), path)
    return path


def sweep_of(**changes: Any) -> Sweep:
    """A training, as it is after reading, without the checks of that."""
    own = {"name": "tiny", "stages": {"score": TRAINING}, "tracking": {}}
    return Sweep.model_validate(trained() | own | changes)


def study_at(url: str, name: str = "tiny") -> optuna.Study:
    return optuna.load_study(study_name=name, storage=open_storage(url))


# The command


def start(*arguments: Any, **more: Any) -> subprocess.Popen:
    """`surfdiff sweep run` as people start it."""
    command = [sys.executable, "-m", "experiments", "sweep", "run", *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=environment, cwd=ROOT, **pipes | more)


def finish(process: subprocess.Popen, code: int = 0, seconds: float = PATIENCE) -> str:
    """Standard error, when it has ended with this code."""
    reported = process.communicate(timeout=seconds)[1]
    assert process.returncode == code, reported
    return reported


def kill(process: subprocess.Popen) -> None:
    """As the system does that has no memory left."""
    process.kill()
    process.wait()
    assert process.returncode == -signal.SIGKILL


def summaries(study: Path) -> dict[str, dict[str, Any]]:
    """What each trial folder came to."""
    found = sorted(study.glob("[0-9]*/summary.json"))
    return {path.parent.name: json.loads(path.read_text()) for path in found}


# Workers in processes of their own, whose trials are played


class Crew:
    """Processes that work on a study as `surfdiff sweep run` does, with a played pipeline."""

    def __init__(self, sweep: Sweep, url: str, home: Path, heartbeat: int = 20) -> None:
        self.sweep, self.url, self.home, self.heartbeat = sweep, url, home, heartbeat
        self.members: list[BaseProcess] = []
        self.barriers: list[Any] = []  # gone with their last reference, members started or not

    def start(self, n: int = 1, play: str = "quick") -> None:
        """Let n more of them begin at once; `play` names what their trials do."""
        barrier = PROCESSES.Barrier(n)
        self.barriers.append(barrier)
        for _ in range(n):
            number = len(self.members)
            arguments = (self.sweep, self.url, self.home, number, self.heartbeat, play, barrier)
            self.members.append(PROCESSES.Process(target=_member, args=arguments, daemon=True))
            self.members[-1].start()

    def finish(self, seconds: float = PATIENCE) -> list[int | None]:
        for member in self.members:
            member.join(seconds)
        return [member.exitcode for member in self.members]

    def send(self, number: int, what: signal.Signals) -> None:
        pid = self.members[number].pid
        assert pid is not None
        os.kill(pid, what)

    def wait_until_ran(self, trials: int) -> None:
        until(lambda: len(self.ran) >= trials)

    @property
    def ran(self) -> list[tuple[int, int]]:
        """Member and trial, for every trial that was begun."""
        return [(int(path.stem), int(line)) for path in sorted(self.home.glob("*.ran"))
                for line in path.read_text().split()]  # fmt: skip


def _member(
    sweep: Sweep, url: str, home: Path, number: int, heartbeat: int, play: str, barrier: Any
) -> None:
    def run_trial(
        sweep: Sweep, label: str, seed: int, params: Any, place: Place, observe: Any = None
    ) -> Result:
        with open(home / f"{number}.ran", "a") as file:
            file.write(f"{int(label)}\n")
        return PLAYS[play](sweep, int(label), params, observe)

    worker.run_trial = run_trial  # type: ignore[assignment]
    worker.PAUSE = 0.2
    barrier.wait()
    worker.work(sweep, url, Place(home, 1), heartbeat)


def quick(sweep: Sweep, label: int, params: Mapping[str, Any], observe: Any = None) -> Result:
    value = float(sum(params.values()))
    summary = dict.fromkeys([*sweep.objectives, *sweep.constraints], value)
    return Result(summary, {"gen": [value]})


def hang(sweep: Sweep, label: int, params: Mapping[str, Any], observe: Any = None) -> Result:
    if observe is not None:
        observe("score", {"train/step": 1, "val/loss": 0.5})
    time.sleep(600)
    raise AssertionError("nobody killed it")


def nap(sweep: Sweep, label: int, params: Mapping[str, Any], observe: Any = None) -> Result:
    time.sleep(3)
    return quick(sweep, label, params)


def nap_and_fail(*arguments: Any) -> Result:
    nap(*arguments)
    raise ValueError("it fell out of bed")


PLAYS: dict[str, Callable[..., Result]] = {"quick": quick, "hang": hang, "nap": nap}
PLAYS["nap and fail"] = nap_and_fail


def make(sweep: Sweep, url: str) -> optuna.Study:
    """Its study, as `surfdiff sweep` opens it."""
    return open_study(sweep, storage_of(sweep, url))


def make_at_once(sweep: Sweep, url: str, n: int) -> list[int | None]:
    """n processes that open the study at the same time; their exit codes."""
    barrier = PROCESSES.Barrier(n)
    processes = [PROCESSES.Process(target=_open, args=(sweep, url, barrier)) for _ in range(n)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(PATIENCE)
    return [process.exitcode for process in processes]


def _open(sweep: Sweep, url: str, barrier: Any) -> None:
    barrier.wait()
    make(sweep, url)
