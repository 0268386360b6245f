"""A small set that models learn in a few epochs, for tests of training: noise, with a bright square in one class."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from trainable.images.prepare import TrainingData


def make_squares(folder: Path, *, count: int, size: int) -> TrainingData:
    """`count` images of two classes in turns; every third is for validation."""
    rng = np.random.default_rng(0)
    labels = np.arange(count) % 2
    pixels = rng.integers(0, 120, (count, size, size), dtype=np.uint8)
    pixels[labels == 1, 8:16, 8:16] += 90
    path = folder / "pixels.npy"
    np.save(path, pixels)
    return TrainingData(
        name="squares",
        data_hash="none",
        classes=("clear", "square"),
        positive=1,
        image_size=size,
        pixels_path=str(path),
        labels=labels.astype(np.int64),
        is_val=np.arange(count) % 3 == 0,
        groups=np.arange(count),
    )
