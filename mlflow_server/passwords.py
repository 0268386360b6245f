"""Who may use a team's server: the administrator's generated password, and those of the users."""

from __future__ import annotations

import configparser
import json
import os
import re
import secrets
import urllib.error
import urllib.request
import warnings
from base64 import b64encode
from contextlib import chdir, contextmanager
from typing import TYPE_CHECKING

from mlflow_server.files import write_whole

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

ADMIN = "admin"
CACHE_S = 300  # a login is checked against its slow hash this often, not at every call: 8 ms a call instead of 200
_USER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")


def generate_password() -> str:
    """24 characters, 144 bits; none that a shell or a URI would take amiss."""
    return secrets.token_urlsafe(18)


def password_file(folder: Path) -> Path:
    return folder / "admin_password"


def read_admin_password(folder: Path) -> str:
    """Raises ValueError where the server of this folder has no passwords, or they are not ours to read."""
    try:
        return password_file(folder).read_text().strip()
    except FileNotFoundError:
        raise ValueError(f"no server with --auth has run in {folder}: {password_file(folder)} is missing") from None
    except PermissionError:
        raise ValueError(f"{password_file(folder)} belongs to the user who runs the server; be that user") from None


def prepare_logins(folder: Path, backend: str) -> tuple[dict[str, str], str | None]:
    """The environment in which `mlflow server --app-name basic-auth` runs in `folder`, and a password just made.

    The administrator's password is made where its file is missing: at the first start, or because somebody lost it
    and deleted the file. Users and their hashes are kept in the database at `backend`, beside the runs.
    """
    fresh = None
    if not password_file(folder).exists():
        fresh = generate_password()
        _reset_admin(folder, backend, fresh)
        write_whole(password_file(folder), fresh + "\n", mode=0o600)
    settings = configparser.ConfigParser(interpolation=None)
    settings["mlflow"] = {
        "default_permission": "EDIT",  # a team logs into one experiment; only its owner and the admin delete
        "database_uri": backend.replace("%", "%%"),  # MLflow reads it with interpolation
        "admin_username": ADMIN,
        "authorization_function": "mlflow.server.auth:authenticate_request_basic_auth",
        "auth_cache_ttl_seconds": str(CACHE_S),
    }
    config = folder / "basic_auth.ini"
    with config.open("w") as file:
        settings.write(file)
    environment = {
        "MLFLOW_AUTH_CONFIG_PATH": str(config),
        "MLFLOW_AUTH_ADMIN_PASSWORD": read_admin_password(folder),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(32),  # signs forms only, for one run of one worker
    }
    return environment, fresh


def _reset_admin(folder: Path, backend: str, password: str) -> None:
    """Where the database knows an administrator already (another folder, a restored backup), set the new password."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what MLflow's server imports
        from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore

    with chdir(folder):  # a SQLite URI is relative to it
        store = SqlAlchemyStore()
        store.init_db(backend)
        if store.has_user(ADMIN):
            store.update_user(ADMIN, password=password)
        store.engine.dispose()


@contextmanager
def logged_in(variables: Mapping[str, str]) -> Iterator[None]:
    """MLflow's client finds its login in the environment, and nowhere else."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def admin_login(folder: Path) -> dict[str, str]:
    """The variables of MLflow's client; none for a server without passwords."""
    if not password_file(folder).exists():
        return {}
    return {"MLFLOW_TRACKING_USERNAME": ADMIN, "MLFLOW_TRACKING_PASSWORD": read_admin_password(folder)}


def set_user(folder: Path, uri: str, name: str) -> str:
    """Make a user of the running server at `uri`, or give a known one a new password; it is shown only here."""
    if name == ADMIN or not _USER_NAME.fullmatch(name):
        raise ValueError(
            f"the user's name is {name!r}; it must be letters, digits, '.', '_', '@' or '-', and not {ADMIN!r} (delete "
            f"{password_file(folder)} and start the server again for another one of {ADMIN})"
        )
    user = {"username": name, "password": generate_password()}
    if _call(folder, uri, "POST", "create", user) == "RESOURCE_ALREADY_EXISTS":
        _call(folder, uri, "PATCH", "update-password", user)
    return user["password"]


def remove_user(folder: Path, uri: str, name: str) -> None:
    """From now on the server at `uri` refuses this user. What the user logged stays."""
    if name == ADMIN:
        raise ValueError(f"{ADMIN!r} cannot be removed: the server is administered by it")
    _call(folder, uri, "DELETE", "delete", {"username": name})


def _call(folder: Path, uri: str, method: str, action: str, user: Mapping[str, str]) -> str | None:
    """MLflow's REST interface of users, as the administrator; gives RESOURCE_ALREADY_EXISTS where it answers that."""
    login = b64encode(f"{ADMIN}:{read_admin_password(folder)}".encode()).decode()
    headers = {"Authorization": f"Basic {login}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"{uri}/api/2.0/mlflow/users/{action}", json.dumps(user).encode(), headers)
    request.method = method
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # the server is on this machine
    try:
        with opener.open(request, timeout=30):
            return None
    except urllib.error.HTTPError as error:
        with error:
            text = error.read().decode(errors="replace")
    if '"RESOURCE_ALREADY_EXISTS"' in text:
        return "RESOURCE_ALREADY_EXISTS"
    raise ValueError(f"the server at {uri} refused: {text}")
