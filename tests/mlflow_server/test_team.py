from __future__ import annotations

import argparse
import stat
import urllib.error
import urllib.request
from base64 import b64encode
from pathlib import Path

import pytest

from mlflow_server.cli import build_parser, main
from search.cli import main as ctsearch
from tests.mlflow_server.conftest import TeamServer, free_port, server_command, team_server
from tests.postgres import DATABASE_PASSWORD, Postgres
from tests.processes import command_lines


def ask(uri: str, path: str, *, login: str | None = None, host: str | None = None, **headers: str) -> tuple[int, str]:
    """Status and text of an answer to a GET, or a POST where an Origin is given."""
    if login is not None:
        headers["Authorization"] = "Basic " + b64encode(login.encode()).decode()
    if host is not None:
        headers["Host"] = host
    body = b'{"experiment_ids": ["0"]}' if "Origin" in headers else None
    request = urllib.request.Request(uri + path, body, headers | {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read().decode(errors="replace")
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(errors="replace")


STORES = {"--home", "--backend", "--artifacts"}
OPTIONS = {
    "start": {*STORES, "--port", "--auth", "--host", "--allowed-hosts"},
    "user": {"--home", "--remove"},
    "backup": STORES,
    "restore": STORES,
    "upgrade": STORES,
    "clean": {*STORES, "--older-than", "--yes"},
}
SEARCH = "/api/2.0/mlflow/runs/search"
EXPERIMENT = "/api/2.0/mlflow/experiments/get?experiment_id=0"


def test_a_stranger_a_wrong_password_and_a_foreign_host_header_are_refused(team: TeamServer) -> None:
    right = f"admin:{team.admin_password}"
    assert ask(team.uri, EXPERIMENT, login=right)[0] == 200
    status, text = ask(team.uri, EXPERIMENT)
    assert (status, "not authenticated" in text) == (401, True)
    assert ask(team.uri, EXPERIMENT, login="admin:wrong")[0] == 401
    assert ask(team.uri, EXPERIMENT, login=right, host="mlflow.example.org")[0] == 200
    status, text = ask(team.uri, EXPERIMENT, login=right, host="evil.example.com")
    assert (status, "Invalid Host" in text) == (403, True)


def test_a_browser_may_change_things_from_the_servers_own_pages_only(team: TeamServer) -> None:
    right = f"admin:{team.admin_password}"
    assert ask(team.uri, SEARCH, login=right, Origin="https://mlflow.example.org")[0] == 200
    assert ask(team.uri, SEARCH, login=right, Origin="https://evil.example.com")[0] == 403


def test_passwords_are_reported_once_and_kept_for_their_owner_alone(team: TeamServer) -> None:
    assert stat.S_IMODE((team.folder / "admin_password").stat().st_mode) == 0o600
    assert team.output.read_text().count(team.admin_password) == 1
    config = (team.folder / "basic_auth.ini").read_text()
    secrets = (DATABASE_PASSWORD, "secret-of-s3", team.environment["MLFLOW_BACKEND_STORE_URI"])
    for secret in secrets:
        assert secret not in team.output.read_text() + config + (team.folder / "server.json").read_text()
    assert team.admin_password not in config
    lines = command_lines()
    assert any("mlflow" in line for line in lines), "the server's own is among them"
    assert not any(secret in line for line in lines for secret in (*secrets, team.admin_password))


def test_users_are_made_given_new_passwords_and_removed(team: TeamServer) -> None:
    def user(*arguments: str) -> str:
        return server_command("user", *arguments, "--home", str(team.home), environment={})

    first = user("bob").split()[3]
    assert ask(team.uri, EXPERIMENT, login=f"bob:{first}")[0] == 200
    second = user("bob").split()[3]
    assert ask(team.uri, EXPERIMENT, login=f"bob:{first}")[0] == 401, "at once, though logins are cached"
    assert ask(team.uri, EXPERIMENT, login=f"bob:{second}")[0] == 200
    assert "bob is removed" in user("bob", "--remove")
    assert ask(team.uri, EXPERIMENT, login=f"bob:{second}")[0] == 401
    assert "must be letters" in user("a b")
    assert "cannot be removed" in user("admin", "--remove")


def test_the_commands_have_these_options_and_no_others() -> None:
    commands = next(a for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction))
    found = {
        name: {text for action in command._actions for text in action.option_strings} - {"-h", "--help"}
        for name, command in commands.choices.items()
    }
    assert found == OPTIONS


def test_ctsearch_has_the_commands_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ctsearch(["server", "user", "ana", "--home", str(tmp_path)]) == 2
    assert "no server runs in" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        ctsearch(["--help"])
    assert "a tracking server for a team" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--host", "0.0.0.0"), "add --auth"),
        (("--host", "10.1.2.3"), "add --auth"),
        (("--host", "127.0.0.1.example.org"), "add --auth"),
        (("--allowed-hosts", "mlflow.example.org"), "needs --auth"),
        (("--host", "0.0.0.0", "--auth"), "--allowed-hosts mlflow.example.org"),
        (("--host", "0.0.0.0", "--auth", "--allowed-hosts", "*"), "plain name"),
        (("--backend", "postgresql://u:secret@h/d"), "PGPASSWORD"),
        (("--backend", "mysql://u@h/d"), "postgresql://USER@HOST/DATABASE"),
        (("--backend", "nonsense"), "postgresql://USER@HOST/DATABASE"),
        (("--backend", ""), "postgresql://USER@HOST/DATABASE"),
        (("--artifacts", ""), "--artifacts is empty"),
        (("--host", ""), "--host is empty"),
        (("--artifacts", "s3://"), "BUCKET"),
        (("--artifacts", "gs://bucket"), "s3://BUCKET"),
    ],
)
def test_what_would_be_open_or_wrong_is_refused_with_the_way_out(
    arguments: tuple[str, ...],
    words: str,
    tmp_path_factory: pytest.TempPathFactory,
    capsys: pytest.CaptureFixture[str],
) -> None:
    home = tmp_path_factory.mktemp("refused")
    assert main(["start", "--home", str(home), *arguments]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert "secret" not in said


def test_stores_that_cannot_be_reached_are_named_before_anything_starts(
    postgres: Postgres, s3: dict[str, str], tmp_path: Path
) -> None:
    start = ("start", "--auth", "--home", str(tmp_path), "--port", str(free_port()))
    backend = postgres.with_password(postgres.make_database("reached"))
    for uri, words in (
        (backend.replace("/reached", "/missing"), 'database "missing" does not exist'),
        (backend.replace("mlflow:", "mlflow:x"), "password authentication failed"),
    ):
        shown = server_command(*start, environment=s3 | {"MLFLOW_BACKEND_STORE_URI": uri})
        assert words in shown and "(status 2)" in shown, shown
        assert DATABASE_PASSWORD not in shown and "Traceback" not in shown
    given = s3 | {"MLFLOW_BACKEND_STORE_URI": backend}
    shown = server_command(*start, "--artifacts", "s3://no-such-bucket/mlflow", environment=given)
    assert "bucket does not exist" in shown and "Traceback" not in shown, shown
    assert not (tmp_path / "mlflow" / "admin_password").exists()


def test_passwords_work_on_sqlite_and_local_files_as_well(tmp_path: Path) -> None:
    artifacts = str(tmp_path / "elsewhere")
    with team_server(tmp_path / "home", backend="", artifacts=artifacts, environment={}) as server:
        assert ask(server.uri, EXPERIMENT)[0] == 401
        assert ask(server.uri, EXPERIMENT, login=f"admin:{server.admin_password}")[0] == 200
        assert stat.S_IMODE((server.folder / "mlflow.db").stat().st_mode) == 0o600
        shown = server_command("start", "--auth", "--home", str(server.home), environment={})
        assert "an MLflow server runs in" in shown and "(status 2)" in shown
