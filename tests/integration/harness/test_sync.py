"""After a kill the folder is all there is: a real run is killed, rebuilt, and read back."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.harness.runs.run_folder import RunFolder
from experiments.harness.tracking.rebuild import run_folders, sync
from experiments.harness.tracking.tracker import Tracker, identity
from tests.integration.harness.mirror import (
    history,
    log_of,
    logs,
    nobody_logged_in,  # noqa: F401  (a fixture of every test)
    records,
    updates,
)
from tests.tiny import PATIENCE

ROOT = Path(__file__).parents[3]
RUN = """
import sys, time
from experiments.harness.figures.plots import energy_histogram
from experiments.harness.runs.run_folder import RunFolder
from experiments.harness.tracking.tracker import Tracker
folder = RunFolder(sys.argv[1])
with Tracker(folder, id="eta-0003", group="eta", job_type="trial", tags=["quick"]) as tracker:
    tracker.energies("gen", [0.1, 0.2, 1.5])
    tracker.figure("energies", energy_histogram({"RSS": [0.0, 1.0]}))
    tracker.summary({"gen/n": 3})
    step = 0
    while True:
        tracker.log({"train/step": step, "train/loss": 1 / (1 + step)})
        step += 1
        if step == 200:
            print("far enough", flush=True)
            time.sleep(0.5)
        time.sleep(0.02)
"""


@pytest.fixture
def folder(tmp_path):
    folder = RunFolder(tmp_path / "runs" / "sweeps" / "eta" / "0003")
    folder.save_config({"seed": 1, "params": {"sample.guide.eta_dt": 0.001}})
    return folder


def working_on(folder: RunFolder) -> subprocess.Popen:
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, str(folder.path)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        start_new_session=True,
    )
    assert process.stdout.readline() == "far enough\n"
    return process


def kill(process: subprocess.Popen) -> None:
    os.killpg(process.pid, signal.SIGKILL)  # W&B's service, too
    process.communicate(timeout=PATIENCE)


def command(*arguments: object) -> tuple[int, list[str], str]:
    """Exit code, lines of stdout, and stderr."""
    done = subprocess.run(
        [sys.executable, "-m", "experiments", "sync", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout.splitlines(), done.stderr


def test_a_killed_run_is_rebuilt_and_a_living_one_left_alone(folder):
    process = working_on(folder)
    code, reported, errors = command(folder.path)
    assert (code, errors) == (1, "")
    assert reported == [f"{folder.path}: another process works in {folder.path}"]
    assert process.poll() is None
    kill(process)
    (cut,) = logs(folder, "eta-0003")
    assert identity(folder)["exit_code"] is None

    with open(folder.path / "metrics.jsonl", "a") as file:
        file.write('{"train/step": 99')  # as a kill cuts a row
    rows = folder.rows()
    assert len(rows) > 200
    code, reported, errors = command(folder.path)
    assert (code, errors) == (0, "")
    assert reported == [f"{folder.path}: {len(rows)} rows, 1 files, offline as eta-0003"]
    assert not cut.exists()
    log = log_of(folder, "eta-0003")
    shown = history(log)
    assert [item["_row"] for item in shown] == list(range(len(rows)))
    assert shown[0]["gen/energy_bins/+0000meV"] == 2
    assert (log.parent / "files" / shown[1]["figures/energies.path"]).stat().st_size > 1000
    for item, row in zip(shown[2:], rows[2:], strict=True):
        assert {key: item[key] for key in row} == row
    every = records(log)
    run = next(r["run"] for r in every if r["type"] == "run")
    assert run["run_group"] == "eta"
    assert run["job_type"] == "trial"
    assert run["tags"] == ["quick"]
    assert run["display_name"] == "0003"
    assert updates(log, "config")["params"] == {"sample.guide.eta_dt": 0.001}
    assert updates(log, "summary")["gen/n"] == 3
    assert every[-1]["exit"]["exit_code"] == 137, "it was killed, and does not look finished"

    assert command(folder.path)[:2] == (0, [f"{folder.path}: already complete"])
    assert log_of(folder, "eta-0003") == log


def test_what_came_after_the_mirror_is_added(folder):
    with Tracker(folder, id="eta-0003") as tracker:
        tracker.log({"a": 1})
    assert sync(folder.path) == "already complete"
    folder.update_summary({"gen/n": 3, "knob/sample.guide.eta_dt": 0.001, "gen/hit_rate": None})
    assert sync(folder.path) == "1 rows, 0 files, offline as eta-0003"
    assert updates(log_of(folder, "eta-0003"), "summary")["knob/sample_guide_eta_dt"] == 0.001
    assert sync(folder.path) == "already complete"
    folder.log({"a": 2})
    assert sync(folder.path).startswith("2 rows")
    assert records(log_of(folder, "eta-0003"))[-1]["exit"]["exit_code"] == 0


def test_only_what_was_not_uploaded_is_sent_again(folder):
    with Tracker(folder, id="eta-0003") as tracker:
        tracker.log({"a": 1})
    (first,) = logs(folder, "eta-0003")
    Path(f"{first}.synced").touch()  # what `wandb sync` leaves
    assert sync(folder.path) == "already complete"
    folder.log({"a": 2})
    assert sync(folder.path) == "2 rows (1 of them new to W&B), 0 files, offline as eta-0003"
    (second,) = set(logs(folder, "eta-0003")) - {first}
    assert [item["a"] for item in history(second)] == [2]


def test_a_folder_that_no_tracker_saw_is_known_by_its_config(tmp_path):
    folder = RunFolder(tmp_path / "quickstart" / "mine" / "train" / "score")
    RunFolder(tmp_path / "quickstart" / "mine").save_config({"seed": 0})
    tracking = {"mode": "disabled", "project": "silver", "group": "mine", "tags": [], "id": None}
    folder.save_config({"seed": 1, "tracking": tracking})
    folder.log({"train/step": 1, "train/loss": 0.5})
    folder.log({"event": "figure", "name": "curves", "file": "figures/removed.png"})
    folder.update_summary({"val/loss": 0.5})
    reported = sync(folder.path)
    own = identity(folder)["id"]
    assert own.startswith("quickstart-mine-train-score-")
    assert reported == f"2 rows, 0 files (1 more are gone), offline as {own}"
    every = records(log_of(folder, own))
    run = next(r["run"] for r in every if r["type"] == "run")
    assert (run["project"], run["run_group"], run["job_type"]) == ("silver", "mine", "train")
    assert every[-1]["exit"]["exit_code"] == 0


def test_every_run_below_a_folder_is_found_once(folder, tmp_path):
    stage = RunFolder(folder / "train" / "score")
    for run in (folder, stage):
        run.save_config({"seed": 1}, may_change=["params"] if run is folder else [])
        with Tracker(run) as tracker:
            tracker.log({"a": 1})
    RunFolder(tmp_path / "runs" / "empty").save_config({"seed": 0})
    damaged = RunFolder(tmp_path / "runs" / "damaged")
    damaged.log({"a": 1})
    (damaged / "config.yaml").write_text("1: 2\n")
    runs = tmp_path / "runs"
    (stage.path / "wandb" / "config.yaml").touch()  # W&B keeps such files, too
    assert run_folders([runs, stage.path]) == [
        damaged.path, runs / "empty", folder.path, stage.path,
    ]  # fmt: skip
    shutil.rmtree(stage.path / "wandb")
    (folder.path / "metrics.jsonl").write_text("broken\n" + json.dumps({"a": 1}) + "\n")
    code, reported, errors = command(runs)
    assert code == 1, "two of them could not be read"
    assert reported == [
        f"{damaged.path}: {damaged.path}/config.yaml cannot be read: the key 1 is no text; restore "
        "it, or remove the folder and start anew",
        f"{runs}/empty: nothing to show yet",
        f"{folder.path}: {folder.path}/metrics.jsonl, line 1, is not JSON; remove that line",
        f"{stage.path}: 1 rows, 0 files, offline as {identity(stage)['id']}",
    ]
    assert errors == ""


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["{tmp}/nowhere"], "sync: there is no folder {tmp}/nowhere"),
        (["{tmp}"], "sync: {tmp} is no run folder and holds none: no config.yaml in it"),
        (["{tmp}/r", "--mode", "online"], "sync: tracking.mode=online needs a W&B key"),
        (["{tmp}/r", "--mode", "on"], "argument --mode: invalid choice: 'on'"),
        ([], "the following arguments are required: folders"),
    ],
)
def test_nonsense_is_refused(tmp_path, arguments, sentence):
    if "{tmp}/r" in arguments:
        RunFolder(tmp_path / "r").save_config({"seed": 0})
    before = sorted(tmp_path.rglob("*"))
    code, reported, errors = command(*(text.format(tmp=tmp_path) for text in arguments))
    assert (code, reported) == (2, [])
    assert sentence.format(tmp=tmp_path) in errors
    assert "Traceback" not in errors
    assert sorted(tmp_path.rglob("*")) == before
