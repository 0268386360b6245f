"""The splits of a table that has no column for them, by the folders in which its files lie: train/1.png, test/2.png."""

from __future__ import annotations

from collections.abc import Sequence

from trainable.images.names import map_splits


def find_split_folders(names: Sequence[str]) -> list[str]:
    """The folder of each path that is named for its split, where all lie in such, train and test among them; else
    nothing."""
    above = [name.split("/")[:-1] for name in names]
    for place in range(min(map(len, above), default=0)):
        found = [folders[place] for folders in above]
        splits = map_splits(set(found))
        if set(splits) == set(found) and {"train", "test"} <= set(splits.values()):
            return found
    return []
