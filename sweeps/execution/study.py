"""A sweep's study in Optuna's storage: made once, with all its trials, for any number of workers.

The budget belongs to the study. All its trials are created with it, waiting, and a worker can only
take one of them: however many workers come and go, none runs one too many. What a dead worker
leaves is noticed by its missing heartbeat and waits again, for whoever is there.

`Storage` reaches into Optuna's own tables, which constraints.txt pins: tests/sweeps/test_study.py
tells whether another version still works so.
"""

import json
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.storages._rdb import models
from optuna.storages._rdb.storage import _create_scoped_session
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.orm import Session

from sweeps.definition.sweep import Sweep

HEARTBEAT = 20  # seconds; a worker silent for three of them is taken for dead
SQLITE_WAIT = 120.0  # seconds for which a writer waits for others
CONNECT_WAIT = 10.0  # seconds for a server to answer
FAILURE = "failure"  # the user attribute that says why a trial failed
GIVEN_BACK = "given_back"  # the one that counts attempts that were told to end
HISTORY = "retry_history"  # Optuna's attribute of a retry: the attempts before it


STATES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}


class NoneWaiting(Exception):
    """No trial waits for a worker."""


class Storage(RDBStorage):
    """Optuna's storage, in which asking for a trial makes none: it takes one that waits.

    What several processes do at the same time is done once.
    """

    def _create_new_trial(
        self, study_id: int, template_trial: FrozenTrial | None = None
    ) -> FrozenTrial:
        if template_trial is None:  # what `study.ask` does if none waits
            raise NoneWaiting
        return super()._create_new_trial(study_id, template_trial)

    def _get_prepared_new_trial(
        self, study_id: int, template_trial: FrozenTrial | None, session: Session
    ) -> models.TrialModel:
        """The study is locked here: a retry that is there already is not made again."""
        assert template_trial is not None
        history = template_trial.system_attrs.get(HISTORY)
        if history is not None:
            for trial, text in self._retries(study_id, session):
                if json.loads(text) == history:
                    return trial
        return super()._get_prepared_new_trial(study_id, template_trial, session)

    def enlarge(self, study_id: int, budget: int) -> None:
        """Let trials wait until the study has `budget`, not counting retries; all or none."""
        template = optuna.create_trial(state=TrialState.WAITING)
        with _create_scoped_session(self.scoped_session) as session:
            models.StudyModel.find_or_raise_by_id(study_id, session, for_update=True)
            trials = session.query(models.TrialModel).filter_by(study_id=study_id).count()
            for _ in range(budget - trials + self._retries(study_id, session).count()):
                self._get_prepared_new_trial(study_id, template, session)

    def _retries(self, study_id: int, session: Session) -> Any:
        attributes = models.TrialSystemAttributeModel
        query = session.query(models.TrialModel, attributes.value_json).join(attributes)
        return query.filter(models.TrialModel.study_id == study_id, attributes.key == HISTORY)

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        if state == TrialState.RUNNING:  # else a worker that dies before its first is never missed
            self.record_heartbeat(trial_id)
        return super().set_trial_state_values(trial_id, state, values)


def default_url(runs: Path) -> str:
    """One SQLite file for all studies below `runs`, so that a dashboard shows them together."""
    return f"sqlite:///{runs.resolve() / 'sweeps/studies.db'}"


def open_storage(
    url: str, retries: int = 3, heartbeat: int = HEARTBEAT, must_exist: bool = False
) -> Storage:
    """The storage at a database URL; ValueError, in one sentence, if it cannot be used.

    must_exist  make no SQLite file where there is none
    """
    arguments: dict[str, Any] = {"pool_pre_ping": True}
    try:
        address = sqlalchemy.engine.make_url(url)
        if address.get_backend_name() == "sqlite":
            if must_exist and not Path(address.database or "").is_file():
                raise ValueError(f"there is no storage {shown(url)}: has the sweep run?")
            if address.database:
                Path(address.database).parent.mkdir(parents=True, exist_ok=True)
            arguments["connect_args"] = {"timeout": SQLITE_WAIT}
        elif address.get_backend_name() == "postgresql":
            arguments["connect_args"] = {"connect_timeout": round(CONNECT_WAIT)}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            storage = _when_made(
                url,
                engine_kwargs=arguments,
                heartbeat_interval=heartbeat,
                grace_period=3 * heartbeat,
                heartbeat_stale_trial_callback=Retry(retries),
            )
    except (SQLAlchemyError, ImportError, OSError, RuntimeError) as error:
        reason = str(error).split("[SQL")[0].split("(Background")[0]
        raise ValueError(f"the storage {shown(url)} cannot be used: {reason}") from error
    if address.get_backend_name() == "sqlite":
        _lock_before_reading(storage.engine)
    return storage


def _when_made(url: str, **more: Any) -> Storage:
    """The storage, also if others make the tables of a new database at the same moment."""
    for seconds in (0.2, 0.5, 1.0, 2.0):
        try:
            return Storage(url, **more)
        except SQLAlchemyError as error:
            if not (isinstance(error, IntegrityError) or "already exists" in str(error)):
                raise
            time.sleep(seconds)
    return Storage(url, **more)


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

    ValueError if the name holds a study of another space, or of other networks.
    """
    study = optuna.create_study(
        storage=storage,
        study_name=sweep.name,
        directions=[StudyDirection[d.upper()] for d in sweep.objectives.values()],
        load_if_exists=True,
    )
    _require_same(study, sweep)
    study.set_user_attr("definition", sweep.definition())
    study.set_user_attr("fingerprint", sweep.fingerprint())
    study.set_user_attr("networks", sweep.digests())
    storage.enlarge(study._study_id, sweep.trials)
    study.set_user_attr("budget", len(attempts(study)))
    return study


def load_study(name: str, storage: Storage) -> optuna.Study:
    """A study that is there; ValueError if it is not."""
    try:
        return optuna.load_study(study_name=name, storage=storage)
    except KeyError:
        there = ", ".join(s.study_name for s in optuna.get_all_study_summaries(storage)) or "none"
        raise ValueError(
            f"the storage holds no study {name}, but {there}: `surfdiff sweep run` makes it"
        ) from None


def _require_same(study: optuna.Study, sweep: Sweep) -> None:
    digests = sweep.digests()
    for name, begun_with in study.user_attrs.get("networks", {}).items():
        if digests.get(name, begun_with) != begun_with:
            raise ValueError(
                f"study {sweep.name} began with another {name} network than is in "
                f"{sweep.models[name]} now: its trials would not compare; give this study another "
                "name (name=...)"
            )
    if study.user_attrs.get("fingerprint", sweep.fingerprint()) == sweep.fingerprint():
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


class Retry(RetryHeartbeatStaleTrialCallback):
    """Let a trial wait again whose worker died, up to `retries` times; an attempt that was given
    back is no death."""

    def __init__(self, retries: int) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            super().__init__(inherit_intermediate_values=True)
        self.retries = retries

    def __call__(self, study: optuna.Study, trial: FrozenTrial) -> None:
        attempts = len(trial.system_attrs.get(HISTORY, [])) + 1
        if attempts - trial.user_attrs.get(GIVEN_BACK, 0) <= self.retries:
            super().__call__(study, trial)


def retry(study: optuna.Study, trial: FrozenTrial) -> None:
    """Let a failed trial wait again, however often; the next attempt continues its folder."""
    Retry(sys.maxsize)(study, trial)


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
        if reasonless:
            Retry(retries)(study, trial)


def states(study: optuna.Study) -> dict[str, int]:
    """How many trials of the budget are complete, pruned, failed, running, waiting."""
    counts = dict.fromkeys(STATES.values(), 0)
    for trial in attempts(study).values():
        counts[STATES[trial.state]] += 1
    return counts


def shown(url: str) -> str:
    """Without its password."""
    try:
        return sqlalchemy.engine.make_url(url).render_as_string(hide_password=True)
    except SQLAlchemyError:
        return url
