"""The front door: what is refused, what is taken out, what is written once, and what stays sealed."""

from __future__ import annotations

import csv
import pickle
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from trainable.images.decode import decode_slice
from trainable.images.mapped import open_pixels
from trainable.images.near_duplicates import judge_pairs
from trainable.images.prepare import PreparedData, open_sealed_test, prepare_data
from trainable.images.reading import Reading
from trainable.images.splits import read_splits


def prepare(data: Path, home: Path, **options: Any) -> PreparedData:
    options = {"image_size": 32, "seed": 0, "num_workers": 2} | options
    return prepare_data(data, cache_dir=home / "cache", splits_file=home / "splits.csv", **options)


def write_image(path: Path, seed: int) -> Path:
    """An image like no other: blocks of random grey."""
    path.parent.mkdir(parents=True, exist_ok=True)
    blocks = np.random.default_rng(seed).integers(0, 256, (12, 12), dtype=np.uint8)
    Image.fromarray(blocks).resize((64, 64), Image.Resampling.BICUBIC).save(path)
    return path


@pytest.fixture
def patients_folder(tmp_path: Path) -> Path:
    """Two classes of eight patients with two slices each."""
    for number in range(32):
        label, patient, name = ("sick", "well")[number % 2], number // 2 % 16, number // 16
        write_image(tmp_path / "data" / label / f"p{patient:02d}" / f"{name}.png", number)
    return tmp_path / "data"


@pytest.fixture
def flat_folder(tmp_path: Path) -> Path:
    """Two classes of twelve slices without patients."""
    for number in range(24):
        write_image(tmp_path / "data" / ("sick", "well")[number % 2] / f"{number}.png", number)
    return tmp_path / "data"


def write_manifest(root: Path, rows: list[tuple[str, str, str, str]]) -> Path:
    with (root / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label", "patient", "split"), *rows])
    return root / "manifest.csv"


def split_rows(root: Path) -> list[tuple[str, str, str, str]]:
    """Sixteen unlike images, each of its own patient, in all classes and splits."""
    rows = []
    for number in range(16):
        write_image(root / f"{number}.png", number)
        split = ("train", "train", "val", "test")[number // 2 % 4]
        rows.append((f"{number}.png", ("sick", "well")[number % 2], f"p{number}", split))
    return rows


@pytest.fixture(scope="module")
def covid_ct(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, PreparedData]:
    home = tmp_path_factory.mktemp("covid-ct")
    return home, prepare(shared_data / "covid-ct" / "manifest.csv", home)


def test_covid_ct_keeps_its_published_split(covid_ct: tuple[Path, PreparedData]) -> None:
    home, prepared = covid_ct
    assert Counter(row.split for row in read_splits(home / "splits.csv")) == {
        "train": 425,
        "val": 118,
        "test": 203,
    }
    assert prepared.grouped_by == "patient" and prepared.audit.num_patients == 384
    assert prepared.warnings == ()


def test_the_named_pairs_of_covid_ct_leave_train_and_stay_in_test(
    covid_ct: tuple[Path, PreparedData],
) -> None:
    home, prepared = covid_ct
    rows = {row.path.name: row for row in read_splits(home / "splits.csv")}
    twice = {f"2020.03.22.20040782-p24-1533-{number}.png" for number in (1, 4, 5, 6, 7)}
    assert {name for name, row in rows.items() if not row.kept} == {"71%0.jpg", "71%1.jpg", *twice}
    flagged = {name for name, row in rows.items() if row.split == "test" and row.near_duplicate}
    others = {f"2020.03.22.20040782-p25-{number}.png" for number in range(1542, 1547)}
    assert flagged == {"kjr-21-e24-p5-29.png", "kjr-21-e24-p5-31.png", *others}
    training = prepared.training
    assert open_pixels(Path(training.pixels_path)).shape == (536, 32, 32)
    assert training.is_val.sum() == 113 and len(training.labels) == 536
    assert training.classes[training.positive] == "COVID"


def test_the_test_split_of_covid_ct_is_kept_whole_and_sealed(covid_ct: tuple[Path, PreparedData]) -> None:
    home, prepared = covid_ct
    test = [row for row in read_splits(home / "splits.csv") if row.split == "test"]
    assert Counter(row.label for row in test) == {"COVID": 98, "NonCOVID": 105}
    assert sum(row.near_duplicate for row in test) == 7
    assert len({row.group for row in test}) == 95
    assert not {row.group for row in test} & set(prepared.training.groups.tolist())


def test_the_sealed_test_of_the_made_set_holds_all_of_it(synthetic_folder: Path, tmp_path: Path) -> None:
    prepared = prepare(synthetic_folder, tmp_path)
    test = [row for row in read_splits(tmp_path / "splits.csv") if row.split == "test"]
    sealed = open_sealed_test(tmp_path / "splits.csv", cache_dir=tmp_path / "cache", image_size=32)
    assert test
    assert sealed.pixels.shape == (len(test), 32, 32)
    assert Counter(sealed.labels.tolist()) == Counter(int(row.label == "normal") for row in test)
    assert sealed.groups.tolist() == [row.group for row in test]
    assert not set(sealed.groups) & set(prepared.training.groups)


def test_odd_files_of_covid_ct_are_counted(covid_ct: tuple[Path, PreparedData]) -> None:
    odd = covid_ct[1].audit.odd_files
    assert odd["JPEG data in a .png"].count > 0
    assert odd["mode RGB, not 8-bit grey"].count > 0
    assert len(covid_ct[1].audit.lines()) <= 20


def test_patients_stay_together_and_pixels_are_those_of_the_rows(patients_folder: Path, tmp_path: Path) -> None:
    prepared = prepare(patients_folder, tmp_path)
    rows = read_splits(tmp_path / "splits.csv")
    assert all(len({row.split for row in rows if row.group == group}) == 1 for group in range(16))
    shown = [row for split in ("train", "val") for row in rows if row.split == split]
    pixels = open_pixels(Path(prepared.training.pixels_path))
    for pixel, row, is_val in zip(pixels, shown, prepared.training.is_val, strict=True):
        np.testing.assert_array_equal(pixel, decode_slice(row.path, 32))
        assert is_val == (row.split == "val")


def test_training_data_is_small_and_names_no_patient(patients_folder: Path, tmp_path: Path) -> None:
    pickled = pickle.dumps(prepare(patients_folder, tmp_path).training)
    assert len(pickled) < 5000 and b"p03" not in pickled


def test_without_patients_groups_are_clusters_and_it_warns(flat_folder: Path, tmp_path: Path) -> None:
    image = Image.open(flat_folder / "sick" / "0.png")
    image.resize((48, 48)).save(flat_folder / "sick" / "copy.png")
    prepared = prepare(flat_folder, tmp_path)
    assert prepared.grouped_by == "runs" and prepared.audit.num_patients is None
    assert "may be inflated" in prepared.warnings[0]
    rows = {row.path.name: row for row in read_splits(tmp_path / "splits.csv")}
    assert rows["0.png"].group == rows["copy.png"].group
    assert rows["0.png"].split == rows["copy.png"].split


def test_the_same_seed_gives_the_same_data_hash_at_every_size(patients_folder: Path, tmp_path: Path) -> None:
    hashes = [
        prepare(patients_folder, tmp_path / name, seed=seed, image_size=size).training.data_hash
        for name, seed, size in (("a", 0, 32), ("b", 0, 48), ("c", 1, 32))
    ]
    assert len(hashes[0]) == 16 and hashes[0] == hashes[1] != hashes[2]


def test_resume_takes_the_same_rows_whatever_the_seed(patients_folder: Path, tmp_path: Path) -> None:
    first = prepare(patients_folder, tmp_path)
    text = (tmp_path / "splits.csv").read_text()
    write_image(patients_folder / "sick" / "new" / "new.png", 99)
    second = prepare(patients_folder, tmp_path, seed=5)
    assert (tmp_path / "splits.csv").read_text() == text
    assert second.training.data_hash == first.training.data_hash
    assert second.training.pixels_path == first.training.pixels_path


@pytest.mark.parametrize("change", ["rewritten", "removed"])
def test_resume_names_a_file_that_is_no_longer_what_it_was(change: str, patients_folder: Path, tmp_path: Path) -> None:
    prepare(patients_folder, tmp_path)
    victim = next(patients_folder.glob("*/p04/1.png"), None) or next(patients_folder.glob("*/p04/*.png"))
    if change == "rewritten":
        write_image(victim, 99)
    else:
        victim.unlink()
    with pytest.raises(ValueError, match=r"p04/\d.png"):
        prepare(patients_folder, tmp_path)


def test_how_the_data_was_read_is_known_before_a_later_check_fails(tmp_path: Path) -> None:
    for number, split in enumerate(("train", "train", "val", "val")):
        write_image(tmp_path / "data" / split / ("sick", "well")[number % 2] / "0.png", number)
    readings: list[Reading] = []
    with pytest.raises(ValueError, match="the splits given have no test, only train, val; add it, or name val test"):
        prepare(tmp_path / "data", tmp_path, on_reading=readings.append)
    assert [line for reading in readings for line in reading.lines() if "splits" in line] == [
        "  splits    train is train, val is val"
    ]


def test_a_bad_image_is_an_error_or_is_skipped_and_counted(patients_folder: Path, tmp_path: Path) -> None:
    (patients_folder / "sick" / "p00" / "bad.png").write_bytes(b"no picture")
    (patients_folder / "well" / "p01" / "bad.png").write_bytes(b"none either")
    with pytest.raises(ValueError, match=r"p00/bad.png.*2 of 34 files.*--skip-bad-images"):
        prepare(patients_folder, tmp_path)
    assert not (tmp_path / "splits.csv").exists()
    prepared = prepare(patients_folder, tmp_path, skip_bad_images=True)
    assert prepared.audit.skipped.count == 2 and prepared.audit.num_slices == 32


def test_identical_files_in_two_splits_are_an_error_naming_both(tmp_path: Path) -> None:
    rows = split_rows(tmp_path)
    shutil.copy(tmp_path / "0.png", tmp_path / "6.png")  # train and test, both sick
    with pytest.raises(ValueError, match=r"0.png \(train\) and .*6.png \(test\) are identical"):
        prepare(write_manifest(tmp_path, rows), tmp_path)


def test_identical_files_of_two_classes_are_an_error_naming_both(tmp_path: Path) -> None:
    rows = split_rows(tmp_path)
    shutil.copy(tmp_path / "0.png", tmp_path / "1.png")
    with pytest.raises(ValueError, match=r"0.png \(sick\) and .*1.png \(well\) are identical"):
        prepare(write_manifest(tmp_path, rows), tmp_path)


def test_one_file_under_two_patients_ties_them_when_splits_are_drawn(patients_folder: Path, tmp_path: Path) -> None:
    shutil.copy(patients_folder / "sick" / "p00" / "0.png", patients_folder / "sick" / "p02" / "0.png")
    for seed in range(5):
        prepared = prepare(patients_folder, tmp_path / str(seed), seed=seed)
        assert len(prepared.audit.identical_files) == 1


def test_one_patient_in_two_splits_is_an_error(tmp_path: Path) -> None:
    rows = split_rows(tmp_path)
    rows[6] = (*rows[6][:2], "p0", "test")
    with pytest.raises(ValueError, match=r"0.png \(train\) and .*6.png \(test\) are of one patient"):
        prepare(write_manifest(tmp_path, rows), tmp_path)


@pytest.mark.parametrize(
    ("splits", "labels", "taken_out", "crossing"),
    [
        (("train", "test"), ("sick", "sick"), {0}, {0, 1}),
        (("val", "test"), ("sick", "well"), {0}, {0, 1}),
        (("val", "train"), ("sick", "sick"), {1}, {0, 1}),
        (("train", "train"), ("sick", "well"), {0, 1}, {0, 1}),
        (("test", "test"), ("sick", "well"), set(), set()),
        (("train", "train"), ("sick", "sick"), set(), set()),
    ],
)
def test_near_duplicates_leave_train_and_val_but_never_test(
    splits: tuple[str, str], labels: tuple[str, str], taken_out: set[int], crossing: set[int]
) -> None:
    assert judge_pairs([(0, 1, 0.99)], splits, labels) == (taken_out, crossing)
