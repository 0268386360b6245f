"""Answers as rows of a table, as CSV or JSON lines: a class, its probability, and what speaks against it."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainable.images.faults import show_name, write_name
from trainable.images.likeness import NOT_CHEST_CT, UNLIKE_TRAINING, Likeness

if TYPE_CHECKING:
    from trainable.answers import Answer
    from trainable.classifier import Classifier

Row = Mapping[str, Any]


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


def describe(file: Path, answer: Answer, classifier: Classifier) -> dict[str, Any]:
    """A row of the tables. An image that is doubted has no class and no probability of one; every share is kept."""
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
