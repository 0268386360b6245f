"""Runs of neighbouring numbers in file names: they keep a scan's slices together where no patient is known."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import PurePath

import numpy as np
from numpy.typing import NDArray

from trainable.images.near_duplicates import MAX_CLUSTER_SHARE, SAME_SLICE, cluster

MAX_RUN = 25  # slices: a set that is numbered through is cut, or a class would be one group
_LAST_NUMBER = re.compile(r"(.*?)(\d+)(\D*)$", re.DOTALL)

Pair = tuple[int, int, float]


def groups_of_runs(names: Sequence[str], alike: Sequence[Pair] = ()) -> NDArray[np.int64]:
    """Group numbers int64 (N,) for slices without patients: runs of neighbouring numbers, joined by likeness.

    `names` are paths; those of one folder whose names differ in their last number only, by steps of one
    (`scan_7.png`, `scan_8.png`), are a run. One that is longer than MAX_RUN, or than a tenth of the set, is cut into
    equal parts, each cut moved to where the two neighbours are least alike. `alike` are pairs (i, j, similarity) of
    near_duplicates.py: they join runs, unless a group would then hold more than MAX_CLUSTER_SHARE of the set, where
    only those of SAME_SLICE do. Groups are numbered in order of appearance.

    On a set of one hospital with known numbers, groups of likeness took away less than half of what slices of one
    patient in two splits add to the AUC, and blocks of neighbouring numbers nearly all.
    """
    likeness = {(min(i, j), max(i, j)): similarity for i, j, similarity in alike}
    longest = min(MAX_RUN, max(2, len(names) // 10))
    runs: list[tuple[int, int]] = []
    for run in _find_runs(names):
        for part in _cut(run, likeness, longest):
            runs += [(part[0], index) for index in part[1:]]
    for threshold in (0.0, SAME_SLICE):
        joined = cluster([*runs, *(pair for pair, value in likeness.items() if value >= threshold)], len(names))
        if len(names) and np.bincount(joined).max() <= max(longest, MAX_CLUSTER_SHARE * len(names)):
            return joined
    return cluster(runs, len(names))


def _find_runs(names: Sequence[str]) -> list[list[int]]:
    """Indices of each run, in the order of its numbers."""
    series: defaultdict[tuple[str, str, str], list[tuple[int, int]]] = defaultdict(list)
    for index, name in enumerate(names):
        path = PurePath(name)
        stem = path.name.removesuffix(path.suffix) if not path.suffix[1:].isdigit() else path.name
        if match := _LAST_NUMBER.match(stem):
            series[str(path.parent), match[1], match[3]].append((int(match[2]), index))
    runs = []
    for numbered in series.values():
        numbered.sort()
        run = [numbered[0]]
        for entry in numbered[1:]:
            if entry[0] - run[-1][0] > 1:
                runs.append([index for _, index in run])
                run = []
            run.append(entry)
        runs.append([index for _, index in run])
    return runs


def _cut(run: list[int], likeness: dict[tuple[int, int], float], longest: int) -> list[list[int]]:
    if len(run) <= longest:
        return [run]
    num_parts = -(-len(run) // longest)
    reach = max(1, len(run) // num_parts // 4)
    cuts = [0]
    for part in range(1, num_parts):
        ideal = round(part * len(run) / num_parts)
        places = [at for at in range(ideal - reach, ideal + reach + 1) if cuts[-1] < at < len(run)]
        if places:
            cuts.append(min(places, key=lambda at: (_between(run, at, likeness), abs(at - ideal))))
    return [run[start:end] for start, end in zip(cuts, [*cuts[1:], len(run)], strict=True)]


def _between(run: list[int], at: int, likeness: dict[tuple[int, int], float]) -> float:
    return likeness.get((min(run[at - 1], run[at]), max(run[at - 1], run[at])), 0.0)
