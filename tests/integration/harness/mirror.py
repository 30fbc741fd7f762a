"""What W&B's own reader finds in a folder's offline runs, and a place where nobody is logged in."""

import json
import os
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

import pytest

from experiments.harness.runs.run_folder import RunFolder
from experiments.harness.tracking.run_id import identity


@pytest.fixture(autouse=True)
def nobody_logged_in(tmp_path, monkeypatch):
    """No key, and a home that shows whether anything was written there."""
    for variable in list(os.environ):
        if variable.startswith("WANDB_") or variable == "NETRC":
            monkeypatch.delenv(variable)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def logs(folder: RunFolder, run_id: str | None = None) -> list[Path]:
    wanted = run_id or identity(folder)["id"]
    return sorted((folder.path / "wandb").glob(f"*run-*/run-{wanted}.wandb"))


def records(log: Path) -> list[dict]:
    now = log.stat()
    return _records(log, now.st_mtime_ns, now.st_size)


@lru_cache
def _records(log: Path, *_: int) -> list[dict]:
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(log)]
    reported = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [json.loads(line) for line in reported.splitlines()]


def history(log: Path) -> list[dict]:
    return [r["history"]["item"] for r in records(log) if r["type"] == "history"]


def updates(log: Path, kind: str) -> dict:
    merged: dict = {}
    for record in records(log):
        if record["type"] == kind:
            merged |= record[kind].get("update", {})
        if record["type"] == "run" and kind == "config":
            merged |= record["run"]["config"]["update"]
    return merged


def log_of(folder: RunFolder, run_id: str) -> Path:
    """The one log in the folder, which must be of that run."""
    (log,) = (folder.path / "wandb").glob("*run-*/*.wandb")
    assert log.name == f"run-{run_id}.wandb"
    return log
