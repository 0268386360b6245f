"""Tables as people have them, whole kinds: read as what they say, or refused with the row or the column at fault."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Literal

import pytest

from tests.trainable.images.sets import listed
from tests.trainable.images.tables import LABELS, NAMES, pairs, plain, read_text, write

Form = Literal["NFC", "NFD"]


# -- delimiters, line ends, encodings


@pytest.mark.parametrize(
    ("text", "name", "encoding", "told"),
    [
        (write(plain(), "path;label", sep=";"), "m.csv", "utf-8", "semicolon"),
        (write(plain(), "path\tlabel", sep="\t"), "m.tsv", "utf-8", "tab"),
        (write(plain(), "path\tlabel", sep="\t"), "m.csv", "utf-16", "tab"),
        (write(plain(), "path|label", sep="|"), "m.csv", "utf-8", "pipe"),
        ("sep=;\n" + write(plain(), "path;label", sep=";"), "m.csv", "utf-8-sig", "semicolon"),
        (write(plain(["1,5"] * 6), "path;label;age, years", sep=";"), "m.csv", "utf-8", "semicolon"),
        (write(plain(["x;y"] * 6), "path,label,note; free", sep=","), "m.csv", "utf-8", "comma"),
        (write(plain(), end="\r\n"), "m.csv", "utf-8", "comma"),
        (write(plain(), end="\r"), "m.csv", "utf-8", "comma"),
        ("\n\n" + write(plain(), end="\n\n") + ",\n", "m.csv", "utf-8", "comma"),
        (write(plain([""] * 6), "path,label,"), "m.csv", "utf-8", "comma"),
        (write([(p, f' "{label}"') for p, label in plain()], "path, label"), "m.csv", "utf-8", "comma"),
    ],
)
def test_the_delimiter_is_seen_and_told(text: str, name: str, encoding: str, told: str, tmp_path: Path) -> None:
    manifest = read_text(tmp_path, text, name=name, encoding=encoding)
    assert pairs(manifest) == plain()
    assert manifest.found.source.endswith(f"{name}, {told}-separated")


def test_fields_may_be_of_any_length_and_over_several_lines(tmp_path: Path) -> None:
    reports = ['"' + f"line one of {n}\nline, two; " + "x" * 200_000 + '"' for n in range(6)]
    assert pairs(read_text(tmp_path, write(plain(list(reports)), "path,label,report"))) == plain()


# -- columns


@pytest.mark.parametrize("path", ["image", "Image Index", "FileName", "file_name", "img_path", "image_id", "FILE"])
@pytest.mark.parametrize("label", ["class", "Diagnosis", "target", "Finding Labels", "class_name"])
def test_near_names_of_path_and_label_are_taken_and_told(path: str, label: str, tmp_path: Path) -> None:
    manifest = read_text(tmp_path, write(plain(), f"{path},{label}"))
    assert pairs(manifest) == plain() and manifest.found.columns == (("path", path), ("label", label))


@pytest.mark.parametrize("patient", ["patient_id", "PatientID", "Patient ID", "subject", "Subject_ID", "case", "pid"])
@pytest.mark.parametrize("split", ["set", "subset", "fold", "Partition", "SPLIT"])
def test_near_names_of_patient_and_split_are_taken_and_told(patient: str, split: str, tmp_path: Path) -> None:
    rows = plain([f"p{n}" for n in range(6)], ["Train", "train", "Valid", "valid", "TEST", "test_set"])
    manifest = read_text(tmp_path, write(rows, f"path,label,{patient},{split}"))
    splits = ["train", "train", "val", "val", "test", "test"]
    assert list(listed(manifest).values()) == [(LABELS[n], f"p{n}", splits[n]) for n in range(6)]
    assert dict(manifest.found.columns) == {"path": "path", "label": "label", "patient": patient, "split": split}
    assert dict(manifest.found.splits)["Valid"] == "val"


@pytest.mark.parametrize(
    ("header", "columns"), [("id,type", ("id", "type")), ("id,filename,type", ("filename", "type"))]
)
def test_vague_names_are_taken_where_there_is_no_other(header: str, columns: tuple[str, str], tmp_path: Path) -> None:
    rows = plain() if header == "id,type" else [(n, *row) for n, row in enumerate(plain())]
    manifest = read_text(tmp_path, write(rows, header))
    assert pairs(manifest) == plain() and tuple(name for _, name in manifest.found.columns) == columns


def test_a_columns_own_name_wins_over_a_near_one_and_the_rest_is_told(tmp_path: Path) -> None:
    manifest = read_text(tmp_path, write(plain(range(6), [0] * 6), "path,label,patient,subject"))
    assert len({item.patient for item in manifest.slices}) == 6
    assert "columns not read: subject" in manifest.found.notes


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("path,label,Label", r"columns label and Label, each of which may be the label"),
        ("path,label,path", r"columns path and path, each of which may be the path"),
        ("image,label,filename", r"columns image and filename, each of which may be the path"),
        ("path,class,target", r"columns class and target, each of which may be the label"),
        ("path,covid,normal", r"has the columns path, covid, normal; it needs path,label"),
        ("images/gone.png,a,x", r"it needs path,label.* named in its first row"),
    ],
)
def test_columns_that_are_unclear_are_refused(header: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        read_text(tmp_path, write(plain(["x"] * 6), header))


def test_folds_that_are_numbers_are_no_splits(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"row 2 has the split '0' \(column fold\).*rename the column"):
        read_text(tmp_path, write(plain([0, 1, 2] * 2), "path,label,fold"))


# -- quotes


@pytest.mark.parametrize(
    ("column", "cells", "row"),
    [
        ("patient", {2: '"p2'}, 4),
        ("patient", {2: '"p2', 4: '"p4'}, 4),
        ("patient", {2: '"p2', 4: 'p4"'}, 4),
        ("report", {1: '"seen by Dr. X'}, 3),
        ("report", {1: '"seen by Dr. X', 5: 'no finding"'}, 3),
        ("report", {1: '"seen by Dr. X', 2: 'no finding"'}, 3),
    ],
)
@pytest.mark.parametrize(
    "change", [str, lambda path: path.removeprefix("images/"), lambda path: path.replace("/", "\\")]
)
def test_an_open_quote_swallows_no_rows(  # type: ignore[no-untyped-def]
    change, column: str, cells: dict[int, str], row: int, tmp_path: Path
) -> None:
    extra = [cells.get(n, f"p{n}") for n in range(6)]
    with pytest.raises(ValueError, match=rf"m\.csv, row {row} has a .*quote"):
        read_text(tmp_path, write([(change(p), *rest) for p, *rest in plain(extra)], f"path,label,{column}"))


def test_a_quote_inside_a_field_is_text(tmp_path: Path) -> None:
    assert len(read_text(tmp_path, write(plain(['5" nodule'] * 6), "path,label,report")).slices) == 6


# -- paths


@pytest.mark.parametrize(
    ("change", "note"),
    [
        (lambda path: path.replace("/", "\\"), "backslashes in its paths separate folders"),
        (lambda path: ".\\" + path.replace("/", "\\"), "backslashes in its paths separate folders"),
        (lambda path: path.replace("/", "\\") if "3" in path else path, "backslashes in its paths separate folders"),
        (lambda path: "./" + path, None),
        (lambda path: f" {path} ", None),
        (lambda path: path.removeprefix("images/"), "its paths begin below images"),
        (lambda path: path[7:-4], "its paths have no endings and begin below images"),
        (lambda path: path[7:].upper(), "its paths are found in another case of letters, below images"),
    ],
)
def test_paths_are_found_however_they_are_written(change, note: str | None, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    manifest = read_text(tmp_path, write([(change(p), label) for p, label in plain()]))
    assert pairs(manifest) == plain() and manifest.found.notes == ((note,) if note else ())


@pytest.mark.parametrize(("in_table", "on_disk"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_paths_are_found_in_every_unicode_form(in_table: Form, on_disk: Form, tmp_path: Path) -> None:
    names = [f"b\u00e9b\u00e9/{n}\u00e7.png" for n in range(6)]
    text = write([(unicodedata.normalize(in_table, name), LABELS[n]) for n, name in enumerate(names)])
    manifest = read_text(tmp_path, text, *(unicodedata.normalize(on_disk, name) for name in names))
    assert [item.name for item in manifest.slices] == [unicodedata.normalize(on_disk, name) for name in names]


def test_a_path_that_fits_two_files_is_refused_and_one_missing_of_many_is_not_looked_for(tmp_path: Path) -> None:
    short = [(p.removeprefix("images/"), label) for p, label in plain()]
    with pytest.raises(ValueError, match=r"path 0\.png fits .*images/0\.png and .*old/0\.png \(2 files"):
        read_text(tmp_path, write(short), *NAMES, "old/0.png")
    with pytest.raises(ValueError, match=r"row 8 names a missing file \(7\.png"):
        read_text(tmp_path, write([*plain(), ("7.png", "a")]), *NAMES, "old/7.png")


@pytest.mark.parametrize("path", ["C:\\data\\0.png", "/mnt/data/0.png", "..\\0.png"])
def test_a_path_that_leads_elsewhere_is_refused(path: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"row 2 leaves the manifest's folder"):
        read_text(tmp_path, write([(path, "a"), *plain()]))


def test_a_path_that_is_too_long_for_a_file_is_a_missing_one(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"row 2 names a missing file"):
        read_text(tmp_path, write([("x" * 5000, "a"), *plain()]))


def test_a_table_beside_packed_images_says_to_unpack_them(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"missing file .*unpack images\.zip beside the table first"):
        read_text(tmp_path, write(plain()), "images.zip", name="labels.csv", folder=True)
