"""The examples of docs/data.md: each set is built as the page lists it and must be read as the page shows."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.trainable.images.phantoms import save_nifti
from tests.trainable.images.sets import fill
from tests.trainable.images.test_patients import write_header
from trainable.images.explain_data import explain_data

PAGE = Path(__file__).resolve().parents[3] / "docs" / "data.md"
SHOWN_AS = "/home/ann/my-set"


@dataclass
class Example:
    """One set of the page: the lines of its listing, its tables by name, and what must be shown."""

    files: list[str]
    tables: dict[str, str] = field(default_factory=dict)
    read: str = ""


def parse(page: str) -> list[Example]:
    examples: list[Example] = []
    for kind, name, body in re.findall(r"^```(files|csv|read) ?(\S*)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
        if kind == "files":
            examples.append(Example(files=body.splitlines()))
        elif kind == "csv":
            examples[-1].tables[name] = body
        else:
            examples[-1].read = body.rstrip("\n")
    return examples


def read_headers(text: str) -> dict[str, Any]:
    """The headers that a file's line names: PatientID, ImageType, and `mm`, where its slice lies along the body."""
    headers: dict[str, Any] = dict(word.split("=") for word in text.split())
    if depth := headers.pop("mm", None):
        headers |= {"Modality": "CT", "SeriesInstanceUID": f"1.2.{headers['PatientID']}", "Rows": 16, "Columns": 16}
        headers |= {"ImagePositionPatient": [0, 0, float(depth)], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}
    return headers


EXAMPLES = parse(PAGE.read_text())


def test_the_page_shows_each_layout_and_what_is_read_of_it() -> None:
    assert len(EXAMPLES) >= 8 and all(example.read.startswith("Read as:\n") for example in EXAMPLES)


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_an_example_of_the_page_is_read_as_it_shows(number: int, tmp_path: Path) -> None:
    example, root = EXAMPLES[number], tmp_path / "my-set"
    for line in example.files:
        name, _, patient = line.partition(" PatientID=")
        if patient:
            write_header(root / name, read_headers(f"PatientID={patient}"))
        elif name.endswith(".nii.gz"):
            save_nifti(root / name, np.zeros((8, 8, 30), np.int16))
        else:
            fill(root, name)
    for name, text in example.tables.items():
        (root / name).write_text(text)
    lines = explain_data(root, unpack_into=tmp_path / "unpacked")
    shown = lines[: lines.index("First slices:")]
    assert "\n".join(shown).replace(str(root), SHOWN_AS) == example.read
