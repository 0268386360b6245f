"""Near-duplicates: found through every change that keeps a slice what it is; the slices that COVID-CT has twice."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from trainable.images.decode import decode_grey, decode_slice, resize_grey
from trainable.images.near_duplicates import (
    SAME_SCAN,
    SAME_SLICE,
    THUMBNAIL_SIZE,
    cluster,
    find_near_duplicates,
    group_scans,
)


def to_jpeg(image: Image.Image) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=40)
    return Image.open(file).convert("L")


def crop(image: Image.Image, left: float, top: float, right: float, bottom: float) -> Image.Image:
    width, height = image.size
    return image.crop(
        (round(left * width), round(top * height), width - round(right * width), height - round(bottom * height))
    )


def shift(image: Image.Image, across: float, down: float) -> Image.Image:
    offsets = (1, 0, -across * image.width, 0, 1, -down * image.height)
    return image.transform(image.size, Image.Transform.AFFINE, offsets)


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "re-encoded": to_jpeg,
    "rescaled": lambda image: image.resize((max(24, image.width // 3), max(24, image.height // 3))),
    "cropped all round": lambda image: crop(image, 0.03, 0.03, 0.03, 0.03),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.3),
    "flatter": lambda image: ImageEnhance.Contrast(image).enhance(0.6),
    "mirrored": ImageOps.mirror,
    "upside down": ImageOps.flip,
    "turned by 90 degrees": lambda image: image.transpose(Image.Transpose.ROTATE_90),
    "turned by 180 degrees": lambda image: image.transpose(Image.Transpose.ROTATE_180),
    "turned by 270 degrees": lambda image: image.transpose(Image.Transpose.ROTATE_270),
    "transposed": lambda image: image.transpose(Image.Transpose.TRANSPOSE),
    "inverted": ImageOps.invert,
    "shifted by 4 %": lambda image: shift(image, 0.04, -0.04),
    "turned by 5 degrees": lambda image: image.rotate(5, Image.Resampling.BILINEAR),
    "cropped at one corner": lambda image: crop(image, 0.08, 0.08, 0, 0),
    "bordered": lambda image: ImageOps.expand(image, round(0.05 * image.width), fill=0),
    "mirrored, inverted, cropped at a corner": lambda image: ImageOps.invert(
        crop(ImageOps.mirror(image), 0, 0.05, 0.05, 0)
    ),
}
PRINTED_TWICE = [("1533-1", "1542"), ("1533-2", "1541"), ("1533-4", "1545")] + [
    (f"1533-{number}", other) for number, other in ((5, "1544"), (6, "1543"), (7, "1546"))
]


@pytest.fixture(scope="module")
def covid_ct(shared_data: Path) -> tuple[list[dict[str, str]], np.ndarray]:
    with (shared_data / "covid-ct" / "manifest.csv").open() as file:
        rows = list(csv.DictReader(file))
    return rows, np.stack([decode_slice(shared_data / "covid-ct" / row["path"], THUMBNAIL_SIZE) for row in rows])


def test_across_patients_of_covid_ct_exactly_the_slices_that_were_printed_twice_are_found(
    covid_ct: tuple[list[dict[str, str]], np.ndarray],
) -> None:
    rows, images = covid_ct
    names = [Path(row["path"]).name for row in rows]
    found = {
        frozenset((names[i], names[j]))
        for i, j, _ in find_near_duplicates(images)
        if rows[i]["patient"] != rows[j]["patient"]
    }
    known = {
        frozenset(("kjr-21-e24-p5-29.png", "71%0.jpg")),
        frozenset(("kjr-21-e24-p5-31.png", "71%1.jpg")),
    }
    prefix = "2020.03.22.20040782-p"
    known |= {frozenset((f"{prefix}24-{one}.png", f"{prefix}25-{two}.png")) for one, two in PRINTED_TWICE}
    assert found == known


@pytest.fixture(scope="module")
def originals(covid_ct: tuple[list[dict[str, str]], np.ndarray]) -> tuple[list[str], np.ndarray]:
    """The first slice of each patient in train and val: path and pixels."""
    rows, images = covid_ct
    first: dict[str, int] = {}
    for index, row in enumerate(rows):
        if row["split"] != "test":
            first.setdefault(row["patient"], index)
    chosen = sorted(first.values())
    return [rows[index]["path"] for index in chosen], images[chosen]


@pytest.mark.parametrize("change", CHANGES)
def test_of_25_changed_copies_of_real_slices_23_are_found_and_no_other_slice_is_taken_for_one(
    change: str, shared_data: Path, originals: tuple[list[str], np.ndarray]
) -> None:
    paths, images = originals
    chosen = np.random.default_rng(7).choice(len(paths), 25, replace=False)
    copies = np.stack(
        [
            resize_grey(CHANGES[change](decode_grey(shared_data / "covid-ct" / paths[index])), THUMBNAIL_SIZE)
            for index in chosen
        ]
    )
    found = {(i, j) for i, j, _ in find_near_duplicates(np.concatenate([images, copies])) if j >= len(paths)}
    right = {(index, len(paths) + number) for number, index in enumerate(chosen)}
    assert len(found & right) >= 23
    printed_twice = {i for i, j, _ in find_near_duplicates(images)} | {j for _, j, _ in find_near_duplicates(images)}
    assert {pair for pair in found - right if chosen[pair[1] - len(paths)] not in printed_twice} == set()


def test_made_slices_of_different_patients_are_no_near_duplicates(synthetic_folder: Path) -> None:
    paths = sorted(synthetic_folder.glob("*/*/*.png"))
    pairs = find_near_duplicates(np.stack([decode_slice(path, THUMBNAIL_SIZE) for path in paths]))
    assert all(paths[i].parent == paths[j].parent for i, j, _ in pairs)


def test_pairs_are_the_same_in_blocks_and_sorted(synthetic_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slices = np.stack([decode_slice(path, THUMBNAIL_SIZE) for path in sorted(synthetic_folder.glob("*/*/*.png"))[:12]])
    images = np.concatenate([slices, np.rot90(slices, axes=(1, 2)), 255 - slices])
    whole = find_near_duplicates(images)
    monkeypatch.setattr("trainable.images.spectra._BLOCK", 5)
    monkeypatch.setattr("trainable.images.registration._CHUNK", 3)
    blocks = find_near_duplicates(images)
    assert {pair[:2] for pair in whole} == {pair[:2] for pair in blocks}
    assert {(i, j) for i in range(12) for j in (i + 12, i + 24)} <= {pair[:2] for pair in whole}
    assert all(i < j for i, j, _ in whole)
    assert [pair[2] for pair in whole] == sorted((pair[2] for pair in whole), reverse=True)


def test_blank_images_are_like_nothing() -> None:
    assert find_near_duplicates(np.zeros((3, 64, 64), dtype=np.uint8)) == []


def test_other_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"must be uint8 \(N, 64, 64\)"):
        find_near_duplicates(np.zeros((3, 32, 32), dtype=np.uint8))


def test_clusters_are_connected_images_numbered_by_appearance() -> None:
    assert cluster([(4, 1), (1, 3)], 6).tolist() == [0, 1, 2, 1, 1, 3]


def test_clusters_that_swallow_the_set_fall_back_to_the_strict_pairs() -> None:
    chain = [(k, k + 1, SAME_SCAN) for k in range(9)]
    assert len(set(group_scans([*chain, (0, 9, SAME_SLICE)], 10))) == 9
    assert len(set(group_scans([(0, 1, SAME_SCAN)], 10))) == 9
