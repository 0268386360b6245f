"""Near-duplicates that were found before: read again, and made anew where the file is damaged or of other slices."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from trainable.images import known_pairs
from trainable.images.decode import decode_slice
from trainable.images.known_pairs import find_known_pairs
from trainable.images.near_duplicates import SAME_SCAN, find_near_duplicates
from trainable.images.synthetic import write_synthetic_set


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> NDArray[np.uint8]:
    """Eight slices, the last a copy of the first, mirrored."""
    folder = write_synthetic_set(tmp_path_factory.mktemp("set"), num_patients=10, slices_per_patient=1, image_size=64)
    drawn = [decode_slice(path, 64) for path in sorted(folder.rglob("*.png"))[:7]]
    return np.stack([*drawn, drawn[0][:, ::-1]])


def refuse(*_: object) -> list[tuple[int, int, float]]:
    raise AssertionError("it was to be read")


def test_they_are_found_once(images: NDArray[np.uint8], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = find_known_pairs(images, tmp_path / "cache")
    assert pairs == find_near_duplicates(images, SAME_SCAN)
    assert (0, 7) in [pair[:2] for pair in pairs]
    monkeypatch.setattr(known_pairs, "find_near_duplicates", refuse)
    assert find_known_pairs(images, tmp_path / "cache") == pairs
    with pytest.raises(AssertionError, match="it was to be read"):
        find_known_pairs(images[::-1], tmp_path / "cache")


def test_of_a_set_without_any_too(images: NDArray[np.uint8], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_known_pairs(images[:1], tmp_path) == []
    monkeypatch.setattr(known_pairs, "find_near_duplicates", refuse)
    assert find_known_pairs(images[:1], tmp_path) == []


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "text", "of fewer slices"])
def test_a_damaged_file_is_made_anew(images: NDArray[np.uint8], tmp_path: Path, damage: str) -> None:
    pairs = find_known_pairs(images, tmp_path)
    (file,) = tmp_path.glob("*-pairs.npz")
    content = file.read_bytes()
    middle = len(content) // 4
    if damage == "of fewer slices":
        np.savez(file, pairs=np.array([[0, len(images)]]), scores=np.array([0.95]))
    else:
        flipped = content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :]
        file.write_bytes({"cut": content[:middle], "flipped": flipped, "empty": b"", "text": b"pairs"}[damage])
    assert find_known_pairs(images, tmp_path) == pairs
    assert find_known_pairs(images, tmp_path) == pairs
