"""The pixels of a cache, mapped into memory; apart from what decodes them, which a worker does not need."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def open_pixels(path: Path) -> np.ndarray:
    """The cache's pixels, uint8 (N, S, S) or (N, S, S, C), mapped: readers share its pages, a write stays private."""
    return np.load(path, mmap_mode="c")
