"""Optuna's database, opened for several workers at once: SQLite on one machine, else PostgreSQL."""

import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

HEARTBEAT = 20  # seconds; a worker without one for three of them is taken for dead
SQLITE_WAIT = 120.0  # seconds for which a writer waits for others
CONNECT_WAIT = 10.0  # seconds for a server to answer

warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)  # heartbeats


class Storage(RDBStorage):
    """Optuna's storage, with a heartbeat from the moment in which a worker takes a trial.

    Otherwise a worker that dies before its first heartbeat would never be missed.
    """

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        if state == TrialState.RUNNING:
            self.record_heartbeat(trial_id)
        return super().set_trial_state_values(trial_id, state, values)


def open_storage(
    url: str,
    heartbeat: int = HEARTBEAT,
    on_death: Callable[[optuna.Study, FrozenTrial], None] | None = None,
    must_exist: bool = False,
) -> Storage:
    """Return the storage at a database URL; ValueError, in one sentence, if it cannot be used.

    heartbeat   seconds between heartbeats of a running trial
    on_death    is called with a trial whose worker has sent none for three of them
    must_exist  create no SQLite file where there is none
    """
    arguments: dict[str, Any] = {"pool_pre_ping": True}
    try:
        address = sqlalchemy.engine.make_url(url)
        is_sqlite = address.get_backend_name() == "sqlite"
        if is_sqlite:
            if ":memory:" in (address.database or ":memory:") or "memory" in address.query.values():
                raise ValueError(
                    f"storage={url} names no file: several workers share a study, give "
                    "storage=sqlite:///FILE.db"
                )
            if must_exist and not Path(address.database or "").is_file():
                raise ValueError(f"there is no storage {without_password(url)}: has the sweep run?")
            Path(address.database or "").parent.mkdir(parents=True, exist_ok=True)
            arguments["connect_args"] = {"timeout": SQLITE_WAIT}
        elif address.get_backend_name() == "postgresql":
            arguments["connect_args"] = {"connect_timeout": round(CONNECT_WAIT)}
        about: dict[str, Any] = {"heartbeat_interval": heartbeat, "grace_period": 3 * heartbeat}
        about["heartbeat_stale_trial_callback"] = on_death
        storage = _created(url, engine_kwargs=arguments, **about)
    except (SQLAlchemyError, StorageInternalError, ImportError, OSError, RuntimeError) as error:
        reason = str(error.__cause__ or error).split("[SQL")[0].split("(Background")[0]
        raise ValueError(f"the storage {without_password(url)} cannot be used: {reason}") from error
    if is_sqlite:
        _lock_before_reading(storage.engine)
    return storage


def _created(url: str, **more: Any) -> Storage:
    """Open it, also while other processes create the tables of the same new database."""
    for seconds in (0.2, 0.5, 1.0, 2.0):
        try:
            return Storage(url, **more)
        except SQLAlchemyError as error:
            if not (isinstance(error, IntegrityError) or "already exists" in str(error)):
                raise
            time.sleep(seconds)
    return Storage(url, **more)


def _lock_before_reading(engine: sqlalchemy.Engine) -> None:
    """Take SQLite's lock at the start of each transaction: it has no row locks, and with one at the
    first write two workers could both read that a trial is queued and both take it."""

    @sqlalchemy.event.listens_for(engine, "connect")
    def leave_transactions_to_us(connection: Any, _: Any) -> None:
        connection.isolation_level = None

    @sqlalchemy.event.listens_for(engine, "begin")
    def begin(connection: sqlalchemy.Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    engine.dispose()  # connections from before have no listener


def without_password(url: str) -> str:
    """Return the URL as it may be shown."""
    try:
        return sqlalchemy.engine.make_url(url).render_as_string(hide_password=True)
    except SQLAlchemyError:
        return url
