"""The same search on other machines: a real Dask scheduler and two workers, and Slurm's dry run."""

import json
import os
import signal
import subprocess
import sys

import pytest

from experiments.harness.execution import executors
from experiments.harness.runs.run_folder import RunFolder
from sdedata import StructureSet
from tests.tiny import PATIENCE, ROOT, run, start, wait_for

SEARCH = [
    "calculator=emt", "tracking.mode=disabled", "compositions=[Ag3,Ag2O]", "n_per_composition=10",
    "task_size=1", "name=same",
]  # fmt: skip


@pytest.fixture
def dask(tmp_path):
    """A scheduler and two workers on loopback: its address and the workers' processes."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    file = tmp_path / "scheduler.json"

    def program(*arguments: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "distributed.cli.dask_" + arguments[0], *arguments[1:]]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return subprocess.Popen(command, env=environment, cwd=tmp_path, **quiet)

    scheduler = program(
        "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard",
        "--scheduler-file", str(file),
    )  # fmt: skip
    wait_for(lambda: file.is_file() and file.read_text().endswith("}"), scheduler)
    address = json.loads(file.read_text())["address"]
    workers = [
        program("worker", address, "--nthreads", "1", "--no-nanny", "--no-dashboard",
                "--name", f"worker{k}")
        for k in range(2)
    ]  # fmt: skip
    yield address, workers
    for process in [*workers, scheduler]:
        process.kill()
        process.wait()


def test_a_killed_dask_worker_loses_nothing_and_repeats_nothing(dask, tmp_path):
    address, workers = dask
    command = [*SEARCH, f"output={tmp_path}", "executor=dask", f"executor.address={address}"]
    folder = tmp_path / "generate_data/same"
    process = start("generate_data", *command)
    wait_for(lambda: len(list(folder.glob("candidates/[0-9]*.npz"))) >= 3, process)
    os.kill(workers[0].pid, signal.SIGKILL)
    at_death = len(list(folder.glob("candidates/[0-9]*.npz")))
    _, reported = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, reported
    assert at_death < 20
    rows = [row for row in RunFolder(folder).rows() if row.get("event") == "candidate"]
    assert sorted(row["index"] for row in rows) == list(range(20))
    run("generate_data", *SEARCH, f"output={tmp_path / 'here'}", "executor=threads")
    for name in ("minima.npz", "frames.npz"):
        ours, undisturbed = (
            StructureSet.read(path / "generate_data/same" / name)
            for path in (tmp_path, tmp_path / "here")
        )
        assert ours.digest == undisturbed.digest


def test_an_address_where_nobody_answers_is_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(executors, "ANSWERS", "1s")
    with pytest.raises(ValueError, match="no Dask scheduler answers at tcp://127.0.0.1:9"):
        run(
            "generate_data", *SEARCH, f"output={tmp_path}", "executor=dask",
            "executor.address=tcp://127.0.0.1:9",
        )  # fmt: skip


def test_slurms_dry_run_shows_the_script_and_submits_nothing(tmp_path):
    with pytest.raises(ValueError, match="dry run, nothing was submitted; 3 jobs") as reported:
        run(
            "generate_data", *SEARCH, f"output={tmp_path}", "executor=slurm",
            "executor.dry_run=true", "executor.jobs=3", "executor.cores=8",
            "executor.queue=short", "executor.walltime=01:30:00",
        )  # fmt: skip
    script = str(reported.value)
    for line in ("#SBATCH -p short", "#SBATCH --cpus-per-task=8", "#SBATCH -t 01:30:00"):
        assert line in script
    assert "distributed.cli.dask_worker tcp://" in script
    assert "--nworkers 8" in script
    assert "--nthreads 1" in script


def test_slurm_leaves_the_answer_to_ctrl_c_as_it_was():
    """dask_jobqueue sets a handler of its own when it is imported."""
    program = (
        "import signal\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # ignored in the background
        "from experiments.harness.execution.executors import Slurm\n"
        "try:\n"
        "    Slurm(dry_run=True)\n"
        "except ValueError:\n"
        "    print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)\n"
    )
    command = [sys.executable, "-c", program]
    run = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert run.stdout.split()[-1] == "True"
