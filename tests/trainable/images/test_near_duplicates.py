"""Near-duplicates: found through re-encoding, rescaling, cropping and brightness; named pairs of COVID-CT."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from trainable.images.decode import decode_grey, decode_slice, resize_grey
from trainable.images.near_duplicates import (
    PICTURE_SIZE,
    SAME_SCAN,
    SAME_SLICE,
    cluster,
    find_near_duplicates,
    group_scans,
)


def to_jpeg(image: Image.Image) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=40)
    return Image.open(file).convert("L")


def crop(image: Image.Image, share: float) -> Image.Image:
    width, height = image.size
    left, top = round(share * width), round(share * height)
    return image.crop((left, top, width - left, height - top))


CHANGES = {
    "re-encoded": to_jpeg,
    "rescaled": lambda image: image.resize((max(24, image.width // 3), max(24, image.height // 3))),
    "cropped": lambda image: crop(image, 0.01),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.3),
    "flatter": lambda image: ImageEnhance.Contrast(image).enhance(0.6),
}


@pytest.fixture(scope="module")
def covid_ct(shared_data: Path) -> tuple[list[dict[str, str]], np.ndarray]:
    with (shared_data / "covid-ct" / "manifest.csv").open() as file:
        rows = list(csv.DictReader(file))
    return rows, np.stack([decode_slice(shared_data / "covid-ct" / row["path"], PICTURE_SIZE) for row in rows])


def test_across_patients_of_covid_ct_exactly_the_two_named_pairs_are_found(
    covid_ct: tuple[list[dict[str, str]], np.ndarray],
) -> None:
    rows, pictures = covid_ct
    names = [Path(row["path"]).name for row in rows]
    found = {
        frozenset((names[i], names[j]))
        for i, j, _ in find_near_duplicates(pictures)
        if rows[i]["patient"] != rows[j]["patient"]
    }
    assert found == {
        frozenset(("kjr-21-e24-p5-29.png", "71%0.jpg")),
        frozenset(("kjr-21-e24-p5-31.png", "71%1.jpg")),
    }


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_of_a_real_slice_is_found(
    change: str, shared_data: Path, covid_ct: tuple[list[dict[str, str]], np.ndarray]
) -> None:
    rows, pictures = covid_ct
    chosen = range(0, len(rows), 12)
    copies = [
        resize_grey(CHANGES[change](decode_grey(shared_data / "covid-ct" / rows[i]["path"])), PICTURE_SIZE)
        for i in chosen
    ]
    originals = pictures[list(chosen)]
    found = {(i, j) for i, j, _ in find_near_duplicates(np.concatenate([originals, np.stack(copies)]))}
    num_found = sum((k, k + len(chosen)) in found for k in range(len(chosen)))
    assert num_found >= 0.95 * len(chosen)


def test_made_slices_of_different_patients_are_no_near_duplicates(made_folder: Path) -> None:
    paths = sorted(made_folder.glob("*/*/*.png"))
    pairs = find_near_duplicates(np.stack([decode_slice(path, PICTURE_SIZE) for path in paths]))
    assert all(paths[i].parent == paths[j].parent for i, j, _ in pairs)


def test_pairs_are_the_same_in_blocks_and_sorted(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    base = rng.integers(0, 256, (6, 16, 16), dtype=np.uint8)
    pictures = np.stack([np.array(Image.fromarray(base[k % 6]).resize((64, 64))) for k in range(15)])
    whole = find_near_duplicates(pictures)
    monkeypatch.setattr("trainable.images.near_duplicates._BLOCK", 4)
    blocks = find_near_duplicates(pictures)
    assert [pair[:2] for pair in whole] and {pair[:2] for pair in whole} == {pair[:2] for pair in blocks}
    assert all(i < j and j % 6 == i % 6 for i, j, _ in whole)


def test_blank_pictures_are_like_nothing() -> None:
    assert find_near_duplicates(np.zeros((3, 64, 64), dtype=np.uint8)) == []


def test_other_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"must be uint8 \(N, 64, 64\)"):
        find_near_duplicates(np.zeros((3, 32, 32), dtype=np.uint8))


def test_clusters_are_connected_pictures_numbered_by_appearance() -> None:
    assert cluster([(4, 1), (1, 3)], 6).tolist() == [0, 1, 2, 1, 1, 3]


def test_clusters_that_swallow_the_set_fall_back_to_the_strict_pairs() -> None:
    chain = [(k, k + 1, SAME_SCAN) for k in range(9)]
    assert len(set(group_scans([*chain, (0, 9, SAME_SLICE)], 10))) == 9
    assert len(set(group_scans([(0, 1, SAME_SCAN)], 10))) == 9
