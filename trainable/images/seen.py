"""Seen images: which ones a model was trained and validated on, so that it is never judged by them later."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from trainable.images.splits import SplitRow

SEEN_FILE = "trained_on.json"
_NUM_DIGITS = 16


def shorten(sha256: str) -> str:
    """As many hex digits of an image file's hash as tell all images of the world apart."""
    return sha256[:_NUM_DIGITS]


def write_seen(rows: Sequence[SplitRow]) -> str:
    """The text of `SEEN_FILE`: hashes of all images of train and val, those that were taken out too, and no names."""
    return json.dumps(sorted(shorten(row.sha256) for row in rows if row.split != "test"))


def read_seen(file: Path) -> frozenset[str]:
    """The hashes in a `SEEN_FILE`; none where there is no such file, as with older models."""
    return frozenset(json.loads(file.read_text())) if file.is_file() else frozenset()


def find_unseen(groups: NDArray[np.int64], hashes: Sequence[str], seen: Collection[str]) -> NDArray[np.bool_]:
    """Which slices bool (N,) are of groups int (N,), such as patients, of which not one image has been seen."""
    is_seen = np.array([each in seen for each in hashes], dtype=bool)
    return ~np.isin(groups, groups[is_seen])
