"""The model that is meant: the champion, a registered name, an MLflow URI or a checkpoint."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from search.observers.questions import explain_refusal
from search.observers.surroundings import use_tracking

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from trainable.classifier import Classifier


def find_champion(client: MlflowClient) -> str:
    """The URI of the champion that was crowned last, among all models of this registry."""
    champions = []
    for model in client.search_registered_models():
        version = model.aliases.get("champion")
        if version is not None and not model.name.endswith("-images"):
            created = client.get_model_version(model.name, str(version)).creation_timestamp
            champions.append((created, f"models:/{model.name}/{version}"))
    if not champions:
        raise ValueError("no model is champion yet: run a search first, or give --model URI or a checkpoint folder")
    return max(champions)[1]


def load(model: str | None, home: Path, tracking_uri: str | None, stack: ExitStack) -> Classifier:
    """The model that is meant: a checkpoint's folder or file, an MLflow URI, a registered name, or the champion."""
    from trainable.classifier import load_checkpoint, load_registered

    if model is not None and not model.strip():
        raise ValueError("--model is empty; leave it out for the champion")
    if model is not None and Path(model).exists():
        return load_checkpoint(Path(model))
    if model is not None and "/" in model and ":/" not in model:  # no registered name holds one
        raise ValueError(f"--model is {model!r}; there is no such checkpoint: it must be searches/NAME/trials/NUMBER")
    uri, registered = find_registered(model, home, tracking_uri, stack)
    from mlflow.exceptions import MlflowException

    try:
        return load_registered(registered)
    except MlflowException as error:
        raise ValueError(f"{registered} cannot be loaded from {uri}: {error.message}") from error


def find_registered(model: str | None, home: Path, tracking_uri: str | None, stack: ExitStack) -> tuple[str, str]:
    """The tracking server's address, made MLflow's current one until `stack` ends, and the URI of the model there."""
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    uri = stack.enter_context(use_tracking(tracking_uri, home / "mlflow"))
    import mlflow  # its settings are in the environment now
    from mlflow.exceptions import MlflowException

    stack.callback(mlflow.set_tracking_uri, os.environ.get("MLFLOW_TRACKING_URI"))  # it writes that variable
    mlflow.set_tracking_uri(uri)
    client = mlflow.MlflowClient(uri)
    try:
        if model is None:
            return uri, find_champion(client)
        if ":/" not in model:
            return uri, f"models:/{model}/{client.get_model_version_by_alias(model, 'champion').version}"
        return uri, model
    except MlflowException as error:
        raise ValueError(f"{model} cannot be loaded from {uri}: {explain_refusal(error)}") from error
