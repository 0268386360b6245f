"""`ctsearch classify`: image files in, classes and probabilities out, by the champion or any other model."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import track

from mlflow_server.serve import ensure_server
from search.outbox import explain_refusal
from search.services import QUIET_MLFLOW

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from trainable.classify import Classifier

Row = Mapping[str, Any]


def list_files(paths: Sequence[Path]) -> list[Path]:
    """Files as they are given, and all below given folders, sorted, hidden ones left out.

    Raises ValueError for what is not there.
    """
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            files += sorted(file for file in path.rglob("[!.]*") if file.is_file())
        elif path.exists():
            files.append(path)
        else:
            raise ValueError(f"there is no file or folder {path}")
    if not files:
        raise ValueError(f"no file lies in {', '.join(map(str, paths))}")
    return files


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
    """The model that the user means: a folder of a checkpoint, an MLflow URI, a registered name, or the champion."""
    from trainable.classify import load_checkpoint, load_registered

    if model is not None and Path(model).is_dir():
        return load_checkpoint(Path(model))
    for name, value in QUIET_MLFLOW.items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
    if uri is None:
        uri = stack.enter_context(ensure_server(home / "mlflow")).uri
    import mlflow
    from mlflow.exceptions import MlflowException

    stack.callback(mlflow.set_tracking_uri, os.environ.get("MLFLOW_TRACKING_URI"))  # it writes that variable
    mlflow.set_tracking_uri(uri)
    client = mlflow.MlflowClient(uri)
    try:
        if model is None:
            model = find_champion(client)
        elif ":/" not in model:
            model = f"models:/{model}/{client.get_model_version_by_alias(model, 'champion').version}"
        return load_registered(model)
    except MlflowException as error:
        raise ValueError(f"{model} cannot be loaded from {uri}: {explain_refusal(error)}") from error


@contextmanager
def open_csv(file: Path) -> Iterator[Callable[[Row], object]]:
    """A function that adds a row at a time, under the names of the first."""
    with file.open("w", newline="", encoding="utf-8") as table:
        writer = csv.writer(table)
        names: list[str] = []

        def add(row: Row) -> None:
            if not names:
                names.extend(row)
                writer.writerow(names)
            writer.writerow([row[name] for name in names])

        yield add


@contextmanager
def open_json_lines(file: Path) -> Iterator[Callable[[Row], object]]:
    """A function that adds a row at a time, each a JSON object on a line of its own."""
    with file.open("w", encoding="utf-8") as table:
        yield lambda row: table.write(json.dumps(row, ensure_ascii=False) + "\n")


def classify(
    paths: Sequence[Path],
    *,
    model: str | None,
    home: Path,
    tracking_uri: str | None = None,
    csv_file: Path | None = None,
    json_file: Path | None = None,
) -> int:
    """Classify files and folders; the exit status is 1 where some file could not be used.

    Prints a line a file: its class, the probability of that class, and its path. Raises ValueError in the user's words.
    """
    from trainable.classify import classify_files

    files = list_files(paths)
    console = Console()
    with ExitStack() as stack:
        classifier = load(model, home, tracking_uri, stack)
        console.print(f"Model        {classifier.label}", markup=False, highlight=False, soft_wrap=True)
        shown = track(
            classify_files(files, classifier, num_workers=os.cpu_count() or 1),
            "classifying",
            total=len(files),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        tables = [stack.enter_context(open_csv(csv_file))] if csv_file else []
        tables += [stack.enter_context(open_json_lines(json_file))] if json_file else []
        num_bad = 0
        for file, found in shown:
            if isinstance(found, Exception):
                num_bad += 1
                fault = str(found) if str(file) in str(found) else f"{file}: {found}"
                print(f"ctsearch: {fault}", file=sys.stderr)
                continue
            best = int(found.argmax())
            row: Row = {"path": str(file), "class": classifier.classes[best], "probability": float(found[best])}
            console.print(
                f"{row['class']}  {row['probability']:.4f}  {file}", markup=False, highlight=False, soft_wrap=True
            )
            shares = {f"probability_{name}": float(p) for name, p in zip(classifier.classes, found, strict=True)}
            for add in tables:
                add({**row, **shares, "model": classifier.label})
    if num_bad:
        print(f"ctsearch: {num_bad} of {len(files)} files could not be used", file=sys.stderr)
    return 1 if num_bad else 0
