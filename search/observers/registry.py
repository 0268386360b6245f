"""The model registry, asked at the door: a name it takes, a server new enough, and a registration rehearsed."""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.observers.mlflow_runs import find_or_create_experiment
from search.observers.questions import TrackingError, ask, explain_refusal
from trainable.retry_queue import IMPATIENCE, is_lost_connection

if TYPE_CHECKING:
    from mlflow import MlflowClient

BAD_CHARACTERS = "/:.%\"'"
"""What MLflow refuses in the name of a logged or a registered model; a control character it would take."""
MAX_NAME_CHARS = 200  # MLflow's databases hold 256; "-images" and the rehearsal's mark are added
MIN_SERVER = (3, 0)
"""MLflow 3.0 brought logged models (`/logged-models`), by which a champion is registered."""
_FIRST_DIGITS = re.compile(r"\d+")
_PATIENCE_S = 10.0


def check_model_name(name: str, *, option: str = "--model-name") -> None:
    """Raise ValueError for a name under which MLflow could not register a model."""
    problem = _find_fault(name)
    if problem:
        raise ValueError(
            f"{option} is {name!r}; {problem}: MLflow cannot register a model under it. {suggest_model_name(name)!r} "
            "would do: --model-name says another"
        )


def suggest_model_name(name: str) -> str:
    """The nearest name that MLflow takes: `lung.v2` becomes `lung-v2`, and what is taken stays as it is."""
    if not _find_fault(name):
        return name
    kept = "".join("-" if char in BAD_CHARACTERS or not char.isprintable() else char for char in name)
    return kept.strip(" -")[:MAX_NAME_CHARS] or "model"


def _find_fault(name: str) -> str:
    if bad := sorted({char for char in name if char in BAD_CHARACTERS or not char.isprintable()}):
        return f"it must not hold {' '.join(char if char.isprintable() else ascii(char) for char in bad)}"
    if not name.strip():
        return "it must not be empty"
    if name != name.strip():
        return "it must not begin or end with a space"
    if len(name) > MAX_NAME_CHARS:
        return f"it has {len(name)} characters and must have at most {MAX_NAME_CHARS}"
    return ""


def check_server_version(uri: str) -> str:
    """The version of the MLflow server at `uri`, "" where it does not say it.

    Raises TrackingError for one that is too old for logged models, and for one that does not answer.
    """
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    def read() -> str:
        answer = http_request(get_default_host_creds(uri), "/version", "GET", raise_on_status=False)
        return answer.text.strip() if answer.status_code == 200 else ""

    version = ask(uri, read, patience_s=_PATIENCE_S)
    numbers = tuple(map(int, _FIRST_DIGITS.findall(version)[:2]))
    if len(numbers) == 2 and len(version) < 40 and numbers < MIN_SERVER:
        raise TrackingError(_too_old(uri, f"is MLflow {version}"))
    return version if len(numbers) == 2 and len(version) < 40 else ""


def _too_old(uri: str, what: str) -> str:
    wanted = ".".join(map(str, MIN_SERVER))
    return (
        f"the tracking server at {uri} {what}; a champion is registered as a logged model, which MLflow {wanted} "
        "brought: upgrade the server, or leave --tracking-uri and MLFLOW_TRACKING_URI out for a server of our own"
    )


def rehearse_registration(uri: str, experiment: str) -> str | None:
    """Register a tiny model under a name of its own and delete it, as the champion's crowning will: some 0.3 s.

    `experiment` is that of the search, made where it is missing. Returns a warning where the server lets nobody delete
    what was registered, else None. Raises TrackingError where the champion could not be registered, naming the step.
    """
    from mlflow import MlflowClient

    client = MlflowClient(uri, registry_uri=uri)
    name = f"ctsearch-rehearsal-{secrets.token_hex(4)}"
    done: dict[str, Any] = {}
    step = ""
    try:
        with IMPATIENCE:
            step = f"find or make the experiment {experiment!r}"
            experiment_id = find_or_create_experiment(client, experiment).experiment_id
            step = "make a logged model"
            done["model"] = logged = client.create_logged_model(experiment_id, name=name)
            step = "store a model's files"
            with tempfile.TemporaryDirectory(prefix="ctsearch-rehearsal-") as folder:
                (Path(folder) / "MLmodel").write_text(json.dumps({"model_id": logged.model_id, "flavors": {}}))
                client.log_model_artifacts(logged.model_id, folder)
            client.finalize_logged_model(logged.model_id, "READY")
            step = "register a model"
            client.create_registered_model(name)
            done["name"] = name
            step = "register a version of a model"
            source, model_id = f"models:/{logged.model_id}", logged.model_id
            created = client.create_model_version(name, source=source, model_id=model_id, await_creation_for=0)
            step = "give a version an alias"
            client.set_registered_model_alias(name, "challenger", str(created.version))
            step = ""
    except TrackingError:
        raise
    except Exception as error:
        raise TrackingError(_explain(uri, step, error)) from error
    finally:
        left = _tidy_up(client, uri, done)
    return f"the registration's rehearsal {name} stays on {uri}: {left}; delete it there" if left else None


def _explain(uri: str, step: str, error: Exception) -> str:
    if is_lost_connection(error):
        return f"MLflow at {uri} went away as it was asked to {step}: {_first_line(str(error))}"
    status = error.get_http_status_code() if hasattr(error, "get_http_status_code") else None
    if status == 404 and step == "make a logged model":
        return _too_old(uri, "knows no logged models")
    return (
        f"MLflow at {uri} does not let a champion be registered: it refused to {step} "
        f"({_first_line(explain_refusal(error))})"
    )


def _tidy_up(client: MlflowClient, uri: str, done: dict[str, Any]) -> str:
    """Delete what the rehearsal made, as far as the server lets it; what went wrong, or nothing."""
    faults = []
    with IMPATIENCE:
        try:
            if "name" in done:
                client.delete_registered_model(done["name"])
            if "model" in done:
                _delete_files(done["model"].artifact_location, uri)
                client.delete_logged_model(done["model"].model_id)
        except Exception as error:  # a model too many is no reason not to search
            faults.append(_first_line(str(error)))
    return "; ".join(faults)


def _delete_files(location: str, uri: str) -> None:
    """Some stores let nobody delete: one small file stays there."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    with contextlib.suppress(Exception):
        get_artifact_repository(location, tracking_uri=uri).delete_artifacts()


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "no reason given")
