"""Several commands on one study in PostgreSQL, as on several machines, and one of them killed."""

import re
import signal
from collections import Counter
from itertools import product

import pytest
from optuna.trial import TrialState

from experiments.harness.runs.run_folder import RunFolder
from sweeps.execution.storage import open_storage
from sweeps.execution.study import SLOT, attempts, states
from tests.integration.sweeps.tiny_sweep import (
    UNGUIDED,
    kill,
    make,
    sampled,
    start,
    study_at,
    summaries,
    sweep_of,
    write,
)
from tests.tiny import wait_for

SPEED = "gen/structures_per_second"  # another number in every attempt


@pytest.mark.parametrize("driver", ["postgresql", "postgresql+psycopg"])
def test_both_ways_to_name_the_server(driver, postgresql):
    url = postgresql.replace("postgresql:", f"{driver}:", 1)
    assert open_storage(url).engine.dialect.name == "postgresql"
    assert len(make(sweep_of(), url).trials) == 3
    assert len(study_at(postgresql).trials) == 3


def test_a_missing_database_is_reported_in_one_sentence(server):
    with pytest.raises(ValueError, match='cannot be used: .*database "nowhere" does not exist'):
        open_storage(f"{server}/nowhere")


def test_four_workers_one_killed(world, postgresql, tmp_path):
    """No trial is lost, none is run twice, and the budget is exact."""
    steps, seeds = [2, 3, 4, 5], [0, 1]
    space = {"sample.sampler.steps": {"choices": steps}, "sample.seed": {"choices": seeds}}
    content = sampled(
        world, space=space, stages={"sample": UNGUIDED}, objectives={SPEED: "maximize"}
    )
    file = write(tmp_path / "tiny.yaml", content)
    command = [file, f"storage={postgresql}", f"runs={tmp_path}/runs", "heartbeat=2"]
    logs = [tmp_path / f"{n}.log" for n in range(4)]
    workers = []
    for log in logs:
        with open(log, "w") as reported:
            workers.append(start(*command, stdout=reported, stderr=reported))

    wait_for(lambda: any(map(begun, logs)), workers[0], 600)
    victim = next(n for n in range(4) if begun(logs[n]))
    kill(workers[victim])
    lost = begun(logs[victim])[-1]
    for worker in workers:
        worker.wait(600)
    codes = [-signal.SIGKILL if n == victim else 0 for n in range(4)]
    assert [w.returncode for w in workers] == codes, [log.read_text() for log in logs]

    study = study_at(postgresql)
    assert states(study) == {"complete": 8, "pruned": 0, "failed": 0, "running": 0, "waiting": 0}
    tried = Counter(t.user_attrs[SLOT] for t in study.trials if SLOT in t.user_attrs)
    assert tried == {number: 1 + (number == lost) for number in range(8)}
    assert study.trials[lost].state == TrialState.FAIL
    assert attempts(study)[lost].number >= 8
    assert Counter(number for log in logs for number in begun(log)) == tried
    done = [t for t in study.trials if t.state == TrialState.COMPLETE]
    points = Counter((t.params["sample.sampler.steps"], t.params["sample.seed"]) for t in done)
    assert points == {point: 1 for point in product(steps, seeds)}

    found = summaries(tmp_path / "runs/sweeps/tiny")
    assert list(found) == [f"{number:04d}" for number in range(8)]
    for trial in done:
        label = f"{trial.user_attrs[SLOT]:04d}"
        assert trial.values == [found[label][SPEED]]
        sample = RunFolder(tmp_path / "runs/sweeps/tiny" / label / "sample/Ag2O")
        indices = [atoms.info["index"] for atoms in sample.structures("generated")]
        assert indices == [0, 1, 2, 3]


def begun(log):
    """The trials that a worker has logged as begun."""
    return [int(n) for n in re.findall(r"^tiny, trial (\d+)\b.* = ", log.read_text(), re.M)]
