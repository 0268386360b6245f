from __future__ import annotations

import re
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from trainable.images.manifest import Manifest, read_manifest


def _fill(root: Path, *names: str) -> Path:
    """A tiny picture at each name; a name that ends in / is an empty folder."""
    for name in names:
        path = root / name
        if name.endswith("/"):
            path.mkdir(parents=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (16, 16)).save(path, "PNG")
    return root


def _manifest(root: Path, text: str, *names: str) -> Path:
    _fill(root, *names)
    root.mkdir(exist_ok=True)
    path = root / "manifest.csv"
    path.write_text(text, encoding="utf-8")
    return path


def _read(data: Path, **options: Any) -> Manifest:
    return read_manifest(data, unpack_into=data.parent / "unpacked", **options)


def _listed(manifest: Manifest, root: Path) -> list[tuple[str, str, str | None]]:
    return [(s.path.relative_to(root).as_posix(), manifest.classes[s.label], s.patient) for s in manifest.slices]


# -- folders


def test_a_folder_of_classes_is_read(tmp_path: Path) -> None:
    root = _fill(tmp_path / "My Set.v2", "normal/b 1%.png", "covid/ü.png", "covid/a")
    manifest = _read(root)
    assert manifest.classes == ("covid", "normal") and manifest.name == "my-set-v2"
    assert _listed(manifest, root) == [
        ("covid/a", "covid", None),
        ("covid/ü.png", "covid", None),
        ("normal/b 1%.png", "normal", None),
    ]
    assert all(s.path.is_absolute() and s.split is None for s in manifest.slices)


def test_a_folder_between_class_and_slice_is_the_patient(tmp_path: Path) -> None:
    root = _fill(tmp_path / "x", "a/p 1/1.dcm", "a/p 1/2.dcm", "b/p2/1.dcm")
    assert _listed(_read(root), root) == [
        ("a/p 1/1.dcm", "a", "p 1"),
        ("a/p 1/2.dcm", "a", "p 1"),
        ("b/p2/1.dcm", "b", "p2"),
    ]


def test_hidden_files_and_well_known_extras_are_ignored(tmp_path: Path) -> None:
    root = _fill(tmp_path / "x", "a/1.png", "b/1.png")
    _fill(
        root,
        "README.md",
        ".DS_Store",
        "a/Thumbs.db",
        "a/notes.TXT",
        "b/.cache/x",
        "__MACOSX/a/1.png",
        "b/DICOMDIR",
    )
    assert len(_read(root).slices) == 2


def test_what_is_neither_extra_nor_picture_is_kept_for_the_decoder_to_judge(tmp_path: Path) -> None:
    root = _fill(tmp_path / "x", "a/1.png", "b/1.xyz")
    assert len(_read(root).slices) == 2


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a/1.png", "b/"], r"class folder .*/b holds no pictures"),
        (["a/1.png", "b/p/"], r"class folder .*/b holds no pictures"),
        (["a/1.png"], r"classes \[a\]; it needs two"),
        (["nothing/"], r"class folder .*/nothing holds no pictures"),
        (
            ["a/1.png", "b/1.png", "stray.png"],
            r"stray\.png lies beside the class folders .*CLASS/PATIENT/slice",
        ),
        (["a/1.png", "a/p/1.png", "b/1.png"], r"a holds files \(1\.png\) and folders \(p\)"),
        (["a/p/1.png", "b/1.png"], r"a/p/1\.png has a folder per patient .*b/1\.png has none"),
        (["train/a/1.png", "Test/b/1.png", "c/1.png"], r"named like splits \(Test, train\) and some are not \(c\)"),
        (["covid/1.png", "COVID/1.png"], r"COVID and covid differ in case only"),
    ],
)
def test_another_layout_is_an_error_that_names_the_place(names: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        _read(_fill(tmp_path / "x", *names))


def test_an_empty_class_is_skipped_on_demand(tmp_path: Path) -> None:
    root = _fill(tmp_path / "x", "a/1.png", "b/1.png", "c/")
    manifest = _read(root, skip_bad_images=True)
    assert manifest.classes == ("a", "b")
    assert len(manifest.skipped) == 1 and "/c holds no pictures" in manifest.skipped[0]


def test_data_that_is_not_there_or_not_understood_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="gone"):
        _read(tmp_path / "gone")
    _fill(tmp_path, "one.png")
    with pytest.raises(ValueError, match=r"one\.png is no folder, zip, tar, \.csv, \.tsv, \.txt, \.parquet or \.npz"):
        _read(tmp_path / "one.png")


# -- patients from names


def test_patients_come_from_names_by_the_first_group_or_the_whole_match(tmp_path: Path) -> None:
    root = _fill(tmp_path / "x", "a/p1-s1.png", "a/p1-s2.png", "b/p2-s1.png")
    assert [s.patient for s in _read(root, patient_from=r"/(p\d+)-(s\d)").slices] == ["p1", "p1", "p2"]
    assert [s.patient for s in _read(root, patient_from=r"p\d+").slices] == ["p1", "p1", "p2"]
    assert [s.patient for s in _read(root, patient_from=r"^./p\d+").slices] == ["a/p1", "a/p1", "b/p2"]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        (r"p\d+", r"no patient in .*a/other\.png, 2 of 3 slices"),
        (r"(q)?p?", r"no patient in .*, 3 of 3 slices"),
        (r"(", r"no regular expression"),
    ],
)
def test_a_pattern_that_misses_slices_is_an_error(pattern: str, message: str, tmp_path: Path) -> None:
    root = _fill(tmp_path / "x", "a/other.png", "b/p1.png", "b/zz.png")
    with pytest.raises(ValueError, match=message):
        _read(root, patient_from=pattern)


# -- archives


@pytest.mark.parametrize("top", ["", "whatever/"])
@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_an_archive_with_or_without_a_top_folder_is_read(kind: str, top: str, tmp_path: Path) -> None:
    root = _fill(tmp_path / "x", "covid/p/1.png", "normal/q/1.png", "__MACOSX/x.png")
    path = tmp_path / f"CT scans.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as file:
            for name in ("covid/p/1.png", "normal/q/1.png", "__MACOSX/x.png"):
                file.write(root / name, top + name)
    else:
        with tarfile.open(path, "w:gz") as file:
            file.add(root, top or ".")
    manifest = _read(path)
    assert manifest.name == "ct-scans" and manifest.classes == ("covid", "normal")
    assert [s.patient for s in manifest.slices] == ["p", "q"]
    assert all(s.path.is_file() and s.path.is_relative_to(tmp_path / "unpacked") for s in manifest.slices)


def test_a_folder_or_archive_that_holds_a_manifest_is_read_by_it(tmp_path: Path) -> None:
    root = tmp_path / "x"
    _manifest(root, "path,label,patient\ni/1.png,a,p\ni/2.png,b,q\n", "i/1.png", "i/2.png")
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as file:
        for name in ("manifest.csv", "i/1.png", "i/2.png"):
            file.write(root / name, f"x/{name}")
    for data in (root, tmp_path / "z.zip"):
        assert [s.patient for s in _read(data).slices] == ["p", "q"]


# -- manifests


def test_a_csv_is_read_as_text(tmp_path: Path) -> None:
    rows = ('"a, 1%.png",3, 0 ,007,train', "ü 2.png,4,No,p 1,dev", "3.png,,No,1.0,Test", "")
    text = "\n".join(("\ufeffPath,age,label,patient,split", *rows))
    path = _manifest(tmp_path / "Größe", text, "a, 1%.png", "ü 2.png", "3.png")
    manifest = _read(path)
    assert manifest.name == "grosse"
    assert _listed(manifest, path.parent) == [
        ("a, 1%.png", "0", "007"),
        ("ü 2.png", "No", "p 1"),
        ("3.png", "No", "1.0"),
    ]
    assert [s.split for s in manifest.slices] == ["train", "val", "test"]


def test_a_parquet_manifest_is_read_as_text(tmp_path: Path) -> None:
    _fill(tmp_path, "1.png", "2.png")
    columns = {"path": ["1.png", "2.png"], "label": [0, 1], "patient": [7.0, 8.0], "pixels": [b"", b""]}
    pq.write_table(pa.table(columns), tmp_path / "Lung set.parquet")
    manifest = _read(tmp_path / "Lung set.parquet")
    assert manifest.name == "lung-set" and manifest.classes == ("0", "1")
    assert [s.patient for s in manifest.slices] == ["7", "8"]


def test_a_path_that_is_a_folder_is_a_series(tmp_path: Path) -> None:
    text = "path,label,patient,split\nser/1,a,p,train\nser/2/,b,q,test\n"
    path = _manifest(tmp_path / "x", text, "ser/1/1.dcm", "ser/1/2.dcm", "ser/1/DICOMDIR", "ser/2/1.dcm")
    manifest = _read(path)
    assert _listed(manifest, path.parent) == [
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
        ("path,label\n", r"classes \[\]; it needs two"),
        ("", r"has the columns ; it needs path,label"),
        ("scan;note\n1.png;a\n", r"has the columns scan, note; it needs path,label"),
        (
            "path,label,split\n1.png,a,train\n2.png,b,holdout\n",
            r"row 3 has the split 'holdout' \(column split\); known are train",
        ),
        ("path,label,split\n1.png,a,train\n2.png,b,\n", r"1 of 2 rows of .* have no split"),
        ("path,label,patient\n1.png,a,\n2.png,b,p\n", r"1 of 2 rows of .* have no patient"),
        ("path,label\n1.png,a\nempty,b\n", r"/empty is empty; a series is"),
        ("path,label\n1.png,a\ndeep,b\n", r"/deep holds folders; a series is"),
    ],
)
def test_a_fault_in_a_manifest_is_an_error_that_names_it(text: str, message: str, tmp_path: Path) -> None:
    path = _manifest(tmp_path / "x", text, "1.png", "2.png", "empty/", "deep/er/1.png")
    with pytest.raises(ValueError, match=message):
        _read(path)


def test_files_that_are_no_tables_are_errors(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(b"path,label\n\xff.png,a\n")
    with pytest.raises(ValueError, match="not UTF-8"):
        _read(tmp_path / "x.csv")
    (tmp_path / "x.parquet").write_bytes(b"path,label\n")
    with pytest.raises(ValueError, match="not a Parquet file"):
        _read(tmp_path / "x.parquet")


def test_bad_rows_are_skipped_and_told_on_demand(tmp_path: Path) -> None:
    text = "path,label\n1.png,a\n2.png,b\ngone.png,a\n3.png,\n../4.png,a\n"
    manifest = _read(_manifest(tmp_path / "x", text, "1.png", "2.png", "3.png"), skip_bad_images=True)
    assert len(manifest.slices) == 2
    assert [re.sub(r".*(row \d)", r"\1", line).split(" (")[0] for line in manifest.skipped] == [
        "row 4 names a missing file",
        "row 5 has no label",
        "row 6 leaves the manifest's folder",
    ]


def test_links_of_the_users_own_are_followed(tmp_path: Path) -> None:
    _fill(tmp_path / "store", "a/1.png", "b/1.png")
    (tmp_path / "x").symlink_to(tmp_path / "store")
    manifest = _read(tmp_path / "x")
    assert manifest.name == "x" and len(manifest.slices) == 2


def test_a_relative_path_gives_absolute_slices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _fill(tmp_path / "set", "a/1.png", "b/1.png")
    monkeypatch.chdir(tmp_path / "set")
    manifest = read_manifest(Path(), unpack_into=tmp_path / "u")
    assert manifest.name == "set" and all(s.path.is_file() and s.path.is_absolute() for s in manifest.slices)


# -- the positive class


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["COVID", "NonCOVID"], "COVID"),
        (["CT_COVID", "CT_NonCOVID"], "CT_COVID"),
        (["covid", "non-covid"], "covid"),
        (["Normal", "Abnormal"], "Abnormal"),
        (["healthy", "cancer"], "cancer"),
        (["pneumonia", "no_finding"], "pneumonia"),
        (["pneumonia", "NoFinding"], "pneumonia"),
        (["malignant", "benign"], "malignant"),
        (["Tuberculosis", "CONTROL"], "Tuberculosis"),
        (["0", "1"], "1"),
        (["case_0", "case_1"], "case_1"),
        (["positive", "negative"], "positive"),
        (["infected", "not infected"], "infected"),
        (["nodule", "mass"], "nodule"),  # undecided: the last in order
        (["normal", "negative"], "normal"),
    ],
)
def test_the_positive_class_is_guessed_from_names(names: list[str], expected: str, tmp_path: Path) -> None:
    manifest = _read(_fill(tmp_path / "x", *(f"{name}/1.png" for name in names)))
    assert manifest.classes[manifest.positive] == expected and manifest.positive_was_guessed


def test_the_positive_class_may_be_named(tmp_path: Path) -> None:
    root = _fill(tmp_path / "x", "COVID/1.png", "NonCOVID/1.png")
    manifest = _read(root, positive="NonCOVID")
    assert manifest.positive == 1 and not manifest.positive_was_guessed
    with pytest.raises(ValueError, match="'flu' is no class; known are COVID, NonCOVID"):
        _read(root, positive="flu")


def test_with_more_than_two_classes_nothing_is_guessed(tmp_path: Path) -> None:
    root = _fill(tmp_path / "x", "a/1.png", "b/1.png", "c/1.png")
    assert (_read(root).positive, _read(root).positive_was_guessed, _read(root, positive="c").positive) == (
        0,
        False,
        2,
    )


# -- the real set


def test_the_real_manifest_is_read(shared_data: Path, tmp_path: Path) -> None:
    manifest = read_manifest(shared_data / "covid-ct" / "manifest.csv", unpack_into=tmp_path)
    assert (manifest.name, len(manifest.slices), manifest.classes) == ("covid-ct", 746, ("COVID", "NonCOVID"))
    assert len({s.patient for s in manifest.slices}) == 384
    assert [sum(s.split == split for s in manifest.slices) for split in ("train", "val", "test")] == [
        425,
        118,
        203,
    ]
    assert manifest.positive == 0 and manifest.positive_was_guessed
