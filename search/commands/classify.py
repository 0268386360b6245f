"""`ctsearch classify`: images to classes, by the champion or any other model."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import track

from search.commands.answer_tables import describe, describe_bad, name_doubts, open_csv, open_json_lines
from search.commands.chosen_model import load
from search.commands.inputs import PER_VOLUME, Per, list_patients, list_scans
from search.commands.overlays import choose_overlay_folder, write_overlay
from trainable.files import check_target
from trainable.images.faults import show_name, show_text

if TYPE_CHECKING:
    from trainable.answers import Answered
    from trainable.classifier import Classifier
    from trainable.images.scan_patients import ScansOfPatients
    from trainable.images.scans import Scan


def classify(
    paths: Sequence[Path],
    *,
    model: str | None,
    home: Path,
    tracking_uri: str | None = None,
    csv_file: Path | None = None,
    json_file: Path | None = None,
    explain: bool = False,
    per: Per = PER_VOLUME,
) -> int:
    """Classify files and folders; the exit status is 1 where some file could not be used.

    Every file gets a row in the tables, one that cannot be used with the reason: no file ends the run. A volume has one
    row, the model's verdict on its slices, unless `per` says otherwise. Prints a line a row: its class, the probability
    of that class, and its path; of an image that is unlike what the model was trained on, that it may be no chest CT,
    and why. With `explain`, a Grad-CAM overlay of each is written. Raises ValueError in the user's words.
    """
    check_tables(paths, csv_file, json_file)
    if per.unit == "patient" and explain:
        raise ValueError("--explain shows what spoke for one slice; take --per volume or --per slice with it")
    notes: list[str] = []
    if per.unit == "patient":
        found: ScansOfPatients | list[Scan] = list_patients(paths, notes, patient_from=per.patient_from)
    else:
        found = list_scans(paths, notes)
    console = Console()
    say = partial(console.print, markup=False, highlight=False, soft_wrap=True)
    overlays = choose_overlay_folder(csv_file, json_file) if explain else None
    with ExitStack() as stack:
        classifier = load(model, home, tracking_uri, stack)
        say(f"Model        {classifier.label}")
        if classifier.likeness is None:
            say("Note         this model does not know its training's slices: no image is called no chest CT")
        for line in dict.fromkeys(notes):
            say(f"Left out     {show_text(line)}")
        for line in [] if isinstance(found, list) else found.lines:
            say(f"Patients     {line}")
        shown = track(
            answer_all(found, classifier, per_slice=per.unit == "slice", explain=explain),
            "classifying",
            total=len(found) if isinstance(found, list) and per.unit == "volume" else None,
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        tables = [stack.enter_context(open_csv(csv_file))] if csv_file else []
        tables += [stack.enter_context(open_json_lines(json_file))] if json_file else []
        num_rows = num_bad = num_doubted = 0
        # A slice's overlay lies in its volume's place, which for a series is the folder that it is in.
        common = find_common([scan.path for scan in found] if isinstance(found, list) else [])
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


def check_tables(paths: Sequence[Path], csv_file: Path | None, json_file: Path | None) -> None:
    """Raise ValueError where a table cannot be written, or would be over the other, or over what is classified."""
    taken = {path.absolute(): "is to be classified" for path in paths}
    for option, file in (("--csv", csv_file), ("--json", json_file)):
        if file is None:
            continue
        if (use := taken.get(file.absolute())) is not None:
            raise ValueError(f"{option} is {file}, which {use}: the table would be written over it; give another file")
        check_target(file, option)
        taken[file.absolute()] = f"is the table of {option} too"


def answer_all(
    found: list[Scan] | ScansOfPatients, classifier: Classifier, *, per_slice: bool, explain: bool
) -> Iterator[Answered]:
    """The answers on scans, or on patients."""
    from trainable.answers import classify_patients, classify_scans
    from trainable.classifier import build_explainer

    num_workers = os.cpu_count() or 1
    if not isinstance(found, list):
        return classify_patients(found.patients, classifier, num_workers=num_workers)
    explainer = build_explainer(classifier) if explain else None
    return classify_scans(found, classifier, num_workers=num_workers, explainer=explainer, per_slice=per_slice)


def find_common(paths: Sequence[Path]) -> Path:
    """The deepest folder in which all of them lie."""
    return Path(os.path.commonpath([path.absolute().parent for path in paths])) if paths else Path()
