"""Workers as jobs: submitit's local executor is real, its processes are jobs."""

import json
import os
import signal
from pathlib import Path

import pytest

from sweeps import subcommands
from sweeps.execution import run
from sweeps.execution.launch import Worker
from sweeps.execution.study import states
from sweeps.execution.trial import Place
from tests.integration.sweeps.tiny_sweep import (
    sampled,
    study_at,
    summaries,
    sweep_of,
    trained,
    write,
)
from tests.tiny import until

LOCAL = ["cluster=local", "jobs=2", "cpus=1", "wait=true"]


def test_jobs_share_the_study(world, tmp_path, postgresql):
    space = {"sample.sampler.steps": {"choices": [2, 3]}}
    file = write(tmp_path / "jobs.yaml", sampled(world, space=space))
    subcommands.launch([*LOCAL, str(file), f"storage={postgresql}", f"runs={tmp_path}"])
    study = study_at(postgresql, "jobs")
    assert states(study)["complete"] == len(study.trials) == 2
    assert len(summaries(tmp_path / "sweeps/jobs")) == 2
    logs = {path.name.split("_")[0] for path in (tmp_path / "sweeps/jobs/jobs").glob("*.out")}
    assert len(logs) == 2  # a job each


@pytest.mark.parametrize(("cpus", "cores"), [(2, 2), (16, 8)])
def test_a_job_s_stages_have_its_cpus(cpus, cores, tmp_path, monkeypatch):
    """Jobs on one machine see all of its cores."""
    places = []
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr(run, "work", lambda sweep, url, place, heartbeat: places.append(place))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    Worker(sweep_of(), run.Settings(runs=str(tmp_path)), cpus)()
    assert places == [Place(tmp_path, cores)]


def test_a_job_at_its_time_limit_goes_on_when_its_turn_comes_again(tmp_path, sqlite):
    content = trained(budget=1)
    content["stages"]["score"] = [*content["stages"]["score"], "train.steps=100"]
    file = write(tmp_path / "limit.yaml", content)
    arguments = [str(file), f"storage={sqlite}", f"runs={tmp_path}"]
    (job,) = subcommands.launch(["cluster=local", "jobs=1", "cpus=1", *arguments])
    training = tmp_path / "sweeps/limit/0000/train/score"
    until((training / "checkpoints/last.pt").is_file)
    os.kill(_task_of(job), signal.SIGUSR2)  # as Slurm does some time before the limit
    job.result()  # submitted again, it goes on
    assert "Requeued" in job.stdout()
    study = study_at(sqlite, "limit")
    assert states(study)["complete"] == 1
    rows = [json.loads(line) for line in (training / "metrics.jsonl").read_text().splitlines()]
    steps = [row["train/step"] for row in rows if "train/loss" in row]
    assert steps == sorted(set(steps))
    assert steps[-1] == 100
    assert len(study.trials) == 2


def _task_of(job) -> int:
    """The process that works: submitit's own is its parent."""
    pid = job._process.pid
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["jobs=0"], "jobs: Input should be greater than or equal to 1, got 0"),
        (["cluster=moon"], "cluster: Input should be 'slurm' or 'local', got 'moon'"),
        (["wait=perhaps"], "wait: Input should be a valid boolean"),
        (["workers=3"], "workers=N is for `surfdiff sweep run`; here it is jobs=N"),
        (["jobs=2"], "SQLite is for one machine"),
    ],
)
def test_bad_input(world, tmp_path, arguments, sentence):
    file = write(tmp_path / "bad.yaml", sampled(world))
    with pytest.raises(ValueError, match=sentence):
        subcommands.launch([str(file), *arguments])
    assert not (tmp_path / "sweeps").exists()


def test_slurm_s_parameters_are_submitit_s(world):
    jobs, rest = subcommands.parse_jobs(
        ["slurm.partition=gpu", "slurm.gpus_per_node=1", "x.yaml", "hours=2"]
    )
    assert jobs.more == {"slurm_partition": "gpu", "slurm_gpus_per_node": 1}
    assert jobs.hours == 2
    assert rest == ["x.yaml"]
