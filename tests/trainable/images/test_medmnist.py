from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trainable.images.manifest import read_manifest
from trainable.images.medmnist import SPLITS, read_images, read_npz

COUNTS = {"train": 12, "val": 6, "test": 4}


def draw_arrays(*, size: int = 28, colour: bool = False, num_classes: int = 2) -> dict[str, Any]:
    """What a MedMNIST file holds."""
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for split, count in COUNTS.items():
        shape = (count, size, size, *([3] if colour else []))
        arrays[f"{split}_images"] = rng.integers(0, 256, shape, dtype=np.uint8)
        arrays[f"{split}_labels"] = (np.arange(count) % num_classes).astype(np.uint8).reshape(-1, 1)
    return arrays


def save(path: Path, arrays: dict[str, Any], *, packed: bool = True) -> Path:
    (np.savez_compressed if packed else np.savez)(path, **arrays)
    return path


@pytest.mark.parametrize(("size", "colour", "packed"), [(28, False, True), (28, True, True), (64, True, False)])
def test_images_labels_and_published_splits_are_read(size: int, colour: bool, packed: bool, tmp_path: Path) -> None:
    arrays = draw_arrays(size=size, colour=colour, num_classes=3)
    path = save(tmp_path / "bloodmnist_64.npz", arrays, packed=packed)
    found = read_npz(path)
    assert found.splits == ("train",) * 12 + ("val",) * 6 + ("test",) * 4
    assert found.labels[:4] == ("0", "1", "2", "0")
    assert (found.in_colour, found.size) == (colour, size)
    everything = np.concatenate([arrays[f"{split}_images"] for split in SPLITS])
    for numbers in (range(22), [0, 11, 12, 21], [17], []):
        images = list(read_images(path, numbers))
        np.testing.assert_array_equal(np.array(images).reshape(-1, *everything.shape[1:]), everything[list(numbers)])


def test_a_trailing_axis_of_one_channel_is_dropped(tmp_path: Path) -> None:
    arrays = draw_arrays()
    path = save(
        tmp_path / "a.npz", arrays | {f"{split}_images": arrays[f"{split}_images"][..., None] for split in SPLITS}
    )
    assert next(iter(read_images(path, [0]))).shape == (28, 28)
    assert not read_npz(path).in_colour


def test_the_manifest_keeps_the_splits_and_names_the_classes_of_the_sets_with_two(tmp_path: Path) -> None:
    manifest = read_manifest(save(tmp_path / "breastmnist.npz", draw_arrays()), unpack_into=tmp_path)
    assert manifest.name == "breastmnist"
    assert manifest.classes == ("malignant", "normal or benign")
    assert manifest.positive == 0 and manifest.positive_was_guessed
    assert [item.split for item in manifest.slices].count("test") == 4
    many = read_manifest(save(tmp_path / "pathmnist.npz", draw_arrays(num_classes=11)), unpack_into=tmp_path)
    assert many.classes == tuple(f"{number:02}" for number in range(11))


def test_several_labels_an_image_are_refused_with_what_to_do(tmp_path: Path) -> None:
    arrays = draw_arrays()
    arrays["train_labels"] = np.zeros((12, 14), np.uint8)
    with pytest.raises(ValueError, match=r"chestmnist.npz: .*14 labels an image.*train_labels\[:, \[k\]\]"):
        read_npz(save(tmp_path / "chestmnist.npz", arrays))


def change(name: str, entry: Any) -> dict[str, Any]:
    return draw_arrays() | {name: entry}


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "volumes": (change("train_images", np.zeros((12, 28, 28, 28), np.uint8)), "volumes perhaps"),
    "floats": (change("train_images", np.zeros((12, 28, 28))), "float64; it must be uint8"),
    "by columns": (change("val_images", np.asfortranarray(np.zeros((6, 28, 28), np.uint8))), "by columns"),
    "no images": (change("val_images", np.zeros((0, 28, 28), np.uint8)), r"\(0, 28, 28\)"),
    "labels of another number": (change("val_labels", np.zeros(5, np.uint8)), "5 labels for 6 images"),
    "labels below 0": (change("val_labels", np.full(6, -1)), "counted from 0"),
    "labels that are no classes": (change("val_labels", np.full(6, 2**40)), "the class 1099511627776; .*1000 at most"),
    "labels in words": (change("val_labels", np.array(["a"] * 6)), "counted from 0"),
    "objects": (change("val_labels", np.array([{}] * 6, dtype=object)), "allow_pickle=False"),
    "shapes that differ": (change("val_images", np.zeros((6, 32, 32), np.uint8)), "they must have one"),
    "an array that is missing": ({"train_images": np.zeros((2, 28, 28), np.uint8)}, "no array train_labels; it must"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_file_that_is_none_of_medmnists_is_one_line(kind: str, tmp_path: Path) -> None:
    arrays, reason = BAD[kind]
    path = save(tmp_path / "set.npz", arrays)
    with pytest.raises(ValueError, match=reason) as caught:
        read_npz(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


def test_a_damaged_file_is_one_line(tmp_path: Path) -> None:
    content = save(tmp_path / "a.npz", draw_arrays()).read_bytes()
    for damaged in (b"", b"no archive", content[: len(content) // 2]):
        (path := tmp_path / "b.npz").write_bytes(damaged)
        with pytest.raises(ValueError, match=r"b.npz: "):
            read_npz(path)
    broken = bytearray(content)
    broken[1000:1100] = bytes(100)  # within the first images
    path.write_bytes(bytes(broken))
    with pytest.raises(ValueError, match=r"b.npz: "):
        list(read_images(path, range(22)))


def test_images_that_end_early_or_are_not_there_are_one_line(tmp_path: Path) -> None:
    path = save(tmp_path / "a.npz", draw_arrays())
    with pytest.raises(ValueError, match=r"holds 22 images; number 22 \(from 0\)"):
        list(read_images(path, [3, 22]))
    with pytest.raises(ValueError, match="must ascend"):
        list(read_images(path, [3, 2]))
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((12, 28, 28), np.uint8))
    with zipfile.ZipFile(tmp_path / "short.npz", "w") as archive:
        archive.writestr("train_images.npy", buffer.getvalue()[:5000])
    with pytest.raises(ValueError, match=r"train_images.npy ends after \d+ of 12 images: it is cut"):
        list(read_images(tmp_path / "short.npz", range(12)))
