"""The database of a server, SQLite or PostgreSQL: copied into a file, filled from one, and asked what is in it."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sqlite3
import subprocess
from contextlib import closing
from typing import TYPE_CHECKING

from mlflow_server.mlflow_process import ServerError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from sqlalchemy import Connection

    from mlflow_server.stores import Stores

_TABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def dump_database(stores: Stores, file: Path) -> dict[str, int]:
    """Copy it as it is at one moment, also while a server writes; the number of rows by table at that moment.

    SQLite by its own backup interface, PostgreSQL by `pg_dump`. Raises ValueError where that cannot be done.
    """
    if stores.is_sqlite:
        if not stores.sqlite_file.exists():
            raise ValueError(
                f"there is no {stores.sqlite_file}; give the --home of the server, or its --backend (or "
                "MLFLOW_BACKEND_STORE_URI)"
            )
        source = sqlite3.connect(f"{stores.sqlite_file.as_uri()}?mode=ro", uri=True)
        with closing(source), closing(sqlite3.connect(file)) as copy:
            source.backup(copy)
            tables = [
                name
                for (name,) in copy.execute(
                    "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
                )
            ]
            return {name: copy.execute(_count(name)).fetchone()[0] for name in tables if _TABLE.fullmatch(name)}
    from sqlalchemy import inspect, text

    with _connected(stores) as connection:
        connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
        snapshot = connection.execute(text("SELECT pg_export_snapshot()")).scalar_one()
        rows = _count_rows(connection, inspect(connection).get_table_names())
        _run(["pg_dump", "--format=custom", f"--snapshot={snapshot}", f"--file={file}", f"--dbname={stores.libpq_uri}"])
    return rows


def fill_database(stores: Stores, file: Path) -> None:
    """The other way round, into a database without tables (`require_empty`), whole or not at all."""
    if stores.is_sqlite:
        aside = stores.sqlite_file.with_name("mlflow.db.part")
        shutil.copyfile(file, aside)
        aside.chmod(0o600)
        aside.replace(stores.sqlite_file)
        return
    _run(
        [
            *("pg_restore", "--no-owner", "--no-privileges", "--exit-on-error", "--single-transaction"),
            *(f"--dbname={stores.libpq_uri}", str(file)),
        ]
    )


def require_sound(file: Path, *, wholly: bool = False) -> None:
    """Raise ServerError for a SQLite file that is damaged; one that is not there is no matter.

    By its header and its schema, which costs nothing, or `wholly`, which reads all of it.
    """
    if not file.exists() or not file.stat().st_size:
        return
    query = "PRAGMA quick_check(1)" if wholly else "SELECT count(*) FROM sqlite_master"
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as database:
            found = database.execute(query).fetchone()[0]
    except sqlite3.OperationalError:  # somebody writes, or it cannot be read: the server says which
        return
    except sqlite3.DatabaseError as error:
        found = str(error)
    if isinstance(found, int) or found == "ok":
        return
    place = shlex.quote(str(file))
    raise ServerError(
        f"{file} is damaged ({found.splitlines()[0]}): end what uses it, then restore a backup (`ctsearch server "
        f"restore`), or take it away (mv {place} {shlex.quote(f'{file}.damaged')}); a search that goes on then makes "
        "its runs anew from its own record"
    )


def count_rows(stores: Stores) -> dict[str, int]:
    """Rows by table; empty for a database without tables, or a SQLite file that is not there."""
    from sqlalchemy import inspect

    if stores.is_sqlite and not stores.sqlite_file.exists():
        return {}
    with _connected(stores) as connection:
        return _count_rows(connection, inspect(connection).get_table_names())


def read_revision(stores: Stores) -> str | None:
    """The revision of MLflow's schema; None where there is none yet."""
    from sqlalchemy import inspect, text

    if stores.is_sqlite and not stores.sqlite_file.exists():
        return None
    with _connected(stores) as connection:
        if not inspect(connection).has_table("alembic_version"):
            return None
        return str(connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one())


def find_binned_models(stores: Stores) -> dict[str, str]:
    """Logged models that were deleted in MLflow and not yet for good, which its interface does not list: their places
    by their ids."""
    from sqlalchemy import text

    query = "SELECT model_id, artifact_location FROM logged_models WHERE lifecycle_stage = 'deleted'"
    with _connected(stores) as connection:
        return {str(model_id): str(place) for model_id, place in connection.execute(text(query))}


def require_unused(stores: Stores) -> None:
    """Raise ValueError while others are connected to a PostgreSQL database: a running server, most likely."""
    from sqlalchemy import text

    if stores.is_sqlite:
        return  # `alone_in` knows
    others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    with _connected(stores) as connection:
        if number := connection.execute(text(others)).scalar_one():
            raise ValueError(f"{stores.libpq_uri} has {number} other connections; end the server that uses it first")


def _connected(stores: Stores) -> Connection:
    from sqlalchemy.exc import OperationalError

    try:
        return stores.connect().connect()
    except OperationalError as error:
        raise ValueError(f"{stores.describe_database()} cannot be reached: {str(error.orig).strip()}") from error


def _count_rows(connection: Connection, tables: Sequence[str]) -> dict[str, int]:
    from sqlalchemy import text

    names = [name for name in tables if _TABLE.fullmatch(name)]
    return {name: int(connection.execute(text(_count(name))).scalar_one()) for name in names}


def _count(table: str) -> str:
    return f'SELECT count(*) FROM "{table}"'


def _run(command: list[str]) -> None:
    """A program of PostgreSQL; it finds the password in PGPASSWORD or PGPASSFILE, as our own connection does."""
    if shutil.which(command[0]) is None:
        raise ValueError(f"{command[0]} is not here; install PostgreSQL's client (Debian: postgresql-client)")
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PGCONNECT_TIMEOUT": "10"})
    if done.returncode:
        raise ValueError(f"{command[0]} failed: {done.stderr.strip()}")
