"""Finds slices that show the same: re-encoded, rescaled, cropped, brighter, mirrored, turned, inverted or shifted."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from trainable.images.splits import SPLITS

THUMBNAIL_SIZE = 64
SAME_SLICE = 0.92
SAME_SCAN = 0.8
MAX_CLUSTER_SHARE = 0.2
MEASURE_VERSION = 1
"""Another one whenever the same images may have other similarities than before."""


def find_near_duplicates(images: NDArray[np.uint8], threshold: float = SAME_SLICE) -> list[tuple[int, int, float]]:
    """All pairs (i, j, similarity) with i < j and similarity of at least `threshold`, the most alike first.

    `images` is uint8 (N, 64, 64). Candidates are found by their spectra (spectra.py), laid over one another by an
    affine registration in whichever of eight poses and two signs fits (registration.py); the similarity is the
    correlation, in [0, 1], of the fine scales that are left there. An image without contrast is like no other.
    Time grows with N squared, but slowly: `benchmarks/audit.py` has the seconds for 10,000.

    The thresholds come from one slice of each of the 289 patients in COVID-CT's train and val, and 25 changed copies
    of each of 31 kinds among them: mirrored, turned by 90, 180 and 270 degrees, inverted, shifted by 4 %, turned by 5
    degrees, cropped by 5 or 10 % at one corner or side, or by 5 % all round, bordered by 5 %, JPEG of quality 20, a
    third of the size, gamma 0.6, brightness x 1.3, and several of these together. All come to 0.929 or more, most of
    them to 0.98; a corner crop of 15 % is not found. In the whole set eight pairs of different patients come to 0.939
    or more, and the eye finds the same slice in each, mostly cropped anew and printed twice; the next come to 0.89, and
    down to 0.8 they look like other slices or dates of one person; from there on different people begin.
    """
    if images.ndim != 3 or images.shape[1:] != (THUMBNAIL_SIZE, THUMBNAIL_SIZE) or images.dtype != np.uint8:
        raise ValueError(
            f"images are {images.dtype} {images.shape}; they must be uint8 (N, {THUMBNAIL_SIZE}, {THUMBNAIL_SIZE})"
        )
    if len(images) < 2:
        return []
    # torch takes seconds to import, and this module is imported for a command line's help.
    from trainable.images.registration import Registration
    from trainable.images.spectra import find_candidates

    first, second, poses = find_candidates(images)
    scores = Registration(images).compare(first, second, poses).numpy()
    best: dict[tuple[int, int], float] = {}
    for i, j, score in zip(first.tolist(), second.tolist(), scores.tolist(), strict=True):
        if score >= threshold:
            pair = (min(i, j), max(i, j))
            best[pair] = max(best.get(pair, 0.0), score)
    return sorted(((i, j, score) for (i, j), score in best.items()), key=lambda pair: (-pair[2], pair[0], pair[1]))


def group_scans(
    alike: Sequence[tuple[int, int, float]], num_images: int, max_share: float = MAX_CLUSTER_SHARE
) -> NDArray[np.int64]:
    """Group numbers int64 (N,) for a set without patients, from its pairs of SAME_SCAN and above.

    Pairs can chain a set of very similar scans into one heap. Where a cluster would hold more than
    `max_share` of all images, only the pairs of SAME_SLICE count.
    """
    groups = cluster([(i, j) for i, j, _ in alike], num_images)
    if np.bincount(groups).max() > max_share * num_images:
        groups = cluster([(i, j) for i, j, likeness in alike if likeness >= SAME_SLICE], num_images)
    return groups


def cluster(pairs: Iterable[tuple[int, int]], num_images: int) -> NDArray[np.int64]:
    """Group numbers int64 (N,), counted from 0 in order of appearance: images joined by pairs share one."""
    parent = list(range(num_images))

    def root(node: int) -> int:
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for i, j in pairs:
        low, high = sorted((root(i), root(j)))
        parent[high] = low
    roots = np.array([root(node) for node in range(num_images)], dtype=np.int64)
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
