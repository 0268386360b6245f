"""Tables among folders, spreadsheets, and lists without a header."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest

from tests.trainable.images.sets import fill, read
from tests.trainable.images.tables import LABELS, NAMES, Cells, pairs, plain, read_text, write


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


def test_a_column_of_patients_after_the_paths_is_not_taken_for_labels(tmp_path: Path) -> None:
    rows = [(path, f"P{n // 2}", "ab"[n // 2 % 2]) for n, path in enumerate(NAMES)]
    with pytest.raises(
        ValueError, match=r"both column 2 \(3 values\) and column 3 \(2 values, .*may be the label; name"
    ):
        read_text(tmp_path, write(rows, "").lstrip())
    assert len(read_text(tmp_path / "b", write(rows, "path,patient,label")).slices) == 6


@pytest.mark.parametrize("splits", [("train", "test"), ("Training", "Validation", "Test")])
def test_folders_named_for_splits_are_the_splits_of_a_table_without_a_column(
    splits: tuple[str, ...], tmp_path: Path
) -> None:
    files = [f"images/{split}/{n}.png" for split in splits for n in range(2)]
    manifest = read_text(tmp_path, write([(name, LABELS[n]) for n, name in enumerate(files)]), *files)
    found = [item.split for item in manifest.slices]
    assert found == [split for split in ("train", "val", "test") if split in found for _ in range(2)]
    assert dict(manifest.found.splits).keys() == set(splits)
    assert any("those that its files' folders name" in note for note in manifest.found.notes)
    rows = [(name, LABELS[n], "train") for n, name in enumerate(files)]
    assert {item.split for item in read_text(tmp_path / "b", write(rows, "path,label,split"), *files).slices} == {
        "train"
    }


@pytest.mark.parametrize("folders", [("train", "more"), ("train", "val"), ("a", "b")])
def test_other_folders_name_no_splits(folders: tuple[str, str], tmp_path: Path) -> None:
    files = [f"{folder}/{n}.png" for folder in folders for n in range(3)]
    manifest = read_text(tmp_path, write([(name, LABELS[n]) for n, name in enumerate(files)]), *files)
    assert {item.split for item in manifest.slices} == {None}


def test_paths_of_a_url_are_decoded(tmp_path: Path) -> None:
    files = [f"CT scans/\u00e9 {n}.png" for n in range(6)]
    rows = [(quote(name), LABELS[n]) for n, name in enumerate(files)]
    manifest = read_text(tmp_path, write(rows), *files)
    assert [item.name for item in manifest.slices] == files
    assert manifest.found.notes == ("its paths are encoded as of a URL, below CT scans",)


def test_a_list_of_files_alone_is_refused_and_notes_are_no_table(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"train\.txt has no header and lists files without labels; give it the"):
        read_text(tmp_path, "\n".join(NAMES), name="train.txt")
    with pytest.raises(ValueError, match=r"m\.csv has the columns nowhere\.png, a; it needs path,label"):
        read_text(tmp_path / "b", "nowhere.png,a\nimages/1.png,b\n")
    root = fill(tmp_path / "c", "a/1.png", "b/1.png")
    (root / "about.txt").write_text("These images are of two kinds.\n")
    assert "about" not in " ".join(read(root).found.notes)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"m\.csv is empty; it needs path,label"),
        (b"\xef\xbb\xbf\n\n", r"m\.csv is empty"),
        (b"path,label\n", r"m\.csv has a header \(path, label\) and no rows"),
        (
            write(plain()).encode("utf-16-le"),
            r"not UTF-8 text \(it holds zero bytes, as UTF-16 does\); save it as UTF-8",
        ),
        (
            write([("images/0.png", "Röntgen")]).encode("utf-16-le"),
            r"not UTF-8 text \(it holds zero bytes, as UTF-16 does\); save it as UTF-8",
        ),
    ],
)
def test_a_table_without_rows_or_in_another_encoding_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    (fill(tmp_path, *NAMES) / "m.csv").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read(tmp_path / "m.csv")


def test_every_byte_order_mark_is_taken_away_and_false_is_negative(tmp_path: Path) -> None:
    rows = [(name, ["True", "false"][n % 2]) for n, name in enumerate(NAMES)]
    manifest = read_text(tmp_path, "\ufeff\ufeff" + write(rows))
    assert dict(manifest.found.columns)["path"] == "path"
    assert manifest.classes[manifest.positive] == "True"
