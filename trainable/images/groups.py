"""Which slices belong together: those of a patient, else of a run of neighbouring numbers, joined by likeness."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from trainable.images.manifest import Slice
from trainable.images.members import split_member
from trainable.images.near_duplicates import cluster, pair_equal
from trainable.images.runs import groups_of_runs


def group_slices(
    slices: Sequence[Slice], patients: Sequence[str] | None, alike: Sequence[tuple[int, int, float]]
) -> NDArray[np.int64]:
    """Group numbers int64 (N,): one a patient, or where these are None by `groups_of_runs`, `alike` as it takes them.

    Slices of one volume stay together in any case; those of an array have no neighbours that mean anything.
    """
    if patients is not None:
        return cluster(pair_equal(patients), len(slices))
    runs = groups_of_runs(["" if split_member(item.path) else str(item.path) for item in slices], alike)
    of_volumes = pair_equal([item.patient or str(item.path) for item in slices])
    return cluster([*pair_equal(runs.tolist()), *of_volumes], len(slices))
