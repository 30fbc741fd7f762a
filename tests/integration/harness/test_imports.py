"""How long a command takes to begin: what it imports, and in what time beside torch's own."""

import os
import subprocess
import sys
from pathlib import Path
from statistics import median

import pytest

from tests.tiny import ROOT

ROUNDS = 3
SPARED = {
    "experiments.harness.pipeline.runner": {
        "torch",
        "ase",
        "scipy",
        "matplotlib",
        "pandas",
        "wandb",
        "optuna",
    },
    "experiments.harness.training.train": {
        "torch",
        "ase",
        "scipy",
        "matplotlib",
        "pandas",
        "wandb",
        "optuna",
    },
    "experiments.harness.generation.sample": {
        "matplotlib",
        "pandas",
        "wandb",
        "optuna",
        "torch._dynamo",
        "chgnet",
    },
    "experiments.harness.generation.evaluate": {
        "matplotlib",
        "pandas",
        "wandb",
        "optuna",
        "torch._dynamo",
        "chgnet",
    },
    "experiments.harness.comparison.compare": {"torch", "pandas", "wandb", "optuna"},
    "sweeps.commands": {"torch", "ase", "scipy", "matplotlib", "pandas", "wandb"},
}
"""What each does without until there is work for it."""


def seconds_of(module: str, compiled: Path) -> float:
    """Of computing, in a fresh process that imports it: others on the machine add little to it.

    Python finds what it has compiled in a folder of our own: where some packages are compiled and
    others are not, their times would not compare.
    """
    told = "import time; print(time.process_time())"
    command = [sys.executable, "-c", f"import {module}; {told}"]
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


def test_importing_the_experiments_takes_little_beside_torch(tmp_path):
    """Rounds of each in turn, so that a busy minute befalls all alike."""
    names = (
        "torch",
        "experiments.harness.pipeline.runner",
        "experiments.harness.generation.sample",
    )
    rounds = [[seconds_of(name, tmp_path) for name in names] for _ in range(1 + ROUNDS)]
    torch, quickstart, sample = map(median, zip(*rounds[1:], strict=True))  # the first compiles
    assert quickstart < 0.8 * torch  # 0.4 here
    assert sample < 4 * torch  # 2 here
