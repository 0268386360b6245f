"""Tables as people have them, whole kinds: read as what they say, or refused with the row or the column at fault."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pytest

from tests.trainable.images.sets import fill, listed, read
from trainable.images.manifest import Manifest

NAMES = [f"images/{n}.png" for n in range(6)]
LABELS = ["a", "b"] * 3
Cells = Sequence[tuple[Any, ...]]
Form = Literal["NFC", "NFD"]


def plain(*extra: Sequence[object]) -> list[tuple[Any, ...]]:
    return list(zip(NAMES, LABELS, *extra, strict=True))


def write(rows: Cells, header: str = "path,label", *, sep: str = ",", end: str = "\n") -> str:
    return end.join([header, *(sep.join(map(str, row)) for row in rows)]) + end


def read_text(
    tmp_path: Path, text: str, *names: str, name: str = "m.csv", encoding: str = "utf-8", folder: bool = False
) -> Manifest:
    root = fill(tmp_path / "x", *(names or NAMES))
    (root / name).write_bytes(text.encode(encoding))
    return read(root if folder else root / name)


def pairs(manifest: Manifest) -> list[tuple[str, str]]:
    return [(item.name, manifest.classes[item.label]) for item in manifest.slices]


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


# -- labels


@pytest.mark.parametrize(
    ("forms", "name"),
    [
        (["1", "1.0", "01"], "1"),
        (["x y", "x\u00a0y", " x  y "], "x y"),
        (["caf\u00e9", "cafe\u0301", "caf\u00e9\u200b"], "caf\u00e9"),
        (["non-covid", "non\u2013covid", "non\u2010covid"], "non-covid"),
        (["1", "\uff11", "1."], "1"),
    ],
)
def test_labels_that_differ_in_form_only_are_one_class(forms: list[str], name: str, tmp_path: Path) -> None:
    labels = [forms[n // 2] if n % 2 == 0 else "b" for n in range(6)]
    manifest = read_text(tmp_path, write(list(zip(NAMES, labels, strict=True))))
    assert manifest.classes == tuple(sorted([name, "b"]))


@pytest.mark.parametrize("other", ["COVID", "Co-vid", "co vid", "co_vid", "covid."])
def test_labels_that_differ_in_case_or_separators_are_refused(other: str, tmp_path: Path) -> None:
    labels = ["covid", other, "x"] * 2
    with pytest.raises(ValueError, match="differ in case only, or in spaces and dashes"):
        read_text(tmp_path, write(list(zip(NAMES, labels, strict=True))))


@pytest.mark.parametrize("text", ["nan", "NaN", "NA", "N/A", "null", "<NA>", "#N/A", "-", "?", "\u00a0"])
def test_a_stand_in_for_no_label_is_no_class(text: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"row 7 has (no label|the label .*stands for a missing value).*1 of 6 rows"):
        read_text(tmp_path, write(list(zip(NAMES, [*LABELS[:5], text], strict=True))))


@pytest.mark.parametrize("text", ["a|c", "a;c", "a, c", "a/c", "a + c", "c & a", "a and c", "['a', 'c']", "c|d", "a|a"])
def test_several_labels_in_one_field_are_refused(text: str, tmp_path: Path) -> None:
    rows = list(zip(NAMES, [*LABELS[:5], text], strict=True))
    with pytest.raises(ValueError, match=r"row 7 has several labels in one field .*keep one label a row"):
        read_text(tmp_path, write(rows, "path\tlabel", sep="\t"))


@pytest.mark.parametrize(
    "labels", [["1.5", "15", "2"], ["1-2", "12", "1_2"], ["HER2+", "HER2-", "HER2"], ["CT-1", "CT-11", "CT-10"]]
)
def test_labels_that_differ_in_more_than_form_are_classes_of_their_own(labels: list[str], tmp_path: Path) -> None:
    manifest = read_text(tmp_path, write(list(zip(NAMES, labels * 2, strict=True))))
    assert manifest.classes == tuple(sorted(labels))


def test_patients_that_differ_in_more_than_form_are_people_of_their_own(tmp_path: Path) -> None:
    patients = ["1-2", "12", "1.2", "P1", "P10", "P1-0"]
    manifest = read_text(tmp_path, write(plain(patients), "path,label,patient"))
    assert [item.patient for item in manifest.slices] == patients


@pytest.mark.parametrize("text", ["HER2+", "T-1", "lung and heart", "w/o finding"])
def test_a_sign_inside_a_label_makes_it_no_list(text: str, tmp_path: Path) -> None:
    assert text in read_text(tmp_path, write(list(zip(NAMES, [*LABELS[:5], text], strict=True)))).classes


# -- patients


@pytest.mark.parametrize(
    "forms",
    [
        ["7", "7.0", " 7"],
        ["007", "7", "7."],
        ["p7", "P7", "p7\u00a0"],
        ["p7", "P-07", "p 007"],
        ["Patient_1", "patient 1", "PATIENT-01"],
        ["caf\u00e9", "cafe\u0301", "CAF\u00c9"],
    ],
)
def test_patients_that_differ_in_form_only_are_one_person(forms: list[str], tmp_path: Path) -> None:
    manifest = read_text(tmp_path, write(plain([*forms, "x", "y", "z"]), "path,label,patient"))
    assert len({item.patient for item in manifest.slices}) == 4
    assert all(item.patient == manifest.slices[0].patient for item in manifest.slices[:3])


@pytest.mark.parametrize("text", ["", "nan", "None", "NULL", "N/A", " "])
def test_a_stand_in_for_no_patient_is_nobody(text: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"2 of 6 rows of .* have no patient"):
        read_text(tmp_path, write(plain(["p0", "p1", "p2", "p3", text, text]), "path,label,patient"))


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_a_series_or_a_volume_is_one_patients_where_no_column_says(ending: str, tmp_path: Path) -> None:
    series = [(f"s{n}", label) for n, label in enumerate(LABELS)]
    files = [f"s{n}/{k}.dcm" for n in range(6) for k in range(2)]
    assert len({item.patient for item in read_text(tmp_path / "s", write(series), *files).slices}) == 6
    volumes = [(f"v/{n}{ending}", label) for n, label in enumerate(LABELS)]
    found = read_text(tmp_path / "v", write(volumes), *(name for name, _ in volumes))
    assert len({item.patient for item in found.slices}) == 6


def test_a_table_of_patients_stands_for_their_folders(tmp_path: Path) -> None:
    files = [f"dicom/R01-{n}/study/series/{k}.dcm" for n in range(6) for k in range(2)]
    rows = [(f"R01-{n}", label) for n, label in enumerate(LABELS)]
    manifest = read_text(tmp_path, write(rows, "PatientID,diagnosis"), *files, name="clinical.csv", folder=True)
    assert listed(manifest) == {name: (LABELS[int(name[10])], name.split("/")[1], None) for name in files}


# -- tables in folders


def test_a_table_of_any_name_beside_a_folder_of_images_is_read(tmp_path: Path) -> None:
    manifest = read_text(tmp_path, write(plain(), "filename,diagnosis"), name="Labels.csv", folder=True)
    assert pairs(manifest) == plain() and "Labels.csv" in manifest.found.source


def test_a_manifest_beside_class_folders_is_used_and_what_it_lacks_is_told(tmp_path: Path) -> None:
    names = [f"{label}/{n}.png" for label in "ab" for n in range(4)]
    rows: Cells = [(name, name[0]) for name in names if name[2] in "01"]
    manifest = read_text(tmp_path, write(rows), *names, "c/0.png", name="manifest.csv", folder=True)
    assert len(manifest.slices) == 4
    assert manifest.found.left_out == ("5 of 9 files beside the table are not in it and are left out (a/2.png, ...)",)


def test_another_table_beside_class_folders_is_asked_about(tmp_path: Path) -> None:
    names = [f"{label}/{n}.png" for label in "ab" for n in range(4)]
    with pytest.raises(ValueError, match=r"class folders \(a, b\) and the table info\.csv; which is meant\?.*--data"):
        read_text(tmp_path, write([(name, name[0]) for name in names]), *names, name="info.csv", folder=True)
    manifest = read_text(tmp_path, "id,type\n1,2\n", *names, name="info.csv", folder=True)
    assert manifest.classes == ("a", "b") and "the table info.csv is not read" in manifest.found.notes


def test_one_table_a_split_is_taken_and_others_are_asked_about(tmp_path: Path) -> None:
    root = fill(tmp_path / "x", *NAMES)
    for n, name in enumerate(("train", "Valid", "test_set")):
        (root / f"{name}.csv").write_text(write(plain()[2 * n : 2 * n + 2], "filename,label"))
    assert [item.split for item in sorted(read(root).slices, key=lambda item: item.name)] == [
        *("train", "train", "val", "val", "test", "test")
    ]
    (root / "more.csv").write_text(write(plain()))
    with pytest.raises(ValueError, match=r"holds the tables Valid\.csv, more\.csv, test_set\.csv, train\.csv; give"):
        read(root)


@pytest.mark.parametrize("name", ["labels.xlsx", "labels.xls", "labels.ods", "labels.csv"])
def test_a_spreadsheet_is_refused_with_what_to_do(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"{name} is a spreadsheet, .*save it as CSV"):
        read_text(tmp_path, "PK\x03\x04" + "x" * 100, name=name)


# -- tables without a header


@pytest.mark.parametrize(
    ("text", "name", "told"),
    [
        (write(plain(), "").lstrip(), "m.csv", "column 1 is the path, column 2 is the label"),
        (write(plain(), "", sep=" ").lstrip(), "train.txt", "column 1 is the path, column 2 is the label"),
        (write(plain(range(6), range(9, 15)), "", sep=" ").lstrip(), "m.txt", "column 1 is the path, column 2 is"),
        (write(plain(), "", sep="\t").lstrip(), "m.txt", "tab-separated"),
        (
            write(
                [(n, p.partition("/")[2], label, "cohort x") for n, (p, label) in enumerate(plain(), 1)], ""
            ).lstrip(),
            "m.csv",
            "column 2 is the path, column 3 is the label",
        ),
        (write(plain(["train", "val", "test"] * 2), "").lstrip(), "m.csv", "column 3 is the split"),
        (write(plain(), "path label", sep=" "), "m.txt", "space-separated"),
        (write(plain(), "path,label"), "m.txt", "comma-separated"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_list_of_files_and_labels_needs_no_header(
    text: str, name: str, told: str, encoding: str, tmp_path: Path
) -> None:
    manifest = read_text(tmp_path, text, name=name, encoding=encoding)
    assert pairs(manifest) == list(zip(NAMES, LABELS, strict=True))
    assert all(item.patient is None for item in manifest.slices)
    assert any(told in line for line in (*manifest.found.notes, manifest.found.source))
    assert pairs(read_text(tmp_path / "again", text, name=name, encoding=encoding, folder=True)) == pairs(manifest)


def test_a_list_of_files_alone_is_refused_and_notes_are_no_table(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"train\.txt has no header and lists files without labels; give it the"):
        read_text(tmp_path, "\n".join(NAMES), name="train.txt")
    with pytest.raises(ValueError, match=r"m\.csv has the columns nowhere\.png, a; it needs path,label"):
        read_text(tmp_path / "b", "nowhere.png,a\nimages/1.png,b\n")
    root = fill(tmp_path / "c", "a/1.png", "b/1.png")
    (root / "about.txt").write_text("These images are of two kinds.\n")
    assert "about" not in " ".join(read(root).found.notes)
