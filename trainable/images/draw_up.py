"""The rows of splits.csv, drawn up: which slice is in which split, and what is taken out of training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainable.images.findings import check_blank_classes, find_blank
from trainable.images.groups import group_slices
from trainable.images.looked_at import SeenFile
from trainable.images.manifest import Manifest, Slice
from trainable.images.near_duplicates import (
    SAME_SLICE,
    cluster,
    judge_pairs,
    pair_equal,
)
from trainable.images.splits import SPLITS, SplitRow, assign_splits, check_splits

Pair = tuple[int, int, float]


def draw_up(
    manifest: Manifest,
    slices: Sequence[Slice],
    files: Mapping[Path, SeenFile],
    patients: Sequence[str] | None,
    alike: Sequence[Pair],
    seed: int,
) -> tuple[tuple[SplitRow, ...], list[str]]:
    """The rows of splits.csv, and remarks on them. `alike` are the pairs of SAME_SCAN and above."""
    paths = [item.path for item in slices]
    labels = [manifest.classes[item.label] for item in slices]
    hashes = [files[path].facts.sha256 for path in paths]
    copies = pair_equal(hashes)
    for i, j in copies:
        if labels[i] != labels[j]:
            raise ValueError(
                f"{paths[i]} ({labels[i]}) and {paths[j]} ({labels[j]}) are identical files of two classes; "
                "remove one or correct its label"
            )
    if missing := [name for name in manifest.classes if name not in labels]:
        raise ValueError(f"class {missing[0]} has no usable image; a classifier needs some of every class")

    check_blank_classes(labels, find_blank(stack_thumbnails(slices, files)))
    groups = group_slices(slices, patients, alike)
    notes: list[str] = []
    given = [item.split for item in slices if item.split is not None]
    if given:
        # Clusters are a guess: one that straddles the given splits falls apart, patients are an error.
        kept_together = [f"{g} {s}" for g, s in zip(groups, given, strict=True)] if patients is None else groups
        splits, note = check_splits(given, kept_together, labels, names=paths, seed=seed)
        notes += [note] if note else []
    else:
        groups = cluster([*pair_equal(groups), *copies], len(slices))  # a file of two patients joins them
        splits = assign_splits(labels, groups, seed=seed)
    for i, j in copies:
        if splits[i] != splits[j]:
            raise ValueError(
                f"{paths[i]} ({splits[i]}) and {paths[j]} ({splits[j]}) are identical files in two splits; "
                "remove one or put both into one split"
            )
    taken_out, crossing = judge_pairs([pair for pair in alike if pair[2] >= SAME_SLICE], splits, labels)
    rows = tuple(
        SplitRow(
            path=path,
            label=labels[index],
            group=int(groups[index]),
            split=splits[index],
            sha256=hashes[index],
            kept=index not in taken_out,
            near_duplicate=index in crossing,
        )
        for index, path in enumerate(paths)
    )
    left = {(row.split, row.label) for row in rows if row.kept}
    for split in SPLITS:
        for label in manifest.classes:
            if (split, label) not in left:
                raise ValueError(
                    f"class {label} has no slice in {split} once near-duplicates across splits and classes are "
                    "taken out; the set shows the same images in several splits or classes"
                )
    return rows, notes


def stack_thumbnails(items: Sequence[Slice] | Sequence[SplitRow], files: Mapping[Path, SeenFile]) -> NDArray[np.uint8]:
    return np.stack([files[item.path].thumbnail for item in items])
