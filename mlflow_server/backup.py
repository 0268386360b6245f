"""Backup, restore and schema upgrade of a server: both stores in one folder, checked against its own table."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from mlflow_server.database import count_rows, dump_database, fill_database, read_revision, require_unused
from mlflow_server.locks import alone_in
from mlflow_server.stores import list_names

if TYPE_CHECKING:
    from pathlib import Path

    from mlflow_server.stores import Stores

RECORD = "backup.json"
FIELDS = {"made": str, "database": str, "with_artifacts": bool, "rows": dict, "files": dict}


def back_up(stores: Stores, folder: Path, *, with_artifacts: bool = True) -> str:
    """Copy both stores into a new folder, also while the server runs; a line for the terminal.

    The database comes first: what it names has then been stored before, so that the copy of the artifacts holds it.
    `backup.json` gets the rows of every table, and size and SHA-256 of every file. The folder is the owner's alone,
    since the database holds the hashes of passwords; it has its name only once it is whole. Raises ValueError.
    """
    folder = folder.expanduser().absolute()
    if folder.exists():
        raise ValueError(f"{folder} exists; a backup goes into a new folder")
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True, mode=0o700)
    try:
        record = _fill_backup(stores, part, with_artifacts=with_artifacts)
        part.replace(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    rows, files = record["rows"], record["files"]
    size = sum(num_bytes for num_bytes, _ in files.values())
    what = f"{rows.get('runs', 0)} runs and {sum(name.startswith('artifacts/') for name in files)} files"
    return f"{what if with_artifacts else 'the database alone'}, {size / 1e6:.1f} MB, in {folder}"


def _fill_backup(stores: Stores, folder: Path, *, with_artifacts: bool) -> dict[str, Any]:
    """Both stores, and the record of what they hold, which is returned."""
    rows = dump_database(stores, folder / _database_name(stores))
    if with_artifacts:
        (folder / "artifacts").mkdir()
        _download_artifacts(stores, folder / "artifacts")
    files = {path.relative_to(folder).as_posix(): _digest(path) for path in sorted(folder.rglob("*")) if path.is_file()}
    record = {
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "mlflow": importlib.metadata.version("mlflow"),
        "database": "sqlite" if stores.is_sqlite else "postgresql",
        "with_artifacts": with_artifacts,
        "rows": rows,
        "files": files,
    }
    (folder / RECORD).write_text(json.dumps(record, indent=1) + "\n")
    return record


def restore(stores: Stores, folder: Path) -> str:
    """Fill empty stores from a backup and compare what is in them then; a line for the terminal.

    Nothing is written before the whole backup has been checked, and nothing that is there is replaced. Raises
    ValueError for a damaged backup and for stores that are not empty.
    """
    folder = folder.expanduser().absolute()
    record = check_backup(folder)
    kind = "sqlite" if stores.is_sqlite else "postgresql"
    if record["database"] != kind:
        raise ValueError(
            f"the backup is of {record['database']}, --backend is {kind}; a backup goes back into its kind"
        )
    with alone_in(stores.folder):
        if tables := sorted(count_rows(stores)):
            raise ValueError(
                f"{stores.describe_database()} holds tables ({list_names(tables)}); a "
                "backup goes into an empty database: take another --home, or make a new database by `createdb`"
            )
        if record["with_artifacts"]:
            if found := stores.list_files():
                raise ValueError(f"{stores.artifacts} holds files ({list_names(sorted(found))}); it must be empty")
            if (folder / "artifacts").exists():
                stores.artifact_repository().log_artifacts(str(folder / "artifacts"))
            prefix = "artifacts/"
            wanted = {n.removeprefix(prefix): size for n, (size, _) in record["files"].items() if n.startswith(prefix)}
            if (found := stores.list_files()) != wanted:
                odd = sorted({name for name in {**found, **wanted} if found.get(name) != wanted.get(name)})
                raise ValueError(f"these files did not arrive whole in {stores.artifacts}: {list_names(odd)}")
        fill_database(stores, folder / _database_name(stores))
        if (rows := count_rows(stores)) != record["rows"]:
            odd = sorted({name for name in {**rows, **record["rows"]} if rows.get(name) != record["rows"].get(name)})
            raise ValueError(f"these tables did not arrive whole: {list_names(odd)}")
    num_files = sum(name.startswith("artifacts/") for name in record["files"])
    return f"{rows.get('runs', 0)} runs and {num_files} files, of {record['made']}, in {stores.describe()}"


def upgrade(stores: Stores, backup_folder: Path | None = None) -> str:
    """Bring the database to this MLflow's schema, after a backup of it; a line for the terminal.

    Raises ValueError while a server runs, and where MLflow fails: the database is then to be restored.
    """
    with alone_in(stores.folder):
        require_unused(stores)
        if (before := read_revision(stores)) is None:
            raise ValueError(f"{stores.describe_database()} holds nothing of MLflow: there is nothing to upgrade")
        now = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
        backup_folder = (backup_folder or stores.folder / "backups" / f"before-upgrade-{now}").expanduser().absolute()
        saved = back_up(stores, backup_folder, with_artifacts=False)
        print(f"Backup       {saved}", flush=True)
        done = subprocess.run(
            [sys.executable, "-m", "mlflow", "db", "upgrade", stores.backend],
            cwd=stores.folder,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise ValueError(
                f"MLflow could not upgrade {stores.describe()}; the database of before is in {backup_folder}, "
                f"`ctsearch server restore` puts it into an empty one:\n{done.stderr.strip()[-2000:]}"
            )
        after = read_revision(stores)
    return (
        f"the schema was {before}, which is this MLflow's" if before == after else f"the schema {before} is now {after}"
    )


def check_backup(folder: Path) -> dict[str, Any]:
    """The record of a backup that is whole. Raises ValueError where it is not."""
    try:
        record: dict[str, Any] = json.loads((folder / RECORD).read_text())
        if not isinstance(record, dict) or not all(isinstance(record.get(name), kind) for name, kind in FIELDS.items()):
            raise ValueError(f"it must have {', '.join(FIELDS)}")
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{folder} is no backup: {RECORD} cannot be read ({error})") from error
    there = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    del there[RECORD]
    if odd := sorted(set(there) ^ set(record["files"])):
        raise ValueError(f"{folder} does not hold what its {RECORD} lists: {list_names(odd)}")
    if damaged := [name for name, facts in record["files"].items() if list(_digest(there[name])) != facts]:
        raise ValueError(f"damaged in {folder}: {list_names(damaged)}; take another backup")
    return record


def _database_name(stores: Stores) -> str:
    return "database.sqlite" if stores.is_sqlite else "database.dump"


def _digest(path: Path) -> tuple[int, str]:
    """Size and SHA-256."""
    with path.open("rb") as file:
        return path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()


def _download_artifacts(stores: Stores, folder: Path) -> None:
    """MLflow's own download: many files at once, and no name leads out of the folder."""
    repository = stores.artifact_repository()
    if repository.list_artifacts():
        repository.download_artifacts("", str(folder))
