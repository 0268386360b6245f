from __future__ import annotations

import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.trainable.images.manifests import fill, listed, read
from trainable.images.manifest import read_manifest

# -- folders


def test_a_folder_of_classes_is_read(tmp_path: Path) -> None:
    root = fill(tmp_path / "My Set.v2", "normal/b 1%.png", "covid/ü.png", "covid/a")
    manifest = read(root)
    assert manifest.classes == ("covid", "normal") and manifest.name == "my-set-v2"
    assert listed(manifest, root) == [
        ("covid/a", "covid", None),
        ("covid/ü.png", "covid", None),
        ("normal/b 1%.png", "normal", None),
    ]
    assert all(s.path.is_absolute() and s.split is None for s in manifest.slices)


def test_a_folder_between_class_and_slice_is_the_patient(tmp_path: Path) -> None:
    root = fill(tmp_path / "x", "a/p 1/1.dcm", "a/p 1/2.dcm", "b/p2/1.dcm")
    assert listed(read(root), root) == [
        ("a/p 1/1.dcm", "a", "p 1"),
        ("a/p 1/2.dcm", "a", "p 1"),
        ("b/p2/1.dcm", "b", "p2"),
    ]


def test_hidden_files_and_well_known_extras_are_ignored(tmp_path: Path) -> None:
    root = fill(tmp_path / "x", "a/1.png", "b/1.png")
    fill(
        root,
        "README.md",
        ".DS_Store",
        "a/Thumbs.db",
        "a/notes.TXT",
        "b/.cache/x",
        "__MACOSX/a/1.png",
        "b/DICOMDIR",
    )
    assert len(read(root).slices) == 2


def test_what_is_neither_extra_nor_image_is_kept_for_the_decoder_to_judge(tmp_path: Path) -> None:
    root = fill(tmp_path / "x", "a/1.png", "b/1.xyz")
    assert len(read(root).slices) == 2


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a/1.png", "b/"], r"class folder .*/b holds no images"),
        (["a/1.png", "b/p/"], r"class folder .*/b holds no images"),
        (["a/1.png"], r"classes \[a\]; it needs two"),
        (["nothing/"], r"class folder .*/nothing holds no images"),
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
        read(fill(tmp_path / "x", *names))


def test_an_empty_class_is_skipped_on_demand(tmp_path: Path) -> None:
    root = fill(tmp_path / "x", "a/1.png", "b/1.png", "c/")
    manifest = read(root, skip_bad_images=True)
    assert manifest.classes == ("a", "b")
    assert len(manifest.skipped) == 1 and "/c holds no images" in manifest.skipped[0]


def test_data_that_is_not_there_or_not_understood_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="gone"):
        read(tmp_path / "gone")
    fill(tmp_path, "one.png")
    with pytest.raises(ValueError, match=r"one\.png is no folder, zip, tar, \.csv, \.tsv, \.txt, \.parquet or \.npz"):
        read(tmp_path / "one.png")


# -- patients from names


def test_patients_come_from_names_by_the_first_group_or_the_whole_match(tmp_path: Path) -> None:
    root = fill(tmp_path / "x", "a/p1-s1.png", "a/p1-s2.png", "b/p2-s1.png")
    assert [s.patient for s in read(root, patient_from=r"/(p\d+)-(s\d)").slices] == ["p1", "p1", "p2"]
    assert [s.patient for s in read(root, patient_from=r"p\d+").slices] == ["p1", "p1", "p2"]
    assert [s.patient for s in read(root, patient_from=r"^./p\d+").slices] == ["a/p1", "a/p1", "b/p2"]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        (r"p\d+", r"no patient in .*a/other\.png, 2 of 3 slices"),
        (r"(q)?p?", r"no patient in .*, 3 of 3 slices"),
        (r"(", r"no regular expression"),
    ],
)
def test_a_pattern_that_misses_slices_is_an_error(pattern: str, message: str, tmp_path: Path) -> None:
    root = fill(tmp_path / "x", "a/other.png", "b/p1.png", "b/zz.png")
    with pytest.raises(ValueError, match=message):
        read(root, patient_from=pattern)


# -- archives


@pytest.mark.parametrize("top", ["", "whatever/"])
@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_an_archive_with_or_without_a_top_folder_is_read(kind: str, top: str, tmp_path: Path) -> None:
    root = fill(tmp_path / "x", "covid/p/1.png", "normal/q/1.png", "__MACOSX/x.png")
    path = tmp_path / f"CT scans.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as file:
            for name in ("covid/p/1.png", "normal/q/1.png", "__MACOSX/x.png"):
                file.write(root / name, top + name)
    else:
        with tarfile.open(path, "w:gz") as file:
            file.add(root, top or ".")
    manifest = read(path)
    assert manifest.name == "ct-scans" and manifest.classes == ("covid", "normal")
    assert [s.patient for s in manifest.slices] == ["p", "q"]
    assert all(s.path.is_file() and s.path.is_relative_to(tmp_path / "unpacked") for s in manifest.slices)


# -- manifests


def test_links_of_the_users_own_are_followed(tmp_path: Path) -> None:
    fill(tmp_path / "store", "a/1.png", "b/1.png")
    (tmp_path / "x").symlink_to(tmp_path / "store")
    manifest = read(tmp_path / "x")
    assert manifest.name == "x" and len(manifest.slices) == 2


def test_a_relative_path_gives_absolute_slices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path / "set", "a/1.png", "b/1.png")
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
        (["COVID", "gesund"], "COVID"),
        (["COVID", "sain"], "COVID"),
        (["\u9633\u6027", "\u9634\u6027"], "\u9633\u6027"),
    ],
)
def test_the_positive_class_is_guessed_from_names(names: list[str], expected: str, tmp_path: Path) -> None:
    manifest = read(fill(tmp_path / "x", *(f"{name}/1.png" for name in names)))
    assert manifest.classes[manifest.positive] == expected and manifest.positive_was_guessed


def test_the_positive_class_may_be_named(tmp_path: Path) -> None:
    root = fill(tmp_path / "x", "COVID/1.png", "NonCOVID/1.png")
    manifest = read(root, positive="NonCOVID")
    assert manifest.positive == 1 and not manifest.positive_was_guessed
    with pytest.raises(ValueError, match="'flu' is no class; known are COVID, NonCOVID"):
        read(root, positive="flu")


def test_with_more_than_two_classes_nothing_is_guessed(tmp_path: Path) -> None:
    root = fill(tmp_path / "x", "a/1.png", "b/1.png", "c/1.png")
    assert (read(root).positive, read(root).positive_was_guessed, read(root, positive="c").positive) == (
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
