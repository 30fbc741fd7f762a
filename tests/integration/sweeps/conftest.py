"""Databases for studies: SQLite, and a PostgreSQL server of Debian's package."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """URL of a PostgreSQL server on the loopback, up to the name of a database."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not programs or not (programs[-1] / "initdb").is_file():
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    home = Path(tempfile.mkdtemp(prefix="postgres-"))
    user = "postgres" if os.geteuid() == 0 else None  # initdb refuses root
    if user:
        shutil.chown(home, user)

    def control(program: str, *arguments: str) -> None:
        command = [str(programs[-1] / program), "-D", str(home / "data"), *arguments]
        subprocess.run(command, user=user, cwd=home, check=True, stdout=subprocess.DEVNULL)

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = f"-h 127.0.0.1 -p {port} -k {home} -c fsync=off"
    try:
        control("initdb", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync")
        control("pg_ctl", "-w", "-t", "120", "-l", str(home / "log"), "-o", options, "start")
        try:
            yield f"postgresql://postgres@127.0.0.1:{port}"
        finally:
            control("pg_ctl", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(home)


@pytest.fixture
def postgresql(server: str) -> Iterator[str]:
    """URL of a database of the test's own."""
    engine = sqlalchemy.create_engine(f"{server}/postgres", isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text("DROP DATABASE IF EXISTS test WITH (FORCE)"))
        connection.execute(sqlalchemy.text("CREATE DATABASE test"))
    engine.dispose()
    return f"{server}/test"


@pytest.fixture
def sqlite(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/studies.db"


@pytest.fixture(params=["sqlite", "postgresql"])
def storage(request: pytest.FixtureRequest) -> str:
    """URL of an empty database, of each kind in turn."""
    return request.getfixturevalue(request.param)
