"""How long a command takes to begin: what it imports, and in what time beside torch's own."""

import os
import subprocess
import sys
from statistics import median

import pytest

from tests.tiny import ROOT

ROUNDS = 3
SPARED = {
    "experiments.quickstart": {"torch", "ase", "scipy", "matplotlib", "pandas", "wandb", "optuna"},
    "experiments.train": {"torch", "ase", "scipy", "matplotlib", "pandas", "wandb", "optuna"},
    "experiments.sample": {"matplotlib", "pandas", "wandb", "optuna", "torch._dynamo", "chgnet"},
    "experiments.evaluate": {"matplotlib", "pandas", "wandb", "optuna", "torch._dynamo", "chgnet"},
    "experiments.compare": {"torch", "pandas", "wandb", "optuna"},
    "sweeps.run": {"torch", "ase", "scipy", "matplotlib", "pandas", "wandb"},
}
"""What each does without until there is work for it."""


def seconds_of(module: str) -> float:
    """Of computing, in a fresh process that imports it: others on the machine add little to it."""
    told = "import time; print(time.process_time())"
    command = [sys.executable, "-c", f"import {module}; {told}"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
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


def test_importing_the_experiments_takes_little_beside_torch():
    """Rounds of each in turn, so that a busy minute befalls all alike."""
    names = ("torch", "experiments.quickstart", "experiments.sample")
    rounds = [[seconds_of(name) for name in names] for _ in range(ROUNDS)]
    torch, quickstart, sample = map(median, zip(*rounds, strict=True))
    assert quickstart < 0.6 * torch  # 0.3 here
    assert sample < 2.2 * torch  # 1.6 here
