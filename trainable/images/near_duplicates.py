"""Finds pictures that show the same slice: re-encoded, rescaled, a little cropped, brighter or darker."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from trainable.images.splits import SPLITS

PICTURE_SIZE = 64
SAME_SLICE = 0.92
SAME_SCAN = 0.85
MAX_CLUSTER_SHARE = 0.2

_FEATURE_SIZE = 32
_CROPS = (0.0, 0.02, 0.04)
_MIN_CONTRAST = 1.0
_BLOCK = 1024

Features = NDArray[np.float32]


def find_near_duplicates(pictures: NDArray[np.uint8], threshold: float = SAME_SLICE) -> list[tuple[int, int, float]]:
    """All pairs (i, j, similarity) with i < j and similarity of at least `threshold`, the most alike first.

    `pictures` is uint8 (N, 64, 64). The similarity is the correlation, in [-1, 1], of two pictures of which
    only the middle scales are left (a difference of Gaussians, as in Marr and Hildreth 1980): the outline that
    all chests share, brightness, contrast and the grain of an encoder are gone. One picture of a pair is also
    tried without its even borders and a few per cent smaller. Time grows with N squared (6 s for 4,000 on one
    busy core), memory with N: pairs are compared in blocks. A picture without contrast is like no other.

    The thresholds come from looking at pairs of COVID-CT (746 slices). Across patients 0.99 and 0.97 are the two
    known copies and nothing else lies above 0.90; from there to 0.85 come five pairs that look like other slices
    or dates of one person listed as two; below 0.81 different people begin. Within a patient pairs above 0.92 are
    neighbours that the eye can hardly tell apart. Re-encoding, a third of the size, brightness x 1.4 and gamma 0.7
    kept every copy above 0.92; centred crops of 1 to 5 % a side about 9 of 10, added borders 7 of 10; a crop of 2 %
    or more at one corner only is mostly missed. Different made patients reach 0.89.
    """
    if pictures.ndim != 3 or pictures.shape[1:] != (PICTURE_SIZE, PICTURE_SIZE) or pictures.dtype != np.uint8:
        raise ValueError(
            f"pictures are {pictures.dtype} {pictures.shape}; they must be uint8 (N, {PICTURE_SIZE}, {PICTURE_SIZE})"
        )
    whole = _describe(pictures, 0.0, trim=False)
    variants = [_describe(pictures, crop, trim=True) for crop in _CROPS]
    pairs: list[tuple[int, int, float]] = []
    for top in range(0, len(whole), _BLOCK):
        for left in range(0, len(whole), _BLOCK):
            rows, columns = slice(top, top + _BLOCK), slice(left, left + _BLOCK)
            likeness = whole[rows] @ whole[columns].T
            for variant in variants:
                np.maximum(likeness, whole[rows] @ variant[columns].T, out=likeness)
                np.maximum(likeness, variant[rows] @ whole[columns].T, out=likeness)
            for i, j in np.argwhere(likeness >= threshold):
                if top + i < left + j:
                    pairs.append((int(top + i), int(left + j), min(float(likeness[i, j]), 1.0)))
    return sorted(pairs, key=lambda pair: (-pair[2], pair[0], pair[1]))


def group_scans(
    alike: Sequence[tuple[int, int, float]], num_pictures: int, max_share: float = MAX_CLUSTER_SHARE
) -> NDArray[np.int64]:
    """Group numbers int64 (N,) for a set without patients, from its pairs of SAME_SCAN and above.

    Pairs can chain a set of very similar scans into one heap. Where a cluster would hold more than
    `max_share` of all pictures, only the pairs of SAME_SLICE count.
    """
    groups = cluster([(i, j) for i, j, _ in alike], num_pictures)
    if np.bincount(groups).max() > max_share * num_pictures:
        groups = cluster([(i, j) for i, j, likeness in alike if likeness >= SAME_SLICE], num_pictures)
    return groups


def cluster(pairs: Iterable[tuple[int, int]], num_pictures: int) -> NDArray[np.int64]:
    """Group numbers int64 (N,), counted from 0 in order of appearance: pictures joined by pairs share one."""
    parent = list(range(num_pictures))

    def root(node: int) -> int:
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for i, j in pairs:
        low, high = sorted((root(i), root(j)))
        parent[high] = low
    roots = np.array([root(node) for node in range(num_pictures)], dtype=np.int64)
    return np.unique(roots, return_inverse=True)[1].astype(np.int64)


def pair_equal(keys: Iterable[Hashable]) -> list[tuple[int, int]]:
    """A pair (first index of that key, index) for every later one of equal keys."""
    first: dict[Hashable, int] = {}
    return [(first[key], index) for index, key in enumerate(keys) if first.setdefault(key, index) != index]


def judge_pairs(
    pairs: Sequence[tuple[int, int, float]], splits: Sequence[str], labels: Sequence[str]
) -> tuple[set[int], set[int]]:
    """Which slices to take out, and all that are shown in another split too or under another class.

    Across splits the one in train goes, or the one in val where the other is in test; across classes in one
    split both go. Nothing leaves the test split.
    """
    taken_out: set[int] = set()
    crossing: set[int] = set()
    for i, j, _ in pairs:
        if splits[i] != splits[j]:
            taken_out.add(min(i, j, key=lambda index: SPLITS.index(splits[index])))
        elif labels[i] != labels[j] and splits[i] != "test":
            taken_out |= {i, j}
        else:
            continue
        crossing |= {i, j}
    return taken_out, crossing


def _describe(pictures: NDArray[np.uint8], crop: float, *, trim: bool) -> Features:
    """Unit vectors float32 (N, 1024); a zero vector for a picture without contrast."""
    features = np.zeros((len(pictures), _FEATURE_SIZE**2), dtype=np.float32)
    for index, picture in enumerate(pictures):
        left, top, right, bottom = _find_content(picture) if trim else (0, 0, PICTURE_SIZE, PICTURE_SIZE)
        inset_x, inset_y = crop * (right - left), crop * (bottom - top)
        box = (left + inset_x, top + inset_y, right - inset_x, bottom - inset_y)
        image = Image.fromarray(picture).resize((_FEATURE_SIZE,) * 2, Image.Resampling.BILINEAR, box=box)
        outline = image.filter(ImageFilter.GaussianBlur(2))
        vector = np.asarray(image, dtype=np.float32).ravel() - np.asarray(outline, dtype=np.float32).ravel()
        vector -= vector.mean()
        if vector.std() > _MIN_CONTRAST:
            features[index] = vector / np.linalg.norm(vector)
    return features


def _find_content(picture: NDArray[np.uint8]) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the part inside borders of one grey value."""
    rows, columns = np.flatnonzero(np.ptp(picture, axis=1) > 24), np.flatnonzero(np.ptp(picture, axis=0) > 24)
    if len(rows) < PICTURE_SIZE // 2 or len(columns) < PICTURE_SIZE // 2:
        return 0, 0, PICTURE_SIZE, PICTURE_SIZE
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
