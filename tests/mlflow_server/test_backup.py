"""Backup, restore and upgrade: both kinds of both stores, real ones, one of them while its server runs."""

from __future__ import annotations

import json
import shutil
import stat
from pathlib import Path

import pytest
from mlflow import MlflowClient

from mlflow_server.backup import back_up, check_backup, restore, upgrade
from mlflow_server.database import read_revision
from mlflow_server.locks import alone_in
from mlflow_server.serve import ServerHandle
from mlflow_server.stores import SQLITE, Stores, local_artifacts
from tests.conftest import FinishedSearch
from tests.mlflow_server.conftest import TeamServer, make_bucket, server_command, team_server
from tests.postgres import DATABASE_PASSWORD, Postgres

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader")  # MLflow 3.17's own models under SQLAlchemy 2.1


def local_stores(folder: Path) -> Stores:
    return Stores(folder=folder, backend=SQLITE, artifacts=local_artifacts(folder))


def make_older(stores: Stores) -> str:
    """A database as an older MLflow left it: by its own migrations, one short of the newest. Gives its revision."""
    from alembic import command
    from alembic.script import ScriptDirectory
    from mlflow.store.db.utils import _get_alembic_config
    from mlflow.store.tracking.dbmodels.initial_models import Base

    stores.folder.mkdir(parents=True, exist_ok=True)
    engine = stores.connect()
    Base.metadata.create_all(engine)
    config = _get_alembic_config(engine.url.render_as_string(hide_password=False))
    script = ScriptDirectory.from_config(config)
    newest = script.get_revision("head")
    assert newest is not None and isinstance(newest.down_revision, str)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, newest.down_revision)
    engine.dispose()
    return newest.down_revision


def test_a_running_embedded_server_is_backed_up_and_restored_elsewhere(
    finished_search: FinishedSearch, mlflow_server: ServerHandle, tmp_path: Path
) -> None:
    output = back_up(local_stores(mlflow_server.folder), tmp_path / "backup")
    assert "runs and" in output and str(tmp_path / "backup") in output
    assert stat.S_IMODE((tmp_path / "backup").stat().st_mode) == 0o700
    copy = local_stores(tmp_path / "elsewhere of ü %20" / "mlflow")
    restore(copy, tmp_path / "backup")
    original = local_stores(mlflow_server.folder)
    assert copy.list_files() == original.list_files() != {}
    assert read_revision(copy) == read_revision(original)
    shutil.copy(copy.sqlite_file, tmp_path / "plain.db")
    client = MlflowClient(f"sqlite:///{tmp_path / 'plain.db'}")
    for run in finished_search.children:
        assert client.get_run(run.info.run_id).data.to_dictionary() == run.data.to_dictionary()
    assert client.get_model_version_by_alias("finished-model", "champion").version
    with pytest.raises(ValueError, match="holds tables"):
        restore(copy, tmp_path / "backup")


def test_postgresql_and_s3_are_backed_up_and_a_server_on_the_restored_ones_has_everything(
    team: TeamServer, postgres: Postgres, s3: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in team.login("admin", team.admin_password).items():
        monkeypatch.setenv(name, value)
    client = MlflowClient(team.uri)
    run = client.create_run("0", run_name="before the loss")
    client.log_metric(run.info.run_id, "val_auc", 0.75)
    client.log_text(run.info.run_id, "from S3", "notes/deep/text of ü.txt")

    output = server_command("backup", str(tmp_path / "b"), "--artifacts", team.artifacts, environment=team.environment)
    assert output.startswith("Backup       ") and "MB, in" in output, output
    assert (tmp_path / "b/database.dump").exists()
    make_bucket("restored", s3)
    backend = postgres.make_database("restored")
    environment = s3 | {"MLFLOW_BACKEND_STORE_URI": postgres.with_password(backend)}
    places = ("--home", str(tmp_path / "new"), "--artifacts", "s3://restored/mlflow")
    output = server_command("restore", str(tmp_path / "b"), *places, environment=environment)
    assert output.startswith("Restored     "), output
    again = server_command("restore", str(tmp_path / "b"), *places, environment=environment)
    assert "holds tables" in again and "(status 2)" in again
    with team_server(
        tmp_path / "new", backend=backend, artifacts="s3://restored/mlflow", environment=environment
    ) as server:
        assert server.admin_password != team.admin_password, "a new folder has a new password, and it works:"
        for name, value in server.login("admin", server.admin_password).items():
            monkeypatch.setenv(name, value)
        found = MlflowClient(server.uri).get_run(run.info.run_id)
        assert found.data.metrics == {"val_auc": 0.75}
        path = MlflowClient(server.uri).download_artifacts(run.info.run_id, "notes/deep/text of ü.txt", str(tmp_path))
        assert Path(path).read_text() == "from S3"


def test_a_damaged_backup_and_a_folder_in_use_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    stores = local_stores(tmp_path / "mlflow")
    make_older(stores)
    (stores.folder / "artifacts/1/run").mkdir(parents=True)
    (stores.folder / "artifacts/1/run/file").write_text("as it was")
    back_up(stores, tmp_path / "backup")
    with pytest.raises(ValueError, match="exists; a backup goes into a new folder"):
        back_up(stores, tmp_path / "backup")
    with alone_in(stores.folder):  # as a running server does
        for attempt in (lambda: upgrade(stores), lambda: restore(stores, tmp_path / "backup")):
            with pytest.raises(ValueError, match="an MLflow server runs in"):
                attempt()
    empty = local_stores(tmp_path / "empty")
    (tmp_path / "backup/artifacts/1/run/file").write_text("as it is")
    with pytest.raises(ValueError, match=r"damaged.*artifacts/1/run/file"):
        restore(empty, tmp_path / "backup")
    (tmp_path / "backup/artifacts/1/run/file").unlink()
    with pytest.raises(ValueError, match="does not hold what its"):
        restore(empty, tmp_path / "backup")
    with pytest.raises(ValueError, match="is no backup"):
        restore(empty, tmp_path)
    assert not empty.sqlite_file.exists() and not empty.list_files()


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_an_older_schema_is_upgraded_after_a_backup_of_it(
    kind: str, postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores, environment = local_stores(tmp_path / "mlflow"), {}
    if kind == "postgresql":
        monkeypatch.setenv("PGPASSWORD", "")
        backend = postgres.make_database("older")
        environment = {"MLFLOW_BACKEND_STORE_URI": postgres.with_password(backend)}
        monkeypatch.setenv("PGPASSWORD", DATABASE_PASSWORD)
        uri = backend.replace("postgresql", "postgresql+psycopg2", 1)
        stores = Stores(folder=tmp_path / "mlflow", backend=uri, artifacts=stores.artifacts)
    older = make_older(stores)
    if kind == "postgresql":
        engine = stores.connect()
        with engine.connect():
            output = server_command("upgrade", "--home", str(tmp_path), environment=environment)
            assert "1 other connections; end the server" in output
        engine.dispose()
    output = server_command("upgrade", "--home", str(tmp_path), environment=environment)
    assert output.startswith("Backup       the database alone") and f"the schema {older} is now" in output, output
    assert read_revision(stores) != older
    (saved,) = (tmp_path / "mlflow/backups").iterdir()
    record = check_backup(saved)
    assert (record["database"], record["with_artifacts"]) == (kind, False)
    assert json.loads((saved / "backup.json").read_text())["rows"]["alembic_version"] == 1


@pytest.mark.parametrize("record", ["", "{", "[]", "{}", '{"files": [], "rows": {}}', "[" * 100_000])
def test_a_folder_whose_record_is_none_is_no_backup(record: str, tmp_path: Path) -> None:
    (tmp_path / "backup.json").write_text(record)
    with pytest.raises(ValueError, match=r"is no backup: backup.json cannot be read") as caught:
        check_backup(tmp_path)
    assert str(tmp_path) in str(caught.value)
