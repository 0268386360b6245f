"""Debian's PostgreSQL, for as long as a test needs it."""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from tests import needs

DATABASE_PASSWORD = "p@ss/w%rd 'of' the:database"


@dataclass(frozen=True, kw_only=True)
class Postgres:
    """A cluster on a port of 127.0.0.1; its superuser needs DATABASE_PASSWORD."""

    folder: Path
    port: int
    user: str
    restart: Callable[[], object]
    """Every connection is cut off."""

    def make_database(self, name: str) -> str:
        """An empty database; its URI without the password."""
        command = ["createdb", f"--host={self.folder}", f"--port={self.port}", f"--username={self.user}", name]
        subprocess.run(command, check=True, env=os.environ | {"PGPASSWORD": DATABASE_PASSWORD})
        return f"postgresql://{self.user}@127.0.0.1:{self.port}/{name}"

    def with_password(self, uri: str) -> str:
        return uri.replace(f"{self.user}@", f"{self.user}:{quote(DATABASE_PASSWORD, safe='')}@")


def run_here(*command: str) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


@contextmanager
def start_postgres(port: int, run: Callable[..., object] = run_here) -> Iterator[Postgres]:
    """In a temporary folder, as a user who is not root: it refuses to run as one. `run` starts and ends it."""
    programs = needs.postgres()
    folder = Path(tempfile.mkdtemp(prefix="ctsearch-pg-"))
    user = "nobody" if os.getuid() == 0 else getpass.getuser()
    as_user = ["runuser", "-u", user, "--", "env", f"--chdir={folder}"] if os.getuid() == 0 else []
    (folder / "password").write_text(DATABASE_PASSWORD)
    if as_user:
        for path in (folder, folder / "password"):
            shutil.chown(path, user)
    data = folder / "data"
    initdb = ["--no-sync", "--auth=scram-sha-256", "--username=mlflow", f"--pwfile={folder / 'password'}"]
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off -c shared_buffers=16MB"
    pg_ctl = [*as_user, str(programs / "pg_ctl"), "--pgdata", str(data), "--wait"]
    run_here(*as_user, str(programs / "initdb"), "--pgdata", str(data), *initdb)
    run(*pg_ctl, "--log", str(folder / "log"), "--options", options, "start")
    try:
        yield Postgres(
            folder=folder,
            port=port,
            user="mlflow",
            restart=lambda: run(*pg_ctl, "--mode=immediate", "--log", str(folder / "log"), "restart"),
        )
    finally:
        run(*pg_ctl, "--mode=immediate", "stop")
        shutil.rmtree(folder)
