"""A sweep's study in Optuna's storage: made once, with all its trials, for any number of workers.

The budget belongs to the study. All its trials are created with it, waiting, and a worker can only
take one of them: however many workers come and go, none runs one too many. What a dead worker
leaves is noticed by its missing heartbeat and waits again, for whoever is there.
"""

import time
import warnings
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from sweeps.spec import Sweep

HEARTBEAT = 20  # seconds; a worker silent for three of them is taken for dead
PATIENCE = 60.0  # seconds that a study may take to be made by somebody else
SQLITE_WAIT = 120.0  # seconds for which a writer waits for others
CONNECT_WAIT = 10.0  # seconds for a server to answer
FAILURE = "failure"  # the user attribute that says why a trial failed


class NoneWaiting(Exception):
    """No trial waits for a worker."""


class Storage(RDBStorage):
    """Optuna's storage, in which asking for a trial makes none: it takes one that waits."""

    def _create_new_trial(
        self, study_id: int, template_trial: FrozenTrial | None = None
    ) -> FrozenTrial:
        if template_trial is None:  # what `study.ask` does if none waits
            raise NoneWaiting
        return super()._create_new_trial(study_id, template_trial)


def default_url(runs: Path) -> str:
    """One SQLite file for all studies below `runs`, so that a dashboard shows them together."""
    return f"sqlite:///{runs.resolve() / 'sweeps/studies.db'}"


def open_storage(url: str, retries: int = 3, heartbeat: int = HEARTBEAT) -> Storage:
    """The storage at a database URL; ValueError, in one sentence, if it cannot be used."""
    arguments: dict[str, Any] = {"pool_pre_ping": True}
    try:
        address = sqlalchemy.engine.make_url(url)
        if address.get_backend_name() == "sqlite":
            if address.database:
                Path(address.database).parent.mkdir(parents=True, exist_ok=True)
            arguments["connect_args"] = {"timeout": SQLITE_WAIT}
        elif address.get_backend_name() == "postgresql":
            arguments["connect_args"] = {"connect_timeout": round(CONNECT_WAIT)}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            storage = Storage(
                url,
                engine_kwargs=arguments,
                heartbeat_interval=heartbeat,
                grace_period=3 * heartbeat,
                heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(
                    max_retry=retries, inherit_intermediate_values=True
                ),
            )
    except (SQLAlchemyError, ImportError, OSError, RuntimeError) as error:
        reason = str(error).split("[SQL")[0].split("(Background")[0]
        raise ValueError(f"the storage {shown(url)} cannot be used: {reason}") from error
    if address.get_backend_name() == "sqlite":
        _lock_before_reading(storage.engine)
    return storage


def _lock_before_reading(engine: sqlalchemy.Engine) -> None:
    """SQLite knows no row locks: take its one lock at the start of a transaction, not at its first
    write, or two workers could both read that a trial waits and both take it."""

    @sqlalchemy.event.listens_for(engine, "connect")
    def leave_transactions_to_us(connection: Any, _: Any) -> None:
        connection.isolation_level = None

    @sqlalchemy.event.listens_for(engine, "begin")
    def begin(connection: sqlalchemy.Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    engine.dispose()  # connections that were made before know nothing of it


def open_study(sweep: Sweep, storage: Storage) -> optuna.Study:
    """The sweep's study, made if it is not there, its budget enlarged if the sweep's is larger.

    ValueError if the name holds a study of another space.
    """
    directions = [StudyDirection[d.upper()] for d in sweep.objectives.values()]
    try:
        study = optuna.create_study(storage=storage, study_name=sweep.name, directions=directions)
    except optuna.exceptions.DuplicatedStudyError:
        study = optuna.load_study(study_name=sweep.name, storage=storage)
        _wait_until_made(study)
        _require_same(study, sweep)
    else:
        study.set_user_attr("fingerprint", sweep.fingerprint())
    study.set_user_attr("definition", sweep.definition())
    before = study.user_attrs.get("budget", 0)
    if sweep.trials > before:
        waiting = optuna.create_trial(state=TrialState.WAITING)
        study.add_trials([waiting] * (sweep.trials - before))
        study.set_user_attr("budget", sweep.trials)
    return study


def load_study(name: str, storage: Storage) -> optuna.Study:
    """A study that is there; ValueError if it is not."""
    try:
        return optuna.load_study(study_name=name, storage=storage)
    except KeyError:
        there = ", ".join(s.study_name for s in optuna.get_all_study_summaries(storage)) or "none"
        raise ValueError(
            f"the storage holds no study {name}, but {there}: `python -m sweeps.run` makes it"
        ) from None


def _wait_until_made(study: optuna.Study) -> None:
    """Until its maker has set the budget, which comes last."""
    end = time.monotonic() + PATIENCE
    while "budget" not in study.user_attrs:
        if time.monotonic() > end:
            raise ValueError(
                f"study {study.study_name} was never made to its end: remove it with `optuna "
                f"delete-study --study-name {study.study_name} --storage URL`"
            )
        time.sleep(0.2)


def _require_same(study: optuna.Study, sweep: Sweep) -> None:
    if study.user_attrs["fingerprint"] == sweep.fingerprint():
        return
    before, now = study.user_attrs["definition"], sweep.comparable()
    differing = [key for key, value in now.items() if before.get(key) != value]
    raise ValueError(
        f"study {sweep.name} was made with different {' and '.join(differing) or 'space'}: its "
        "trials would not compare; give this one another name (name=...)"
    )


# Trials


def slot(trial: FrozenTrial) -> int:
    """The number of a trial in its first attempt: a retry has a number of its own for Optuna."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        first = RetryHeartbeatStaleTrialCallback.retried_trial_number(trial)
    return trial.number if first is None else first


def attempts(study: optuna.Study) -> dict[int, FrozenTrial]:
    """The last attempt of each trial of the budget."""
    return {slot(t): t for t in sorted(study.get_trials(deepcopy=False), key=lambda t: t.number)}


def retry(study: optuna.Study, trial: FrozenTrial) -> None:
    """Let a failed trial wait again; the next attempt continues its folder."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        again = RetryHeartbeatStaleTrialCallback(inherit_intermediate_values=True)
    again(study, trial)


def retry_failed(study: optuna.Study) -> int:
    """Let every failed trial wait again; returns how many."""
    failed = [t for t in attempts(study).values() if t.state == TrialState.FAIL]
    for trial in failed:
        retry(study, trial)
    return len(failed)


def revive(study: optuna.Study, retries: int) -> None:
    """Let those wait again whose worker died, and the worker that noticed it died as well."""
    for trial in attempts(study).values():
        reasonless = trial.state == TrialState.FAIL and trial.user_attrs.get(FAILURE) is None
        if reasonless and len(trial.system_attrs.get("retry_history", [])) < retries:
            retry(study, trial)


def states(study: optuna.Study) -> dict[str, int]:
    """How many trials of the budget are complete, pruned, failed, running, waiting."""
    names = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned",
             TrialState.FAIL: "failed", TrialState.RUNNING: "running",
             TrialState.WAITING: "waiting"}  # fmt: skip
    counts = dict.fromkeys(names.values(), 0)
    for trial in attempts(study).values():
        counts[names[trial.state]] += 1
    return counts


def shown(url: str) -> str:
    """Without its password."""
    try:
        return sqlalchemy.engine.make_url(url).render_as_string(hide_password=True)
    except SQLAlchemyError:
        return url
