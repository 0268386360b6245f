"""`ctsearch ui`: the MLflow UI of this home; what dead searches could not send to it is sent first."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow_server.serve import serve_ui
from mlflow_server.stores import check_home
from search.core.extension import read_recorded_config
from search.core.folder import SearchFolder, list_searches, reopen_search

if TYPE_CHECKING:
    from search.core.ledger import Ledger


def show_ui(home: Path, port: int | None = None) -> None:
    """Keep the UI up until Ctrl-C or SIGTERM."""
    check_home(home)
    serve_ui(home / "mlflow", port, on_ready=partial(send_all_spools, home))


def send_all_spools(home: Path, uri: str) -> None:
    """Send the spools of every search of this home that logs to the home's own server and is not running."""
    for name in list_searches(home):
        try:
            folder = reopen_search(home, name)
        except ValueError:  # it runs, and sends them itself
            continue
        try:
            if folder.list_spools():
                _send(folder, uri)
        except (ValueError, OSError, KeyError) as error:
            print(f"what the search {name} could not send to MLflow stays where it is: {error}", flush=True)
        finally:
            folder.release()


def _send(folder: SearchFolder, uri: str) -> None:
    from search.observers.tracking import Tracking

    record = folder.read_record()
    config = read_recorded_config(folder)
    if config.tracking_uri is not None or "parent_run_id" not in record:
        return
    tracking = Tracking.view(uri, folder.name, record["parent_run_id"], metric=f"val_{config.metric}")
    tracking.send_spools(folder.list_spools(), _read_trials(folder).entries)
    if tracking.flush():
        print(f"{folder.name}: epochs that had not reached MLflow are sent", flush=True)


def _read_trials(folder: SearchFolder) -> Ledger:
    from search.core.ledger import Ledger
    from search.engine.study_file import read_study

    ledger = Ledger()
    read_study(folder.journal_file, ledger)
    return ledger
