"""Levels of folders that are not what they seem: parts of classes, parts of a set, wrappers, patients by codes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.trainable.images.sets import AB, TWO, fill, join, listed, read


@pytest.mark.parametrize(
    "names",
    [
        join(["COVID_train", "COVID_test", "Normal_train", "Normal_test"], TWO),
        join(["train-COVID", "val-COVID", "train-Normal", "val-Normal"], TWO),
        join(["trainA", "trainB", "testA", "testB"], TWO),
        join(["train2017", "val2017"], TWO),
        join(["train1", "train2", "test1"], TWO),
        [*join(["train"], ["COVID_train", "Normal_train"], TWO), *join(["test"], ["COVID_test", "Normal_test"], TWO)],
        join(["COVID_part1", "COVID_part2", "Normal"], TWO),
        join(["COVID", "COVID - Copy", "Normal"], TWO),
        join(["CT_COVID-20200410T120000Z-001", "CT_COVID-20200410T120000Z-002", "CT_NonCOVID"], TWO),
    ],
)
def test_classes_that_differ_only_in_words_for_splits_or_parts_are_refused(names: list[str], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="differ only in words for splits, parts or copies"):
        read(fill(tmp_path / "x", *names))


@pytest.mark.parametrize(
    "classes",
    [
        ["CT-0", "CT-1", "CT-2"],
        ["COVID_train", "Normal_train"],
        ["stage 1", "stage 2"],
        ["grade (1)", "grade (2)"],
        ["part", "whole"],
        ["type A", "type B"],
    ],
)
def test_classes_that_differ_in_more_are_classes(classes: list[str], tmp_path: Path) -> None:
    assert list(read(fill(tmp_path / "x", *join(classes, TWO))).classes) == sorted(classes)


def test_a_folder_alone_in_one_of_its_name_is_looked_through(tmp_path: Path) -> None:
    classes = read(fill(tmp_path / "a", *join(["COVID/covid", "Normal/Normal"], TWO)))
    assert {(label, patient) for label, patient, _ in listed(classes).values()} == {(name, None) for name in AB}
    splits = read(fill(tmp_path / "b", *join(["train/train", "test/test"], AB, TWO)))
    assert splits.classes == AB and {split for *_, split in listed(splits).values()} == {"train", "test"}
    patients = read(fill(tmp_path / "c", *join(["COVID/COVID"], ["P1", "P2"], TWO), *join(["b/b"], ["P3"], TWO)))
    assert {patient for _, patient, _ in listed(patients).values()} == {"P1", "P2", "P3"}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (join(["train", "test"], ["Wuhan", "Milan"], AB, TWO), r"which folders of .*x/test are the classes\?"),
        (join(AB, ["fold1", "fold2", "fold3"], TWO), r"\(fold1, fold2, fold3\) look like parts of a set, not like pat"),
        (join(AB, ["hospital 1", "hospital 2"], ["ann", "bob"], TWO), r"look like parts of a set, not like patients"),
        (join(["3f9a2c81be", "A81D00C7E4", "00c4ff12aa"], TWO), r"look like patients"),
        (join(["3f9a2c81-be01-4c1a-9f00-1234567890ab", "b81d00c7-e401-4c1a-9f00-1234567890ab"], TWO), r"like patients"),
        (join(["TCGA-05-4244", "TCGA-17-Z001", "TCGA-34-5231"], ["1/2"], TWO), r"look like patients"),
        (join(["P1", "P2", "P3", "masks"], TWO), r"look like patients"),
        (join(["subset0", "subset1", "subset2"], TWO), r"look like patients, studies or parts of a set"),
        (
            ["train/COVID.zip", "train/Normal.zip", "test/COVID.zip"],
            r"test/COVID\.zip is an archive where slices or fol",
        ),
        (
            ["COVID/P1.zip", "COVID/P2.zip", "Normal/P3.tar.gz"],
            r"COVID/P1\.zip is an archive .*\(2 are there\); unpack",
        ),
    ],
)
def test_levels_that_are_unclear_are_refused(names: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        read(fill(tmp_path / "x", *names))


@pytest.mark.parametrize("names", [AB, ("train", "test")])
def test_two_names_of_one_folder_are_refused(names: tuple[str, str], tmp_path: Path) -> None:
    store = fill(tmp_path / "store", *join(AB, TWO))
    (tmp_path / "x").mkdir()
    for name in names:
        (tmp_path / "x" / name).symlink_to(store)
    with pytest.raises(ValueError, match=r"x/(COVID|test) and .*x/(Normal|train) lead to one folder; remove one"):
        read(tmp_path / "x")


def test_who_names_the_patients_may_have_parts_below_the_classes(tmp_path: Path) -> None:
    root = fill(tmp_path / "x", *join(AB, ["site 1", "site 2"], ["ann", "bob"], TWO))
    found = read(root, patient_from=r"^[^/]+/([^/]+/[^/]+)")
    assert {patient for _, patient, _ in listed(found).values()} == set(join(["site 1", "site 2"], ["ann", "bob"]))


@pytest.mark.parametrize("parts", [["vol1", "vol2"], ["disc 1", "disc 2"]])
def test_volumes_below_the_classes_may_be_patients(parts: list[str], tmp_path: Path) -> None:
    assert all(patient for _, patient, _ in listed(read(fill(tmp_path / "x", *join(AB, parts, TWO)))).values())


def test_a_vague_table_is_no_stand_in_for_class_folders_with_one_fault(tmp_path: Path) -> None:
    names = join(AB, TWO)
    root = fill(tmp_path / "x", *names, "stray.png")
    text = "id,severity\n" + "".join(f"{name},{'mild' if '0' in name else 'severe'}\n" for name in names)
    (root / "clinical.csv").write_text(text)
    with pytest.raises(ValueError, match=r"stray\.png lies beside the class folders"):
        read(root)
    (root / "labels.csv").write_text(text.replace("id,severity", "path,label"))
    assert read(root).classes == ("mild", "severe")
