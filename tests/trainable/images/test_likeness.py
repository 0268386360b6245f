from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.not_ct import count_flagged, draw_kind, save_to_bytes
from trainable.images.decode import decode_slice
from trainable.images.likeness import LEAST_COLOUR_LIMIT, Likeness, fit_likeness
from trainable.images.prepare import TrainingData, prepare_data
from trainable.images.splits import read_splits

SIZE = 64


@pytest.fixture(scope="module")
def synthetic(
    synthetic_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[TrainingData, dict[str, list[Path]]]:
    """The synthetic set's training data, and its files by split."""
    folder = tmp_path_factory.mktemp("likeness")
    splits = folder / "splits.csv"
    prepared = prepare_data(synthetic_folder, cache_dir=folder / "cache", splits_file=splits, image_size=SIZE, seed=0)
    rows = read_splits(splits)
    files = {split: [row.path for row in rows if row.split == split and row.kept] for split in ("train", "val", "test")}
    return prepared.training, files


@pytest.fixture(scope="module")
def learnt(synthetic: tuple[TrainingData, dict[str, list[Path]]]) -> Likeness:
    data, files = synthetic
    return fit_likeness(data, [*files["train"], *files["val"]])


def test_slices_of_other_patients_are_not_doubted(
    learnt: Likeness, synthetic: tuple[TrainingData, dict[str, list[Path]]]
) -> None:
    assert count_flagged(learnt, synthetic[1]["test"], SIZE) <= 0.05


@pytest.mark.parametrize("kind", ["photos", "grey photos", "noise", "pages", "digits", "blank"])
def test_what_is_no_slice_is_doubted(learnt: Likeness, kind: str) -> None:
    images = [save_to_bytes(image) for image in draw_kind(kind, 60)]
    assert count_flagged(learnt, images, SIZE) >= 0.95


def test_real_slices_pass_and_photos_noise_and_text_do_not(shared_data: Path, tmp_path: Path) -> None:
    """What a search would learn from the training slices, on validation slices: those of other patients."""
    folder = shared_data / "covid-ct"
    with (folder / "manifest.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["split"] != "test"]
    files = {split: [folder / row["path"] for row in rows if row["split"] == split] for split in ("train", "val")}
    _, groups = np.unique([row["patient"] for row in rows if row["split"] == "train"], return_inverse=True)
    np.save(tmp_path / "pixels.npy", np.stack([decode_slice(path, SIZE) for path in files["train"]]))
    data = TrainingData(
        name="covid-ct",
        data_hash="",
        classes=("a", "b"),
        positive=0,
        image_size=SIZE,
        pixels_path=str(tmp_path / "pixels.npy"),
        labels=np.zeros(len(groups), np.int64),
        is_val=np.zeros(len(groups), bool),
        groups=groups,
    )
    learnt = fit_likeness(data, files["train"])
    assert count_flagged(learnt, files["val"], SIZE) <= 0.05
    for kind in ("photos", "noise", "pages"):
        images = [save_to_bytes(image) for image in draw_kind(kind, 60)]
        assert count_flagged(learnt, images, SIZE) >= 0.95


def test_a_reason_names_what_is_unlike_and_the_limit(learnt: Likeness) -> None:
    photo, noise = (next(iter(draw_kind(kind, 1))).convert("L").resize((SIZE, SIZE)) for kind in ("photos", "noise"))
    pixels = np.stack([np.asarray(photo), np.asarray(noise)])
    coloured, plain = learnt.doubt(pixels, [0.83, 0.0])
    assert coloured == "83% of it is coloured, of a slice at most 5%"
    assert "of a slice" not in plain
    assert "at most" in plain


@pytest.mark.parametrize("num_groups", [1, 2])
def test_few_patients_slices_that_are_all_alike_and_files_that_are_gone_can_be_learnt_from(
    num_groups: int, synthetic: tuple[TrainingData, dict[str, list[Path]]], tmp_path: Path
) -> None:
    data = synthetic[0]
    few = replace(data, groups=np.arange(len(data.groups)) % num_groups)
    assert fit_likeness(few, [Path("gone.png")]).limits["colour"] == LEAST_COLOUR_LIMIT
    np.save(tmp_path / "alike.npy", np.full((len(data.groups), SIZE, SIZE), 7, np.uint8))
    alike = fit_likeness(replace(few, pixels_path=str(tmp_path / "alike.npy")), [])
    assert np.isfinite(list(alike.limits.values())).all()


def test_what_was_learnt_survives_its_file(learnt: Likeness, tmp_path: Path) -> None:
    file = tmp_path / "likeness.json"
    assert Likeness.load(file) is None
    file.write_text(learnt.to_json())
    again = Likeness.load(file)
    assert again is not None
    pixels = np.random.default_rng(0).integers(0, 256, (4, SIZE, SIZE), dtype=np.uint8)
    for name, values in learnt.measure(pixels).items():
        np.testing.assert_array_equal(again.measure(pixels)[name], values)


@pytest.mark.parametrize("change", [{"limits": {}}, {"prototypes": None}, {"extra": 1}])
def test_a_damaged_file_is_a_value_error(learnt: Likeness, change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="damaged"):
        Likeness.from_json(json.dumps(json.loads(learnt.to_json()) | change))
