"""Manifests: a table of slices, read as it says, or refused with the row at fault."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.trainable.images.manifests import fill, listed, read, write_manifest


def test_a_folder_or_archive_that_holds_a_manifest_is_read_by_it(tmp_path: Path) -> None:
    root = tmp_path / "x"
    write_manifest(root, "path,label,patient\ni/1.png,a,p\ni/2.png,b,q\n", "i/1.png", "i/2.png")
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as file:
        for name in ("manifest.csv", "i/1.png", "i/2.png"):
            file.write(root / name, f"x/{name}")
    for data in (root, tmp_path / "z.zip"):
        assert [s.patient for s in read(data).slices] == ["p", "q"]


def test_a_csv_is_read_as_text(tmp_path: Path) -> None:
    rows = ('"a, 1%.png",3, 2 ,007,train', "ü 2.png,4,No,p 1,dev", "3.png,,No,1.0,Test", "")
    text = "\n".join(("\ufeffPath,age,label,patient,split", *rows))
    path = write_manifest(tmp_path / "Größe", text, "a, 1%.png", "ü 2.png", "3.png")
    manifest = read(path)
    assert manifest.name == "grosse"
    assert listed(manifest, path.parent) == [
        ("a, 1%.png", "2", "007"),
        ("ü 2.png", "No", "p 1"),
        ("3.png", "No", "1.0"),
    ]
    assert [s.split for s in manifest.slices] == ["train", "val", "test"]


def test_a_parquet_manifest_is_read_as_text(tmp_path: Path) -> None:
    fill(tmp_path, "1.png", "2.png")
    columns = {"path": ["1.png", "2.png"], "label": [0, 1], "patient": [7.0, 8.0], "pixels": [b"", b""]}
    pq.write_table(pa.table(columns), tmp_path / "Lung set.parquet")
    manifest = read(tmp_path / "Lung set.parquet")
    assert manifest.name == "lung-set" and manifest.classes == ("0", "1")
    assert [s.patient for s in manifest.slices] == ["7", "8"]


def test_a_parquet_file_of_images_or_of_rounded_patients_is_refused(tmp_path: Path) -> None:
    fill(tmp_path, "1.png", "2.png")
    labels = {"label": [0, 1]}
    images = [{"bytes": b"x" * 100_000, "path": "1.png"}] * 2
    for number, column in enumerate((images, [b"x" * 100_000] * 2)):
        path = tmp_path / f"{number}.parquet"
        pq.write_table(pa.table({"image": column, **labels}), path)
        with pytest.raises(ValueError, match=r"holds images, or bytes, in its column image .*; save each") as caught:
            read(path)
        assert len(str(caught.value)) < 500
    people = [12345678901234567890.0, 12345678901234569999.0]
    pq.write_table(pa.table({"path": ["1.png", "2.png"], **labels, "patient": people}), tmp_path / "m.parquet")
    with pytest.raises(ValueError, match=r"row 2 has a patient as a spreadsheet rounds long numbers"):
        read(tmp_path / "m.parquet")


def test_a_parquet_column_of_words_for_splits_is_the_split(tmp_path: Path) -> None:
    fill(tmp_path, "1.png", "2.png", "3.png")
    columns = {"path": ["1.png", "2.png", "3.png"], "label": [0, 1, 1], "tvt": ["train", "val", "test"]}
    pq.write_table(pa.table({**columns, "note": ["a", "b", None], "age": [1, 2, 3]}), tmp_path / "m.parquet")
    manifest = read(tmp_path / "m.parquet")
    assert [item.split for item in manifest.slices] == ["train", "val", "test"]
    assert "columns not read: note, age" in manifest.found.notes


def test_labels_of_mostly_one_slice_each_are_none(tmp_path: Path) -> None:
    names = [f"{number}.png" for number in range(40)]
    for count, refused in ((20, False), (30, True)):
        rows = "".join(f"{name},report {number % count}\n" for number, name in enumerate(names))
        path = write_manifest(tmp_path / str(count), f"path,finding\n{rows}", *names)
        if refused:
            with pytest.raises(ValueError, match=r"30 classes \(report 0, report 1, report 10, \.\.\.\) for 40 slices"):
                read(path)
        else:
            assert len(read(path).classes) == count


def test_a_path_that_is_a_folder_is_a_series(tmp_path: Path) -> None:
    text = "path,label,patient,split\nser/1,a,p,train\nser/2/,b,q,test\n"
    path = write_manifest(tmp_path / "x", text, "ser/1/1.dcm", "ser/1/2.dcm", "ser/1/DICOMDIR", "ser/2/1.dcm")
    manifest = read(path)
    assert listed(manifest, path.parent) == [
        ("ser/1/1.dcm", "a", "p"),
        ("ser/1/2.dcm", "a", "p"),
        ("ser/2/1.dcm", "b", "q"),
    ]
    assert [s.split for s in manifest.slices] == ["train", "train", "test"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "path,label\n1.png,a\ngone.png,b\n2.png,b\nlost.png,a\n",
            r"row 3 names a missing file \(gone\.png.*2 of 4",
        ),
        ("path,label\n1.png,a\n2.png, \n", r"row 3 has no label \(2\.png\)"),
        ("path,label\n1.png,a\n2.png\n", r"row 3 has no label \(2\.png\)"),
        ("path,label\n1.png,a\n,b\n", r"row 3 has no path"),
        (
            "path,label\n1.png,a\n../x/2.png,b\n../3.png,b\n",
            r"row 4 leaves the manifest's folder \(\.\./3\.png\)",
        ),
        ("path,label\n1.png,a\n/etc/hostname,b\n", r"row 3 leaves the manifest's folder \(/etc/hostname\)"),
        ("path,label\n1.png,a\n2.png,b\nsub/../1.png,b\n", r"1\.png is listed 2 times"),
        ("path,label\n1.png,a\n2.png,b,c\n", r"row 3 has more fields"),
        ("path,label\n1.png,a\n2.png,a\n", r"classes \[a\]; it needs two"),
        ("path,label\n1.png,COVID\n2.png,covid \n", r"COVID and covid differ in case only"),
        ("path,label\n", r"has a header \(path, label\) and no rows"),
        ("", r"is empty; it needs path,label"),
        ("scan;note\n1.png;a\n", r"has the columns scan, note; it needs path,label"),
        (
            "path,label,split\n1.png,a,train\n2.png,b,odd\n",
            r"row 3 has the split 'odd' \(column split\); known are train",
        ),
        ("path,label,split\n1.png,a,train\n2.png,b,\n", r"1 of 2 rows of .* have no split"),
        ("path,label,patient\n1.png,a,\n2.png,b,p\n", r"1 of 2 rows of .* have no patient"),
        ("path,label\n1.png,a\nempty,b\n", r"/empty is empty; a series is"),
        ("path,label\n1.png,a\ndeep,b\n", r"/deep holds folders; a series is"),
    ],
)
def test_a_fault_in_a_manifest_is_an_error_that_names_it(text: str, message: str, tmp_path: Path) -> None:
    path = write_manifest(tmp_path / "x", text, "1.png", "2.png", "empty/", "deep/er/1.png")
    with pytest.raises(ValueError, match=message):
        read(path)


def test_files_that_are_no_tables_are_errors(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(b"path,label\n\x81.png,a\n")
    with pytest.raises(ValueError, match=r"x\.csv is neither UTF-8 nor Windows-1252 text \(byte 11, 0x81 in line 2\)"):
        read(tmp_path / "x.csv")
    (tmp_path / "x.parquet").write_bytes(b"path,label\n")
    with pytest.raises(ValueError, match="not a Parquet file"):
        read(tmp_path / "x.parquet")


def test_bad_rows_are_skipped_and_told_on_demand(tmp_path: Path) -> None:
    text = "path,label\n1.png,a\n2.png,b\ngone.png,a\n3.png,\n../4.png,a\n"
    manifest = read(write_manifest(tmp_path / "x", text, "1.png", "2.png", "3.png"), skip_bad_images=True)
    assert len(manifest.slices) == 2
    assert [re.sub(r".*(row \d)", r"\1", line).split(" (")[0] for line in manifest.skipped] == [
        "row 4 names a missing file",
        "row 5 has no label",
        "row 6 leaves the manifest's folder",
    ]
