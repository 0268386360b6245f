"""Made-up layouts and tables: patients, labels and splits that come out are those that went in, or it is refused.

`CTSEARCH_FUZZ_CASES` says how many cases the four tests try together: 100 where it is not set, 2,000 for the slow tier.
"""

from __future__ import annotations

import csv
import io
import os
import tempfile
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tests.trainable.images.sets import fill, read
from trainable.images.level_words import is_container
from trainable.images.manifest import Manifest
from trainable.images.masks import find_masks, is_mask
from trainable.images.names import alike_key, form_key, is_missing, is_split_name

NUM_CASES = int(os.environ.get("CTSEARCH_FUZZ_CASES", "100")) // 4

few = settings(
    max_examples=NUM_CASES,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
may_last_long = pytest.mark.timeout(300 + 2 * NUM_CASES)

CLASSES = [
    "COVID",
    "Normal",
    "viral pneumonia",
    "CT-0",
    "CT-1",
    "0",
    "1",
    "2",
    "r\u00f6ntgen",
    "healthy \u80ba",
    "stage_3",
]
PERSONS = ["P{}", "MR-7{}", "patient_{}", "{}", "Zo\u00eb {}", "subject ({})", "1.2.840.{}"]
SPLITS = {
    "train": ["train", "Training", "TRAIN", "train_set", "Train Data"],
    "val": ["val", "Valid", "validation", "dev", "val-set"],
    "test": ["test", "Testing", "TEST", "test_data", "testset"],
}
REPORTS = ["", "plain", "two\nlines", 'a "quoted" word', "a, b; c\td|e", "x" * 5000, "\u80ba\u708e"]
odd_text = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=8)


@dataclass(frozen=True)
class Item:
    """One file that goes in."""

    number: int
    label: str
    person: str | None
    split: str | None

    @property
    def file(self) -> str:
        return f"im {self.number:02}.png"


def is_ordinary_folder(name: str) -> bool:
    """No name that is ignored, looked through or taken for a split on purpose."""
    lower = name.strip().lower()
    return (
        len(name.encode()) < 100
        and not name.startswith((".", "~$"))
        and form_key(name) not in ("", ".", "..")
        and not is_split_name(name)
        and not is_container(name)
        and not is_mask(name)
        and not find_masks([name, "x"])
        and not lower.startswith(("licen", "read"))
        and lower not in ("icon", "dicomdir", "lost+found", "desktop.ini", "thumbs.db", "@eadir", "__macosx")
    )


@st.composite
def sets(draw: st.DrawFn, *, odd: bool) -> list[Item]:
    """Two to four classes; every person's name is unlike all others, also in form."""
    if odd:
        labels = draw(st.lists(odd_text.filter(is_ordinary_folder), min_size=2, max_size=4))
    else:
        labels = draw(st.lists(st.sampled_from(CLASSES), min_size=2, max_size=4))
    assume(len({alike_key(label) for label in labels}) == len(labels))
    assume(not any(is_missing(label) for label in labels))
    by_number = sum(label.isdecimal() for label in labels)
    assume(not 1 < by_number == len(labels) - by_number)  # which is refused
    with_patients, with_splits = draw(st.booleans()), draw(st.booleans())
    frame = draw(st.sampled_from(PERSONS))
    items: list[Item] = []
    names: list[str] = []
    for label in labels:
        for _ in range(draw(st.integers(2, 4))):
            name = draw(odd_text.filter(is_ordinary_folder)) if odd else frame.format(len(names) + 3)
            names.append(name)
            split = draw(st.sampled_from(["train", "val", "test"])) if with_splits else None
            for _ in range(draw(st.integers(1, 3))):
                person = name if with_patients else None
                items.append(Item(number=len(items), label=label, person=person, split=split))
    assume(len({alike_key(name) for name in names}) == len(names))
    assume(not any(is_missing(name, none_too=True) for name in names))
    assume(not with_splits or len({item.split for item in items}) > 1)
    return items


def check(manifest: Manifest, items: dict[str, Item]) -> None:
    """What came out is what went in: file by file, and which files share a class and a patient."""
    assert sorted(item.path.name for item in manifest.slices) == sorted(items)
    labels: dict[str, set[str]] = {}
    patients: dict[str | None, set[str | None]] = {}
    for found in manifest.slices:
        item = items[found.path.name]
        labels.setdefault(item.label, set()).add(manifest.classes[found.label])
        patients.setdefault(item.person, set()).add(found.patient)
        assert found.split == item.split
    assert all(len(names) == 1 for names in labels.values()) and len(labels) == len(manifest.classes)
    assert all(len(names) == 1 for names in patients.values())
    assert len({name for names in patients.values() for name in names}) == len(patients)
    assert (None in patients) == any(None in names for names in patients.values())


def check_or_refused(data: Path, items: list[Item], *, may_refuse: bool) -> None:
    try:
        manifest = read(data)
    except ValueError as error:
        assert str(error).isprintable()
        assert may_refuse, str(error)
        return
    check(manifest, {item.file: item for item in items})


# -- folders


@st.composite
def folder_layouts(draw: st.DrawFn, *, odd: bool) -> tuple[list[Item], list[str], list[str]]:
    """A set, where its files lie, and files beside them that are nobody's."""
    items = draw(sets(odd=odd))
    spelling = {split: draw(st.sampled_from(words)) for split, words in SPLITS.items()}
    splits_above = draw(st.booleans())
    container = draw(st.sampled_from(["", "images/"]))
    below = draw(st.sampled_from(["", "study/series/", "1.2.3/"]))
    top = draw(st.sampled_from(["", "archive/", "a/b c/"]))
    paths = []
    for item in items:
        split = f"{spelling[item.split]}/" if item.split else ""
        person = f"{item.person}/{below}" if item.person is not None else ""
        levels = f"{split}{item.label}/" if splits_above else f"{item.label}/{split}"
        paths.append(f"{top}{levels}{container}{person}{item.file}")
    extras = [".DS_Store", "README.md", f"{paths[0].rpartition('/')[0]}/Thumbs.db", f"{top}Icon\r"]
    return items, paths, draw(st.lists(st.sampled_from(extras), unique=True))


def try_folders(layout: tuple[list[Item], list[str], list[str]], *, may_refuse: bool) -> None:
    items, paths, extras = layout
    with tempfile.TemporaryDirectory() as folder:
        check_or_refused(fill(Path(folder) / "x", *paths, *extras), items, may_refuse=may_refuse)


@may_last_long
@few
@given(folder_layouts(odd=False))
def test_folders_are_read_as_they_were_written(layout: tuple[list[Item], list[str], list[str]]) -> None:
    try_folders(layout, may_refuse=False)


@may_last_long
@few
@given(folder_layouts(odd=True))
def test_folders_of_odd_names_are_read_or_refused(layout: tuple[list[Item], list[str], list[str]]) -> None:
    try_folders(layout, may_refuse=True)


# -- tables


def vary(draw: st.DrawFn, text: str, *, any_case: bool) -> str:
    """The text in another form."""
    forms = [text, f" {text}", f"{text}\u00a0", unicodedata.normalize("NFD", text), text.replace(" ", "\u00a0")]
    forms += [f"{text}.0"] if text.isascii() and text.isdigit() else []
    forms += [text.lower()] if any_case and form_key(text.lower()).casefold() == form_key(text).casefold() else []
    return draw(st.sampled_from(forms))


@st.composite
def tables(draw: st.DrawFn, *, odd: bool) -> tuple[list[Item], str, str]:
    """A set, the text of a table of it, and the folder in which the files lie."""
    items = draw(sets(odd=odd))
    folder = draw(st.sampled_from(["", "images/", "some/where \u00e9/"]))
    separator = draw(st.sampled_from(["/", "\\"]))
    whole_path = draw(st.booleans())
    form: Literal["NFC", "NFD"] = draw(st.sampled_from(("NFC", "NFD")))
    columns = {
        "path": draw(st.sampled_from(["path", "Path", "filename", "Image Index"])),
        "label": draw(st.sampled_from(["label", "LABEL", "class", "Diagnosis"])),
        "patient": draw(st.sampled_from(["patient", "Patient ID", "subject", "case_id"])),
        "split": draw(st.sampled_from(["split", "Set", "partition", "fold"])),
        "report": "Report",
    }
    if items[0].person is None:
        del columns["patient"]
    if items[0].split is None:
        del columns["split"]
    order = draw(st.permutations(list(columns)))
    out = io.StringIO()
    delimiter = draw(st.sampled_from(",;\t|"))
    writer = csv.writer(out, delimiter=delimiter, lineterminator=draw(st.sampled_from(["\n", "\r\n"])))
    writer.writerow(columns[column] for column in order)
    for item in items:
        path = unicodedata.normalize(form, f"{folder if whole_path else ''}{item.file}").replace("/", separator)
        values = {
            "path": path,
            "label": vary(draw, item.label, any_case=False),
            "patient": vary(draw, item.person or "", any_case=True),
            "split": draw(st.sampled_from(SPLITS[item.split or "train"])),
            "report": draw(st.sampled_from(REPORTS)),
        }
        writer.writerow(values[column] for column in order)
    return items, draw(st.sampled_from(["", "\ufeff"])) + out.getvalue(), folder


def try_table(table: tuple[list[Item], str, str], *, may_refuse: bool) -> None:
    items, text, inner = table
    with tempfile.TemporaryDirectory() as folder:
        root = fill(Path(folder) / "x", *(f"{inner}{item.file}" for item in items))
        (root / "labels.csv").write_bytes(text.encode())
        check_or_refused(root / "labels.csv", items, may_refuse=may_refuse)


@may_last_long
@few
@given(tables(odd=False))
def test_tables_are_read_as_they_were_written(table: tuple[list[Item], str, str]) -> None:
    try_table(table, may_refuse=False)


@may_last_long
@few
@given(tables(odd=True))
def test_tables_of_odd_values_are_read_or_refused(table: tuple[list[Item], str, str]) -> None:
    try_table(table, may_refuse=True)
