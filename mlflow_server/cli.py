"""`ctsearch server COMMAND`, and `python -m mlflow_server.cli COMMAND` where only MLflow is installed."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow_server.environment import without_proxy_for_loopback
from mlflow_server.mlflow_process import read_port
from mlflow_server.stores import check_home

if TYPE_CHECKING:
    from collections.abc import Sequence

EXAMPLES = """examples:
  ctsearch server start                                    SQLite and local files, for this machine
  ctsearch server start --auth --backend postgresql://mlflow@db/mlflow --artifacts s3://bucket/mlflow
  ctsearch server start --auth --allowed-hosts mlflow.example.org      behind a reverse proxy (nginx.conf)
  ctsearch server user ana                                 make a user, or give a new password
  ctsearch server backup /backups/2026-11-21
  ctsearch server clean --older-than 90                    says what it would delete

--backend and --artifacts are MLFLOW_BACKEND_STORE_URI and MLFLOW_ARTIFACTS_DESTINATION unless given; S3 keys,
AWS_ENDPOINT_URL for a server that is not Amazon's, and PGPASSWORD or PGPASSFILE come from the environment.
"""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ctsearch server",
        description="The MLflow tracking server of ctsearch, of one machine or of a team.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    stores = argparse.ArgumentParser(add_help=False)
    stores.add_argument("--home", type=Path, help="its files are in HOME/mlflow (default: $CTSEARCH_HOME, ~/.ctsearch)")
    stores.add_argument("--backend", metavar="URI", help="postgresql://USER@HOST/DATABASE (default: SQLite in --home)")
    stores.add_argument("--artifacts", metavar="URI", help="s3://BUCKET/FOLDER, or a folder (default: in --home)")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    start = commands.add_parser("start", parents=[stores], help="serve until Ctrl-C or SIGTERM")
    start.add_argument("--port", type=read_port, help="default: 5000 (without other options: or any free one)")
    start.add_argument("--auth", action="store_true", help="only for users with a password; see `user`")
    start.add_argument("--host", help="address to listen on (default: 127.0.0.1); any other needs --auth")
    start.add_argument("--allowed-hosts", metavar="A,B", help="names by which users reach it, such as the proxy's")

    user = commands.add_parser("user", help="make a user of the running server, or give a new password: shown once")
    user.add_argument("name")
    user.add_argument("--remove", action="store_true", help="refuse this user from now on")
    user.add_argument("--home", type=Path, help="as for `start`")

    backup = commands.add_parser("backup", parents=[stores], help="copy database and artifacts, also while it runs")
    backup.add_argument("folder", type=Path, help="a new folder")
    restore = commands.add_parser("restore", parents=[stores], help="fill an empty database and empty artifacts")
    restore.add_argument("folder", type=Path, help="made by `backup`")
    commands.add_parser("upgrade", parents=[stores], help="after a new MLflow: back the database up, then upgrade it")
    clean = commands.add_parser("clean", parents=[stores], help="delete old searches; says first what, and asks --yes")
    clean.add_argument("--older-than", type=float, default=90.0, metavar="DAYS", help="ended so long ago (default: 90)")
    clean.add_argument("--yes", action="store_true", help="delete; registered models and their runs always stay")
    return parser


def run(args: argparse.Namespace) -> int:
    """Raises ValueError or OSError in the user's words."""
    home = args.home or Path(os.environ.get("CTSEARCH_HOME") or Path.home() / ".ctsearch")
    try:
        folder = home.expanduser().absolute() / "mlflow"
    except RuntimeError as error:
        raise ValueError(f"--home is {home}; this machine does not know that user's home") from error
    check_home(folder.parent)
    if args.command == "user":
        return _change_user(folder, args.name, remove=args.remove)
    if args.command == "start" and not _is_for_team(args):
        from mlflow_server.serve import serve_ui

        serve_ui(folder, args.port)
        return 0
    from mlflow_server.stores import open_stores

    stores = open_stores(home, args.backend, args.artifacts)
    if args.command == "start":
        from mlflow_server.team import serve_team

        names = [name.strip() for name in (args.allowed_hosts or "").split(",") if name.strip()]
        host = "127.0.0.1" if args.host is None else args.host
        return serve_team(stores, auth=args.auth, host=host, port=args.port, allowed_hosts=names)
    if args.command == "clean":
        from mlflow_server.clean import clean

        clean(stores, older_than_days=args.older_than, really=args.yes)
        return 0
    from mlflow_server.backup import back_up, restore, upgrade

    if args.command == "backup":
        print(f"Backup       {back_up(stores, args.folder)}")
    elif args.command == "restore":
        print(f"Restored     {restore(stores, args.folder)}")
    else:
        print(f"Upgrade      {upgrade(stores)}")
    return 0


def _is_for_team(args: argparse.Namespace) -> bool:
    stores = (args.backend, args.artifacts, args.host, args.allowed_hosts)
    asked = args.auth or any(given is not None for given in stores)
    return bool(asked or os.environ.get("MLFLOW_BACKEND_STORE_URI") or os.environ.get("MLFLOW_ARTIFACTS_DESTINATION"))


def _change_user(folder: Path, name: str, *, remove: bool) -> int:
    from mlflow_server.passwords import remove_user, set_user
    from mlflow_server.running import find_running

    if (uri := find_running(folder)) is None:
        raise ValueError(f"no server runs in {folder}; start it with --auth, or give its --home")
    if remove:
        remove_user(folder, uri, name)
        print(f"{name} is removed")
    else:
        print(f"User {name}, password {set_user(folder, uri, name)}")
        print("(shown once; searches take them as MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD)")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.update(without_proxy_for_loopback(os.environ))
    try:
        return run(build_parser().parse_args(arguments))
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        if not isinstance(error, ValueError | OSError) and not _is_of_a_store(error):
            raise
        print(f"ctsearch: {error}", file=sys.stderr)
        return 2


def _is_of_a_store(error: Exception) -> bool:
    """Whether MLflow, the database or S3 said no, in words of their own; looked up without importing them."""
    libraries = {base.__module__.partition(".")[0] for base in type(error).__mro__}
    return bool(libraries & {"mlflow", "sqlalchemy", "botocore"})


if __name__ == "__main__":
    sys.exit(main())
