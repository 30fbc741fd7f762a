"""A sweep's study: created once, with all trials of its budget queued, for any number of workers.

The budget is a list of slots, 0 to budget - 1. Each slot has one queued trial from the beginning;
a retry (its worker died, or it was given back) is a new trial of Optuna's in the same slot. The
current attempt of a slot follows from the trials alone: the first trial of the slot, then the first
retry of that one, and so on. What processes create twice in a race is never current: a worker
that takes such a trial drops it, and it counts nowhere. So the budget cannot be exceeded.
"""

import copy
from functools import partial
from time import sleep, time

import optuna
from optuna.storages import RetryHeartbeatStaleTrialCallback
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from sweeps.definition.sweep import Sweep
from sweeps.execution.storage import HEARTBEAT, Storage, open_storage

SLOT = "slot"  # the user attribute of a trial: its number within the budget
FAILURE = "failure"  # the one with the reason of its failure
GIVEN_BACK = "given_back"  # the one that counts attempts that were ended from outside
CREATION = 10.0  # seconds for another process to queue the trials of a study it is creating
STATES = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed",
          TrialState.RUNNING: "running", TrialState.WAITING: "waiting"}  # fmt: skip


def storage_of(sweep: Sweep, url: str, heartbeat: int = HEARTBEAT) -> Storage:
    """Open the storage so that the trials of dead workers are retried as the sweep allows."""
    return open_storage(url, heartbeat, partial(retry_dead, retries=sweep.retries))


def open_study(sweep: Sweep, storage: Storage) -> optuna.Study:
    """Return the sweep's study, created if missing, enlarged if the sweep's budget is larger.

    ValueError if the name holds a study of another space, or of other networks.
    """
    directions = [StudyDirection[d.upper()] for d in sweep.objectives.values()]
    try:
        study = optuna.create_study(storage=storage, study_name=sweep.name, directions=directions)
    except optuna.exceptions.DuplicatedStudyError:
        study, end = optuna.load_study(study_name=sweep.name, storage=storage), time() + CREATION
        while "budget" not in study.user_attrs and time() < end:  # its creator queues, or is dead
            sleep(0.1)
    _require_sweep(study)
    _require_same(study, sweep)
    study.set_user_attr("definition", sweep.definition())
    study.set_user_attr("networks", sweep.digests())
    points = sweep.grid() if sweep.is_grid else [{}] * sweep.trials
    there = attempts(study)
    for slot in (slot for slot in range(sweep.trials) if slot not in there):
        study.enqueue_trial(points[slot], user_attrs={SLOT: slot})
    study.set_user_attr("budget", max(sweep.trials, len(there)))
    return study


def load_study(name: str, url: str) -> optuna.Study:
    """Return a study that exists; ValueError if it does not."""
    storage = open_storage(url, must_exist=True)
    names = optuna.get_all_study_names(storage)
    if name not in names:
        there = ", ".join(names) or "none"
        raise ValueError(f"the storage holds no study {name}, but {there}: run the sweep first")
    study = optuna.load_study(study_name=name, storage=storage)
    _require_sweep(study)
    return study


def _require_sweep(study: optuna.Study) -> None:
    if study.get_trials(deepcopy=False) and not attempts(study):
        raise ValueError(f"study {study.study_name} is none of a sweep: choose another name=NAME")


def _require_same(study: optuna.Study, sweep: Sweep) -> None:
    digests, attributes = sweep.digests(), study.user_attrs
    for name, digest in attributes.get("networks", {}).items():
        if digests.get(name, digest) != digest:
            raise ValueError(
                f"study {sweep.name} began with another {name} network than is in "
                f"{sweep.models[name]} now: its trials would not compare; give this study another "
                "name (name=...)"
            )
    now = sweep.comparable()
    before = attributes.get("definition", now)
    differing = [key for key, value in now.items() if before.get(key) != value]
    if differing:
        raise ValueError(
            f"study {sweep.name} was made with different {' and '.join(differing)}: its trials "
            "would not compare; give this one another name (name=...)"
        )


def attempts(study: optuna.Study) -> dict[int, FrozenTrial]:
    """Return the current attempt of each slot of the budget."""
    found: dict[int, FrozenTrial] = {}
    for trial in sorted(study.get_trials(deepcopy=False), key=lambda t: t.number):
        slot = trial.user_attrs.get(SLOT)
        retried = RetryHeartbeatStaleTrialCallback.retry_history(trial)
        before = [found[slot].number] if slot in found else []
        if slot is not None and retried[-1:] == before:  # None: created by Optuna, see worker.py
            found[slot] = trial
    return dict(sorted(found.items()))


def retry(study: optuna.Study, trial: FrozenTrial) -> None:
    """Queue a failed trial again, however often; the next attempt continues its folder."""
    again = RetryHeartbeatStaleTrialCallback(inherit_intermediate_values=True)
    again(study, copy.deepcopy(trial))  # it extends the trial's history in place


def retry_dead(study: optuna.Study, trial: FrozenTrial, retries: int) -> None:
    """Queue a dead worker's trial again, up to `retries` times."""
    tries = len(RetryHeartbeatStaleTrialCallback.retry_history(trial)) + 1
    if tries - trial.user_attrs.get(GIVEN_BACK, 0) <= retries:
        retry(study, trial)


def retry_failed(study: optuna.Study) -> int:
    """Queue every failed trial again; returns how many."""
    failed = [t for t in attempts(study).values() if t.state == TrialState.FAIL]
    for trial in failed:
        retry(study, trial)
    return len(failed)


def retry_abandoned(study: optuna.Study, retries: int) -> None:
    """Queue trials again whose worker died, and so did the worker that noticed it."""
    for trial in attempts(study).values():
        if trial.state == TrialState.FAIL and trial.user_attrs.get(FAILURE) is None:
            retry_dead(study, trial, retries)


def states(study: optuna.Study) -> dict[str, int]:
    """Count the trials of the budget that are complete, pruned, failed, running, waiting."""
    found = [STATES[trial.state] for trial in attempts(study).values()]
    return {state: found.count(state) for state in STATES.values()}


def frozen(trial: optuna.Trial) -> FrozenTrial:
    """Return what the storage holds of a running trial now."""
    return trial.study.get_trials(deepcopy=False)[trial.number]
