"""`ctsearch classify` and `ctsearch export`: images to classes, and a model to ONNX; the champion or any other."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import track

from mlflow_server.serve import ensure_server
from search.observers.questions import explain_refusal
from search.observers.surroundings import QUIET_MLFLOW
from trainable.images.faults import show_name, show_text, write_name
from trainable.images.folders import list_folder
from trainable.images.likeness import NOT_CHEST_CT, UNLIKE_TRAINING, Likeness
from trainable.images.windows import format_windows

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from trainable.answers import Answer
    from trainable.classify import Classifier
    from trainable.images.scans import Scan

Row = Mapping[str, Any]

_OVERLAY_SUFFIX = ".cam.png"
_MAX_NAME_BYTES = 255  # of a file's name, on nearly every file system


def list_scans(paths: Sequence[Path]) -> list[Scan]:
    """What lies below given folders, where the slices of a DICOM series are one volume, also in several of them; then
    files as they are given, each an image or a volume. Raises ValueError as `list_files` does."""
    from trainable.images.scans import find_scans, open_scan

    inside = dict.fromkeys(file for path in paths if path.is_dir() for file in list_files([path]))
    files = [file for path in paths if not path.is_dir() for file in list_files([path])]
    return [*find_scans(list(inside), num_workers=os.cpu_count() or 1), *map(open_scan, files)]


def list_files(paths: Sequence[Path]) -> list[Path]:
    """Files as they are given, and all below given folders by the rules of a search: sorted, without hidden files and
    those of the system.

    Links to nowhere and folders that may not be read are listed too, so that each gets its row. Raises ValueError for
    what is not there.
    """
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            files += _walk(path, ())
        elif path.exists() or path.is_symlink():
            files.append(path)
        else:
            raise ValueError(f"there is no file or folder {show_name(path)}")
    if not files:
        raise ValueError(f"no file lies in {', '.join(map(show_name, paths))}")
    return files


def _walk(folder: Path, above: tuple[str, ...]) -> Iterator[Path]:
    """Every file below a folder; a link back to a folder `above` is not followed again."""
    place = os.path.realpath(folder)
    if place in above:
        return
    try:
        folders, files = list_folder(folder, refuse_loops=False)
    except OSError:
        yield folder  # to be read as a file, and refused with the reason
        return
    yield from sorted(files)
    for inner in folders:
        yield from _walk(inner, (*above, place))


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
    from trainable.classify import load_checkpoint, load_registered

    if model is not None and Path(model).exists():
        return load_checkpoint(Path(model))
    uri, registered = find_registered(model, home, tracking_uri, stack)
    from mlflow.exceptions import MlflowException

    try:
        return load_registered(registered)
    except MlflowException as error:
        raise ValueError(f"{registered} cannot be loaded from {uri}: {error.message}") from error


def find_registered(model: str | None, home: Path, tracking_uri: str | None, stack: ExitStack) -> tuple[str, str]:
    """The tracking server's address, made MLflow's current one until `stack` ends, and the URI of the model there."""
    for name, value in QUIET_MLFLOW.items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
    if uri is None:
        uri = stack.enter_context(ensure_server(home / "mlflow")).uri
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


@contextmanager
def open_csv(file: Path) -> Iterator[Callable[[Row], object]]:
    """A function that adds a row at a time, under the names of the first; each is in the file at once."""
    with file.open("w", newline="", encoding="utf-8", buffering=1) as table:
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
    with file.open("w", encoding="utf-8", buffering=1) as table:
        yield lambda row: table.write(json.dumps(row, ensure_ascii=False) + "\n")


def choose_overlay_folder(*tables: Path | None) -> Path:
    """Beside the first table that is written: `found.csv` has `found-explained/`; without any, `explained/` here."""
    table = next((table for table in tables if table), None)
    return table.with_name(f"{table.stem}-explained") if table else Path("explained")


def classify(
    paths: Sequence[Path],
    *,
    model: str | None,
    home: Path,
    tracking_uri: str | None = None,
    csv_file: Path | None = None,
    json_file: Path | None = None,
    explain: bool = False,
    per_slice: bool = False,
) -> int:
    """Classify files and folders; the exit status is 1 where some file could not be used.

    Every file gets a row in the tables, one that cannot be used with the reason: no file ends the run. A volume has one
    row, the mean of its slices, or with `per_slice` one for each of them. Prints a line a
    file: its class, the probability of that class, and its path; of a picture that is unlike what the
    model was trained on, that it may be no chest CT, and why. With `explain`, a Grad-CAM overlay of each is written.
    Raises ValueError in the user's words.
    """
    from trainable.answers import classify_scans
    from trainable.classify import build_explainer

    scans = list_scans(paths)
    console = Console()
    say = partial(console.print, markup=False, highlight=False, soft_wrap=True)
    overlays = choose_overlay_folder(csv_file, json_file) if explain else None
    with ExitStack() as stack:
        classifier = load(model, home, tracking_uri, stack)
        say(f"Model        {classifier.label}")
        if classifier.likeness is None:
            say("Note         this model does not know its training's slices: no picture is called no chest CT")
        found = classify_scans(
            scans,
            classifier,
            num_workers=os.cpu_count() or 1,
            explainer=build_explainer(classifier) if explain else None,
            per_slice=per_slice,
        )
        total = None if per_slice else len(scans)
        shown = track(
            found, "classifying", total=total, console=console, transient=True, disable=not console.is_terminal
        )
        tables = [stack.enter_context(open_csv(csv_file))] if csv_file else []
        tables += [stack.enter_context(open_json_lines(json_file))] if json_file else []
        num_rows = num_bad = num_doubted = 0
        # A slice's overlay lies in its volume's place, which for a series is the folder that it is in.
        common = Path(os.path.commonpath([scan.path.absolute().parent for scan in scans]))
        for file, answer in shown:
            num_rows += 1
            if isinstance(answer, Exception):
                num_bad += 1
                row = describe_bad(file, answer, classifier)
                print(f"ctsearch: {show_text(row['error'])}", file=sys.stderr)
            else:
                num_doubted += bool(answer.doubt)
                row = describe(file, answer, classifier)
                begin = row["class"] if answer.doubt else f"{row['class']}  {row['probability']:.4f}"
                say(f"{begin}  {show_name(file)}{f': {answer.doubt}' if answer.doubt else ''}")
            if overlays is not None:
                row["explanation"] = None
                if not isinstance(answer, Exception):
                    folder = overlays / file.absolute().parent.relative_to(common)
                    row["explanation"] = write_overlay(folder, file, answer, row)
            for add in tables:
                add(row)
        if overlays is not None and num_bad + num_doubted < num_rows:
            say(f"Explained    {overlays}/")
    if num_doubted:
        say(f"Doubted      {num_doubted} of {num_rows} files {name_doubts(classifier.likeness)}")
    if num_bad:
        print(f"ctsearch: {num_bad} of {num_rows} files could not be used", file=sys.stderr)
    return 1 if num_bad else 0


def export_onnx(file: Path, *, model: str | None, home: Path, tracking_uri: str | None = None) -> None:
    """Write a model as ONNX and say how near to torch it is. Raises ValueError in the user's words."""
    from trainable.normalisation import pixel_shape
    from trainable.to_onnx import write_onnx

    with ExitStack() as stack:
        classifier = load(model, home, tracking_uri, stack)
        difference = write_onnx(classifier, file)
    size, classes = classifier.image_size, ", ".join(classifier.classes)
    shape = ", ".join(map(str, ("N", *pixel_shape(size, classifier.form.num_channels))))
    for line in (
        f"Model        {classifier.label}",
        f"Written      {file}, {file.stat().st_size / 1e6:.1f} MB, at most {difference:.0e} from torch",
        f"Input        pixels, uint8 ({shape}): {describe_pixels(classifier)}, squeezed to {size} x {size}",
        f"Output       probabilities, float32 (N, {len(classifier.classes)}): {classes}",
    ):
        print(line)


def describe_pixels(classifier: Classifier) -> str:
    """What the channels of a model's input are."""
    form = classifier.form
    if form.colour:
        return "red, green and blue"
    windows = format_windows(form.windows)
    return "grey pictures" if form.num_channels == 1 else f"the windows {windows} of {1 + 2 * form.neighbours} slices"


def describe(file: Path, answer: Answer, classifier: Classifier) -> dict[str, Any]:
    """A row of the tables. A picture that is doubted has no class and no probability of one; every share is kept."""
    best = int(classifier.call(answer.probabilities[None])[0])
    return {
        "path": write_name(file),
        "class": name_doubt(classifier.likeness) if answer.doubt else classifier.classes[best],
        "probability": None if answer.doubt else float(answer.probabilities[best]),
        "doubt": answer.doubt,
        **{f"probability_{name}": float(p) for name, p in zip(classifier.classes, answer.probabilities, strict=True)},
        "slices": answer.num_slices,
        "model": classifier.label,
        "error": "",
    }


def name_doubt(likeness: Likeness | None) -> str:
    """What an image is called that is doubted: by what the model was trained on."""
    return NOT_CHEST_CT if likeness is None else likeness.verdict


def name_doubts(likeness: Likeness | None) -> str:
    """The same of several images, as a sentence goes on."""
    return "may be no chest CT" if name_doubt(likeness) == NOT_CHEST_CT else f"seem {UNLIKE_TRAINING}"


def describe_bad(file: Path, error: Exception, classifier: Classifier) -> dict[str, Any]:
    """A row of the tables for a file that cannot be used: no class, no probabilities, and the reason."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    name = show_name(file)
    return {
        "path": write_name(file),
        "class": "",
        "probability": None,
        "doubt": "",
        **dict.fromkeys((f"probability_{name}" for name in classifier.classes), None),
        "slices": None,
        "model": classifier.label,
        "error": reason if name in reason else f"{name}: {reason}",
    }


def write_overlay(folder: Path, file: Path, answer: Answer, row: Row) -> str | None:
    """Write the overlay of one picture; its path, or None for a picture that is doubted: its answer means nothing.

    None too, with a line, where it cannot be written: the classes of other files are worth more than one overlay.
    """
    from trainable.explain import draw_overlay

    if answer.doubt or answer.picture is None or answer.heat is None:
        return None
    path = folder / name_overlay(file.name)
    what = "what spoke for it" if answer.heat.any() else "Grad-CAM finds no place that spoke for it"
    overlay = draw_overlay(answer.picture, answer.heat, f"{row['class']} {row['probability']:.2f}: {what}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        overlay.save(path)
    except OSError as error:
        print(f"ctsearch: no explanation of {show_name(file)} is written: {error}", file=sys.stderr)
        return None
    return write_name(path)


def name_overlay(name: str) -> str:
    """`NAME.cam.png`; of a name too long for that, its beginning and a hash of all of it."""
    if len(os.fsencode(name)) + len(_OVERLAY_SUFFIX) <= _MAX_NAME_BYTES:
        return f"{name}{_OVERLAY_SUFFIX}"
    digest = hashlib.sha256(os.fsencode(name)).hexdigest()[:12]
    begin = os.fsencode(name)[: _MAX_NAME_BYTES - len(_OVERLAY_SUFFIX) - len(digest) - 1]
    return f"{begin.decode('utf-8', 'ignore')}-{digest}{_OVERLAY_SUFFIX}"
