"""Optuna's own dashboard reads the same storage."""

import json
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from tests.integration.sweeps.tiny_sweep import make, sweep_of


def test_optuna_dashboard_shows_the_study(sqlite):
    sweep = sweep_of(budget=7)
    make(sweep, sqlite)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = Path(sys.executable).with_name("optuna-dashboard")
    server = subprocess.Popen(
        [program, sqlite, "--host", "127.0.0.1", "--port", str(port)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        address = f"http://127.0.0.1:{port}/api/studies"
        (study,) = _get(address)["study_summaries"]
        assert study["study_name"] == sweep.name
        assert {"key": "budget", "value": "7"} in study["user_attrs"]
        trials = _get(f"{address}/{study['study_id']}?after=0")["trials"]
        assert [trial["state"] for trial in trials] == ["Waiting"] * 7
    finally:
        server.terminate()
        server.wait()


def _get(address: str) -> dict:
    """What the server answers, as soon as it does."""
    end = time.monotonic() + 120
    while True:
        try:
            with urlopen(address, timeout=30) as answer:
                return json.load(answer)
        except URLError:
            assert time.monotonic() < end, "it never answered"
            time.sleep(0.2)
