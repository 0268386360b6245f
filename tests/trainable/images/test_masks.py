"""Masks, wherever they lie beside images: left out and told, and nothing else is."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.trainable.images.sets import AB, TWO, fill, join, listed, read
from trainable.images.masks import find_masks, is_mask


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        (["benign (1)", "benign (2)"], ["benign (1)_mask", "benign (2)_mask", "benign (2)_mask_1"]),
        (["image_1", "image_2"], ["mask_1", "mask_2"]),
        (["1", "2"], ["1-seg", "2_Segmentation"]),
        (["ct"], ["seg"]),
        (["volume-0", "volume-1"], ["segmentation-0", "segmentation-1"]),
        (["scan_001_flair", "scan_001_t1"], ["scan_001_seg"]),
        (["imgA", "imgB"], ["imgA_mask", "imgB_gt"]),
    ],
)
def test_names_of_masks_are_seen_beside_those_of_their_images(images: list[str], masks: list[str]) -> None:
    assert find_masks([*images, *masks]) == set(masks)


@pytest.mark.parametrize(
    "names",
    [["1_mask", "2_mask"], ["with_mask_1", "without_mask_1"], ["mask_7", "1"], ["segment 1", "segment 2"], ["a", "b"]],
)
def test_names_without_an_image_that_they_could_show_are_no_masks(names: list[str]) -> None:
    assert find_masks(names) == set()


@pytest.mark.parametrize("name", ["masks", "Lung masks", "infection_masks", "Ground-truths", "labels"])
def test_folders_of_masks_are_known_by_their_names(name: str) -> None:
    assert is_mask(name) and not is_mask(f"{name} of P1") and not is_mask("with_mask")


@pytest.mark.parametrize(
    ("images", "masks", "count"),
    [
        (join(AB, TWO), join(AB, ["0_mask.png", "1_mask.png"]), 2),
        (join(AB, ["s1.nii.gz", "s2.nii.gz"]), join(AB, ["s1_mask.nii.gz"]), 2),
        (join(AB, ["P1", "P2"], ["images"], TWO), join(AB, ["P1", "P2"], ["masks"], TWO), 4),
        (join(AB, ["P1", "P2"], TWO), join(AB, ["P1", "P2"], ["mask.png"]), 4),
        (join(AB, ["P1", "P2"], TWO), join(AB, ["P1_mask", "P2_mask"], TWO), 4),
        (join(AB, TWO), join(["masks", "Normal_mask"], TWO), 2),
        (join(AB, TWO), join(AB, ["lung masks"], TWO), 2),
        (join(AB, ["images"], TWO), join(AB, ["lung masks", "infection masks"], TWO), 4),
        (join(["train", "test"], AB, TWO), join(["train", "test"], ["masks"], TWO), 2),
    ],
)
def test_masks_are_left_out_and_told(images: list[str], masks: list[str], count: int, tmp_path: Path) -> None:
    manifest = read(fill(tmp_path / "x", *images, *masks))
    assert sorted(listed(manifest)) == sorted(images) and manifest.classes == AB
    assert len(manifest.found.left_out) == count
    assert all(line.endswith("masks are not read") for line in manifest.found.left_out)


def test_masks_in_a_folder_that_a_table_names_are_no_slices(tmp_path: Path) -> None:
    files = [f"s{n}/{name}" for n in range(4) for name in ("0.png", "1.png", "0_mask.png")]
    root = fill(tmp_path / "x", *files)
    (root / "m.csv").write_text("path,label\n" + "".join(f"s{n},{AB[n % 2]}\n" for n in range(4)))
    manifest = read(root / "m.csv")
    assert sorted(listed(manifest)) == [name for name in files if "mask" not in name]
    assert "4 of 12 files beside the table are not in it" in manifest.found.left_out[0]
