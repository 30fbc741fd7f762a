"""How long a command takes to begin: what it imports, and in what time beside torch's own."""

import os
import subprocess
import sys
from pathlib import Path
from statistics import median

import pytest

from tests.tiny import ROOT, SAMPLE, TRAIN

ROUNDS = 3
HEAVY = {"torch", "ase", "scipy", "numba", "matplotlib", "pandas", "wandb", "optuna", "chgnet"}
LATER = {"scipy", "numba", "matplotlib", "pandas", "wandb", "optuna", "chgnet", "torch._dynamo"}
COMPOSING = {"hydra", "omegaconf", "pydantic", "numpy"}
SPARED = {
    "experiments.harness.commands.main": HEAVY | COMPOSING,
    "experiments.harness.training.train": HEAVY | {"hydra", "omegaconf"},
    "experiments.harness.generation.sample": LATER | {"hydra", "omegaconf", "ase.io"},
    "experiments.harness.generation.evaluate": LATER - {"scipy"},
    "experiments.harness.comparison.compare": {"torch", "pandas", "wandb", "optuna"},
    "sweeps.commands": HEAVY | COMPOSING,
    "sweeps.subcommands": {"torch", "ase", "scipy", "matplotlib", "pandas", "wandb"},
}
"""What each does without until there is work for it."""
COMMANDS = {
    "--help": HEAVY | COMPOSING,
    "train --help": HEAVY | COMPOSING,
    "predict --help": HEAVY | COMPOSING,
    "sweep --help": HEAVY | COMPOSING,
    "train --cfg job": HEAVY,
    "train data.path=gone.traj": HEAVY,
    "sample score=gone": HEAVY - {"ase"},
}
"""What a command line is answered without."""


def seconds_of(module: str, compiled: Path) -> float:
    """Of computing, in a fresh process that imports it: others on the machine add little to it.

    Python finds what it has compiled in a folder of our own: where some packages are compiled and
    others are not, their times would not compare.
    """
    reported = "import time; print(time.process_time())"
    command = [sys.executable, "-c", f"import {module}; {reported}"]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    environment |= {"OMP_NUM_THREADS": "1", "PYTHONPYCACHEPREFIX": str(compiled)}
    run = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    return float(run.stdout)


@pytest.mark.parametrize("module", SPARED)
def test_a_command_imports_only_what_it_begins_with(module):
    command = [sys.executable, "-c", f"import sys, {module}; print(*sys.modules)"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    imported = set(run.stdout.split())
    assert module in imported
    assert not SPARED[module] & imported


@pytest.mark.parametrize("line", COMMANDS)
def test_what_needs_no_computation_is_answered_without(line):
    program = (
        "import sys; from experiments.harness.commands.main import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    command = [sys.executable, "-c", program, *line.split()]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert not COMMANDS[line] & set(run.stderr.splitlines()[-1].split())


def test_importing_what_a_command_begins_with_takes_little_beside_torch(tmp_path):
    """Rounds of each in turn, so that a busy minute befalls all alike."""
    names = ("torch", "experiments.harness.commands.main", "experiments.harness.generation.sample")
    rounds = [[seconds_of(name, tmp_path) for name in names] for _ in range(1 + ROUNDS)]
    torch, dispatcher, sample = map(median, zip(*rounds[1:], strict=True))  # the first compiles
    assert dispatcher < 0.2 * torch  # 0.02 here
    assert sample < 2 * torch  # 1.1 here


@pytest.mark.parametrize("command", ["train score", "train forcefield", "sample"])
def test_a_command_does_without_torchs_compiler(command, world, tmp_path):
    command, *task = command.split()
    settings = {
        "train": [*TRAIN, *(f"task={name}" for name in task), "train.steps=3",
                  f"data.path={world.minima}"],
        "sample": [*SAMPLE, *world.networks, "composition=Ag2O"],
    }[command]  # fmt: skip
    program = (
        "import sys; from experiments.harness.commands.main import main\n"
        "main(sys.argv[1:])\nprint(*sys.modules)"
    )
    line = [sys.executable, "-c", program, command, *settings, f"output={tmp_path}", "name=run"]
    run = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=True)
    assert any((tmp_path / command / "run").glob("**/summary.json"))
    assert not {"torch._dynamo", "sympy"} & set(run.stdout.split())
