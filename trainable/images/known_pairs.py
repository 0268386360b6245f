"""Near-duplicates, found once: searches of the same slices read them from the cache."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainable.files import write_atomically
from trainable.images.near_duplicates import MEASURE_VERSION, SAME_SCAN, find_near_duplicates

Pair = tuple[int, int, float]


def find_known_pairs(images: NDArray[np.uint8], cache_dir: Path) -> list[Pair]:
    """The pairs (i, j, similarity) of SAME_SCAN and above, as `find_near_duplicates` has them.

    `images` is uint8 (N, 64, 64). What was found is kept in `cache_dir` under a name of their content; a file that is
    damaged is made anew.
    """
    key = hashlib.sha256(f"{MEASURE_VERSION} {SAME_SCAN} {images.shape}".encode())
    key.update(np.ascontiguousarray(images).data)
    file = cache_dir / f"{key.hexdigest()[:24]}-pairs.npz"
    if (known := _read(file, len(images))) is not None:
        return known
    pairs = find_near_duplicates(images, SAME_SCAN)
    content = io.BytesIO()
    np.savez_compressed(
        content,
        pairs=np.array([pair[:2] for pair in pairs], dtype=np.int64).reshape(-1, 2),
        scores=np.array([pair[2] for pair in pairs], dtype=np.float64),
    )
    cache_dir.mkdir(parents=True, exist_ok=True)
    write_atomically(file, content.getvalue())
    return pairs


def _read(file: Path, num_images: int) -> list[Pair] | None:
    """What the file holds; None where there is none, or it is damaged (each of its arrays has a checksum)."""
    try:
        with np.load(io.BytesIO(file.read_bytes()), allow_pickle=False) as arrays:
            pairs, scores = arrays["pairs"], arrays["scores"]
    except Exception:  # a damaged archive raises many types
        return None
    if pairs.shape != (len(scores), 2) or (pairs.size and not (pairs.min() >= 0 and pairs.max() < num_images)):
        return None
    return [(int(i), int(j), float(score)) for (i, j), score in zip(pairs, scores, strict=True)]
