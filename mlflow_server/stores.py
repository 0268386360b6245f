"""The two stores of a server, the database and the artifacts: where they are, and how each is reached."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Engine

SQLITE = "sqlite:///mlflow.db"
"""In the server's folder, which is its working directory: a path may hold what a URI may not."""

_DRIVER = "postgresql+psycopg2"  # SQLAlchemy's own choice changes with its version


def local_artifacts(folder: Path) -> str:
    return (folder / "artifacts").as_uri()


@dataclass(frozen=True, kw_only=True)
class Stores:
    """`backend` is SQLITE or a PostgreSQL URI without a password (libpq finds that in PGPASSWORD or PGPASSFILE),
    `artifacts` a `file://` or `s3://` URI. `folder` is the server's own."""

    folder: Path
    backend: str
    artifacts: str

    @property
    def is_sqlite(self) -> bool:
        return self.backend == SQLITE

    @property
    def libpq_uri(self) -> str:
        """The PostgreSQL database as its own programs call it."""
        return self.backend.replace(_DRIVER, "postgresql", 1)

    @property
    def sqlite_file(self) -> Path:
        return self.folder / "mlflow.db"

    def connect(self) -> Engine:
        """The caller disposes of it. Raises ValueError where a driver is missing."""
        from sqlalchemy import URL, create_engine, make_url
        from sqlalchemy.pool import NullPool

        url = URL.create("sqlite", database=str(self.sqlite_file)) if self.is_sqlite else make_url(self.backend)
        try:
            return create_engine(url, poolclass=NullPool)
        except ImportError as error:
            raise ValueError(f"{error}; install what a team's server needs: pip install 'ctsearch[server]'") from error

    def artifact_repository(self) -> Any:
        """MLflow's own access to the artifacts, by whatever settings its server uses."""
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        if self.artifacts.startswith("s3://"):
            try:
                import boto3  # noqa: F401
            except ImportError as error:
                raise ValueError(f"{error}; s3:// needs it: pip install 'ctsearch[server]'") from error
        return get_artifact_repository(self.artifacts)

    def list_files(self, folder: str | None = None) -> dict[str, int]:
        """The bytes of every file among the artifacts, or in one folder of them, by its path from their root."""
        repository = self.artifact_repository()
        found: dict[str, int] = {}
        waiting = [folder]
        while waiting:
            for entry in repository.list_artifacts(waiting.pop()):
                if entry.is_dir:
                    waiting.append(entry.path)
                else:
                    found[entry.path] = int(entry.file_size)
        return found

    def describe(self) -> str:
        return f"{self.describe_database()} and {self.artifacts}"

    def describe_database(self) -> str:
        return str(self.sqlite_file) if self.is_sqlite else self.libpq_uri


def check_home(home: Path) -> None:
    """Raise ValueError where there can be no folder `home`: it, or what should be a folder above it, is a file."""
    there = next(place for place in (home, *home.parents) if place.exists())
    if not there.is_dir():
        raise ValueError(f"--home is {home}; {there} is a file, and a folder must be there: choose another")


def open_stores(home: Path, backend: str | None, artifacts: str | None) -> Stores:
    """The stores that a user means; unless given here or by MLflow's own variables they are in `home`/mlflow.

    A password within the URI of MLFLOW_BACKEND_STORE_URI moves to PGPASSWORD, where the programs of PostgreSQL
    look for it too. Raises ValueError for what is no store, and for a password on the command line.
    """
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    folder = home.expanduser().absolute() / "mlflow"
    uri = backend if backend is not None else os.environ.get("MLFLOW_BACKEND_STORE_URI") or SQLITE
    if uri != SQLITE:
        try:
            url = make_url(uri)
        except (ArgumentError, ValueError):
            url = None
        if url is None or url.get_backend_name() != "postgresql" or not url.database:
            raise ValueError(
                f"--backend is no URI of a PostgreSQL database ({uri.partition(':')[0]}:...); it must be "
                "postgresql://USER@HOST/DATABASE, or be left out for SQLite in --home"
            )
        if url.password is not None:
            if backend:
                raise ValueError(
                    "--backend holds a password, which every user of this machine can read there; give it by "
                    "PGPASSWORD or PGPASSFILE, or the whole URI by MLFLOW_BACKEND_STORE_URI"
                )
            os.environ["PGPASSWORD"] = url.password
        uri = url.set(drivername=_DRIVER, password=None).render_as_string(hide_password=False)
    usual = os.environ.get("MLFLOW_ARTIFACTS_DESTINATION") or local_artifacts(folder)
    place = artifacts if artifacts is not None else usual
    return Stores(folder=folder, backend=uri, artifacts=_check_artifacts(place))


def _check_artifacts(place: str) -> str:
    if not place.strip():
        raise ValueError("--artifacts is empty; it must be s3://BUCKET/FOLDER or a local folder, or be left out")
    if place.startswith("s3://"):
        if not place.removeprefix("s3://").strip("/"):
            raise ValueError("--artifacts is s3:// without a bucket; it must be s3://BUCKET or s3://BUCKET/FOLDER")
        return place.rstrip("/")
    if re.match("[a-z][a-z0-9+.-]*:", place) and not place.startswith("file://"):
        raise ValueError(f"--artifacts is {place!r}; it must be s3://BUCKET/FOLDER or a local folder")
    return place if place.startswith("file://") else Path(place).expanduser().absolute().as_uri()


def list_names(names: Sequence[str], most: int = 5) -> str:
    """For a line in the terminal: the first few, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
