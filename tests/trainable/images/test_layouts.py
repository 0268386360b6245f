"""The usual layouts of folders, whole kinds of them: taken as what they are, or refused in one line."""

from __future__ import annotations

import shutil
import unicodedata
import zipfile
from pathlib import Path

import pytest

from tests.trainable.images.sets import AB, TWO, fill, join, listed, read


def zip_files(path: Path, *names: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as file:
        for name in names:
            file.writestr(name, f"{path.name} {name}")
    return path


# -- splits


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [
        ("train", "val", "test"),
        ("TRAIN", "VALID", "TEST"),
        ("Train Data", "Validation_Data", "Test-Data"),
        ("training_set", "dev_set", "testing_set"),
        ("TrainSet", "valset", "TESTset"),
        ("Training", "Validation", "Testing"),
        ("train.dataset", "development", "eval"),
        ("train", "eval", "test"),
        ("train_images", "val_images", "test_images"),
        ("01_train", "02_val", "03_test"),
        ("data-train", "data-dev", "data-evaluation"),
    ],
)
def test_split_folders_above_and_below_classes_are_the_splits(train: str, val: str, test: str, tmp_path: Path) -> None:
    splits = {train: "train", val: "val", test: "test"}
    above = read(fill(tmp_path / "above", *join(splits, AB, TWO)))
    assert listed(above) == {
        f"{split}/{label}/{name}": (label, None, splits[split]) for split in splits for label in AB for name in TWO
    }
    below = read(fill(tmp_path / "below", *join(AB, splits, TWO)))
    assert listed(below) == {
        f"{label}/{split}/{name}": (label, None, splits[split]) for split in splits for label in AB for name in TWO
    }
    assert above.found.layout == "SPLIT/CLASS/slice" and below.found.layout == "CLASS/SPLIT/slice"
    assert dict(above.found.splits) == dict(below.found.splits) == splits


def test_eval_is_test_where_there_is_none_beside_train(tmp_path: Path) -> None:
    assert dict(read(fill(tmp_path / "x", *join(["train", "eval"], AB, TWO))).found.splits)["eval"] == "test"


def test_splits_may_be_spelled_otherwise_in_each_class(tmp_path: Path) -> None:
    root = fill(tmp_path / "x", *join(["a"], ["Train", "test"], TWO), *join(["b"], ["training", "TEST"], TWO))
    assert {split for _, _, split in listed(read(root)).values()} == {"train", "test"}


def test_patients_lie_below_splits_and_classes_in_either_order(tmp_path: Path) -> None:
    above = fill(tmp_path / "above", "train/a/A17/1.png", "test/a/A18/1.png", "train/b/B1/1.png", "test/b/B7/1.png")
    below = fill(tmp_path / "below", "a/train/A17/1.png", "a/test/A18/1.png", "b/train/B1/1.png", "b/test/B7/1.png")
    expected = {("a", "A17", "train"), ("a", "A18", "test"), ("b", "B1", "train"), ("b", "B7", "test")}
    assert set(listed(read(above)).values()) == set(listed(read(below)).values()) == expected


# -- levels


@pytest.mark.parametrize("top", [["archive"], ["a", "COVID-CT dataset"], ["x", "y", "z"]])
def test_folders_that_hold_all_the_rest_are_gone_through_and_told(top: list[str], tmp_path: Path) -> None:
    root = fill(tmp_path / "x", "README.md", *join(["/".join(top)], ["train", "test"], AB, TWO))
    manifest = read(root)
    assert manifest.classes == AB and manifest.name == "x"
    assert [f"the folder {name} inside holds all the rest" for name in top] == list(manifest.found.notes)


def test_tables_and_spreadsheets_that_are_not_read_are_told(tmp_path: Path) -> None:
    manifest = read(fill(tmp_path / "x", *join(AB, TWO), "metadata.xlsx", "facts.csv"))
    assert manifest.found.notes == ("the table facts.csv is not read", "the table metadata.xlsx is not read")
    (tmp_path / "x" / "facts.csv").write_text("path,PatientID\nCOVID/0.png,7\n")
    assert (
        "facts.csv is not read, though it has a column for patients: to follow" in read(tmp_path / "x").found.notes[0]
    )


@pytest.mark.parametrize("below", ["study/series", "1.2.840.1/1.2.840.1.1", "s", "a/b/c/d"])
def test_patient_study_series_is_one_patient(below: str, tmp_path: Path) -> None:
    names = [*join(["COVID"], ["P17", "P18"], [below], TWO), *join(["Normal"], ["P81"], [below, "other"], TWO)]
    manifest = read(fill(tmp_path / "x", *names))
    assert listed(manifest) == {name: (*name.split("/")[:2], None) for name in names}
    assert manifest.found.layout == "CLASS/PATIENT/.../slice"


def test_images_are_looked_through_and_masks_are_left_out_and_told(tmp_path: Path) -> None:
    manifest = read(fill(tmp_path / "x", *join(AB, ["images", "masks"], TWO), "COVID.metadata.xlsx"))
    assert listed(manifest) == {name: (name.split("/")[0], None, None) for name in join(AB, ["images"], TWO)}
    assert [line.partition("x/")[2] for line in manifest.found.left_out] == [
        "COVID/masks (2 files): masks are not read",
        "Normal/masks (2 files): masks are not read",
    ]


def test_mosmeddata_is_read_as_it_is_unpacked(tmp_path: Path) -> None:
    studies = [f"studies/CT-{grade}/study_{grade * 3 + k:04}.nii.gz" for grade in range(5) for k in range(3)]
    extras = ["LICENSE", "README_EN.md", "README_RU.pdf", "dataset_registry.xlsx", "masks/study_0003_mask.nii.gz"]
    manifest = read(fill(tmp_path / "COVID19_1110", *studies, *extras))
    assert manifest.classes == tuple(f"CT-{grade}" for grade in range(5))
    assert listed(manifest) == {
        name.removeprefix("studies/"): (name.split("/")[1], Path(name).name.removesuffix(".nii.gz"), None)
        for name in studies
    }
    assert manifest.found.layout == "CLASS/volume" and "masks are not read" in manifest.found.left_out[0]


def test_volumes_in_patient_folders_belong_to_these(tmp_path: Path) -> None:
    names = ["a/A17/1.nii", "a/A17/2.nii", "b/B3/x.nii.gz"]
    assert [p for _, p, _ in listed(read(fill(tmp_path / "x", *names))).values()] == ["A17", "A17", "B3"]


# -- archives in a folder


@pytest.mark.parametrize("inside", ["", "CT/", "CT_{}/"])
def test_one_archive_a_class_is_taken(inside: str, tmp_path: Path) -> None:
    for label in AB:
        zip_files(tmp_path / "x" / f"{label}.zip", *(inside.format(label) + name for name in TWO))
    manifest = read(tmp_path / "x")
    assert listed(manifest) == {name: (name.split("/")[0], None, None) for name in join(AB, TWO)}
    assert [item.path.read_text() for item in manifest.slices] == [
        f"{label}.zip {inside.format(label)}{name}" for label in AB for name in TWO
    ]


def test_identical_archives_of_two_classes_are_an_error(tmp_path: Path) -> None:
    shutil.copy(zip_files(tmp_path / "x" / "a.zip", *TWO), tmp_path / "x" / "b.zip")
    with pytest.raises(ValueError, match=r"a\.zip and .*b\.zip are identical archives"):
        read(tmp_path / "x")


def test_one_archive_a_split_is_taken_and_one_archive_alone_is_gone_through(tmp_path: Path) -> None:
    for split in ("train", "test"):
        zip_files(tmp_path / "x" / f"{split}.zip", *join([split], AB, TWO))
    zip_files(tmp_path / "y" / "archive.zip", *join(["top"], ["train", "test"], AB, TWO))
    assert listed(read(tmp_path / "x")) == listed(read(tmp_path / "y"))


# -- patients of one name


def test_patients_counted_from_one_in_each_class_are_different_people_and_it_warns(tmp_path: Path) -> None:
    root = fill(tmp_path / "x", *join(["Covid", "Healthy", "Others"], [f"Patient ({n})" for n in range(1, 7)], TWO))
    manifest = read(root)
    assert len({item.patient for item in manifest.slices}) == 18
    (warning,) = manifest.found.warnings
    assert "18 in all" in warning and "--patient-from '^[^/]+/([^/]+)'" in warning
    assert len({item.patient for item in read(root, patient_from="^[^/]+/([^/]+)").slices}) == 6


def test_patients_of_one_name_in_several_classes_are_one_person_and_it_warns(tmp_path: Path) -> None:
    root = fill(tmp_path / "x", *join(["a"], ["MR-7713", "MR-8"], TWO), *join(["b"], ["MR-7713", "MR-99"], TWO))
    manifest = read(root)
    assert {item.patient for item in manifest.slices} == {"MR-7713", "MR-8", "MR-99"}
    (warning,) = manifest.found.warnings
    assert "3 in all" in warning and "--patient-from '^[^/]+/[^/]+'" in warning
    assert len({item.patient for item in read(root, patient_from="^[^/]+/[^/]+").slices}) == 4


def test_folders_that_differ_in_form_only_are_one_class_and_one_patient(tmp_path: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "caf\u00e9") for form in ("NFC", "NFD"))
    names = [f"train/{composed}/1.png", f"test/{decomposed}/2.png", "train/viral p/3.png", "test/viral\u00a0p/4.png"]
    manifest = read(fill(tmp_path / "x", *names))
    assert manifest.classes == (composed, "viral p") and len(manifest.slices) == 4
    patients = read(fill(tmp_path / "y", "a/007/1.png", "a/7/2.png", "a/x 1/3.png", "a/X\u00a01/4.png", "b/8/5.png"))
    assert len({item.patient for item in patients.slices}) == 3


# -- what is no slice's


def test_hidden_and_system_files_are_ignored(tmp_path: Path) -> None:
    extras = [
        *("Icon\r", "COVID/Icon\r", ".DS_Store", "COVID/._0.png", "Thumbs.db", "Normal/desktop.ini", "@eaDir/x"),
        *("$RECYCLE.BIN/x", "System Volume Information/x", "COVID/0.png:Zone.Identifier", "~$labels.xlsx"),
        *("lost+found/", ".ipynb_checkpoints/0.png", "__MACOSX/COVID/._0.png", "COVID/@eaDir/0.png/x", "LICENSE"),
    ]
    assert list(listed(read(fill(tmp_path / "x", *join(AB, TWO), *extras)))) == join(AB, TWO)


def test_names_in_messages_are_printable_and_on_one_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"stray\\n\\x1b\[31m\\u202e\.png lies beside") as caught:
        read(fill(tmp_path / "x", *join(AB, TWO), "stray\n\x1b[31m\u202e.png"))
    assert str(caught.value).isprintable()
    fill(tmp_path / "y", *join(AB, TWO))
    (tmp_path / "y" / "b\udcff.txt.raw").write_bytes(b"")
    with pytest.raises(ValueError, match=r"b\\udcff\.txt\.raw lies beside"):
        read(tmp_path / "y")


# -- asked or refused


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            [*join(["train", "test", "extra"], AB, TWO)],
            r"named like splits \(test, train\) and some .*\(extra\)",
        ),
        ([*join(["train"], AB, TWO), "test/0.png"], r"x/test is named like a split and holds slices .* without class"),
        ([*join(["train"], AB, TWO), "test/"], r"x/test is named like a split and is empty"),
        ([*join(["a"], ["train", "test"], TWO), *join(["b"], TWO)], r"a has a folder per split, .*b has none"),
        ([*join(["a"], ["train", "more"], TWO), *join(["b"], TWO)], r"x/a some are named like splits .*\(more\)"),
        (join(["train", "test"], ["images", "labels"], TWO), r"test is named like a split and holds slices"),
        (
            join(["Wuhan", "Milan"], AB, TWO),
            r"are the classes\? Milan, Wuhan hold .*\(COVID, Normal\)",
        ),
        (join(["Ann", "Bob", "Cy"], AB, TWO), r"which folders of .* are the classes\? Ann, Bob, Cy hold"),
        (join(AB, ["axial"], TWO), r"which folders of .* are the classes\? .*\(axial\).*--patient-from"),
        (join(["hospital A", "hospital B"], AB, TWO), r"look like patients, studies or parts of a set"),
        (join(["fold0", "fold1", "fold2"], ["0", "1"], TWO), r"look like patients, studies or parts"),
        (join(["HAM10000_images_part_1", "HAM10000_images_part_2"], TWO), r"look like patients, studies or parts"),
        (join(["images_001", "images_002"], TWO), r"look like patients, studies or parts"),
        (join([f"Patient {n}" for n in range(4)], TWO), r"look like patients, studies or parts"),
        (join(["COVID"], ["P1", "P2"], TWO), r"COVID \(P1, P2\) look like patients"),
        (join(["LIDC"], [f"LIDC-IDRI-{n:04}" for n in range(30)], ["1.2/1.3"], TWO), r"LIDC .* look like patients"),
        (join(["1.2.840.1.1.7", "1.2.840.1.1.8"], ["1.2.3/4"], TWO), r"look like patients"),
        (join(["R01-001", "R01-002", "R01-010"], ["study"], TWO), r"look like patients"),
        (join(["images", "masks"], TWO), r"\(images, masks\) are no classes"),
        (["0.png", "1.png"], r"x holds 2 files \(0\.png\) and no class folders"),
        ([*join(["images"], TWO), "labels.xlsx"], r"labels\.xlsx is a spreadsheet, .*save it as CSV"),
        (["COVID.7z", "Normal.7z"], r"no class folders; unpack COVID\.7z"),
        (["COVID.zip.001", "COVID.zip.002"], r"no class folders; unpack COVID\.zip\.001"),
        (["COVID/1.png", "Normal/1.png", "all.tar.zst"], r"unpack all\.tar\.zst or move"),
        (
            ["COVID/1.png", "Normal/1.png", "all.zip"],
            r"all\.zip lies beside the class folders .*unpack all\.zip or move",
        ),
        (["Non-COVID/1.png", "NonCOVID/2.png", "COVID/3.png"], r"Non-COVID and NonCOVID differ in case"),
        (["a/1.png", "a/2.nii.gz", "b/1.png"], r"2\.nii\.gz .*is a volume, .*1\.png .*is a slice"),
    ],
)
def test_what_is_unclear_is_refused_in_one_line(names: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        read(fill(tmp_path / "x", *names))
    assert str(caught.value).isprintable()


def test_who_names_the_patients_says_which_level_is_the_classes(tmp_path: Path) -> None:
    root = fill(tmp_path / "x", *join(["Milan", "Wuhan"], ["anna", "bert"], TWO))
    assert read(root, patient_from="^[^/]+/[^/]+").classes == ("Milan", "Wuhan")


def test_a_link_that_leads_up_is_an_error_and_others_are_followed(tmp_path: Path) -> None:
    root = fill(tmp_path / "x", *join(AB, TWO))
    fill(tmp_path / "store", "2.png")
    (root / "more").symlink_to(tmp_path / "store")
    assert read(root).classes == ("COVID", "Normal", "more")
    (root / "COVID" / "up").symlink_to(root)
    with pytest.raises(ValueError, match="up is a link to a folder that holds it"):
        read(root)
    circle = fill(tmp_path / "y", *join(AB, ["P1"], TWO))
    for one, other in (AB, AB[::-1]):
        (circle / one / "P1" / "next").symlink_to(circle / other / "P1")
    with pytest.raises(ValueError, match="next/next is a link to a folder that holds it"):
        read(circle)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("data.7z", b"7z\xbc\xaf\x27\x1c"),
        ("data.rar", b"x"),
        ("data.part1.rar", b"x"),
        ("data.tar.zst", b"x"),
        ("data.zip", b"7z\xbc\xaf\x27\x1c"),
        ("data", b"Rar!\x1a\x07\x01"),
        ("labels.csv", b"\x28\xb5\x2f\xfd"),
    ],
)
def test_an_archive_that_is_not_read_is_refused_with_what_to_do(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=r"an archive of a kind that is not read .*unpack it .*7z x .*give the folder"):
        read(tmp_path / name)
