"""What an audit finds by looking at files: unusable ones, copies, near-duplicates, torn patients, odd files."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainable.images.audit import DuplicatePair, find_oddities, shorten_names
from trainable.images.decode import ImageFacts
from trainable.images.faults import NotASliceError, count_left_out
from trainable.images.findings import (
    Finding,
    Severity,
    count_of,
    name_files,
)
from trainable.images.manifest import Manifest, Slice
from trainable.images.near_duplicates import (
    pair_equal,
)
from trainable.images.shortcut_features import Features

_AUDIT_SIZE = 64  # pixels: smaller files are odd


@dataclass(frozen=True, kw_only=True)
class ShownPair:
    """A pair of near-duplicates, and where its two files lie."""

    pair: DuplicatePair
    paths: tuple[Path, Path]
    is_same_group: bool


@dataclass(frozen=True, kw_only=True)
class LookedFile:
    facts: ImageFacts
    small: NDArray[np.uint8]  # (64, 64)
    is_blank: bool
    features: Features


def pair_up(
    slices: Sequence[Slice],
    names: Sequence[str],
    labels: Sequence[str],
    splits: Sequence[str],
    groups: NDArray[np.int64],
    pairs: Sequence[tuple[int, int, float]],
) -> tuple[ShownPair, ...]:
    """Pairs across splits first, then across classes, then across groups, each by similarity."""
    shown = [
        ShownPair(
            pair=DuplicatePair(
                first=names[i],
                second=names[j],
                similarity=round(similarity, 4),
                splits=(splits[i], splits[j]),
                labels=(labels[i], labels[j]),
            ),
            paths=(slices[i].path, slices[j].path),
            is_same_group=bool(groups[i] == groups[j]),
        )
        for i, j, similarity in pairs
    ]
    return tuple(
        sorted(shown, key=lambda one: (not one.pair.across_splits, not one.pair.across_labels, one.is_same_group))
    )


def find_unusable(manifest: Manifest, broken: Sequence[tuple[Slice, str]], num_files: int) -> list[Finding]:
    found = []
    if broken:
        names = shorten_names([item.path for item, _ in broken])
        fault = broken[0][1].removeprefix(f"{broken[0][0].path}: ")
        found.append(
            name_files(
                Severity.ERROR,
                f"{len(broken)} of {num_files} files cannot be used, the first: {fault}",
                "fix or remove them, or skip them by --skip-bad-images",
                names,
            )
        )
    if manifest.skipped:
        found.append(
            Finding(
                severity=Severity.ERROR,
                title=f"{len(manifest.skipped)} rows or folders cannot be used, the first: {manifest.skipped[0]}",
                advice="fix or remove them, or skip them by --skip-bad-images",
                count=len(manifest.skipped),
            )
        )
    return found


def find_left_out(errors: Sequence[NotASliceError]) -> list[Finding]:
    return [
        Finding(severity=Severity.NOTE, title=line, advice="nothing need be done") for line in count_left_out(errors)
    ]


def find_doubts(lines: Sequence[str], advice: str) -> list[Finding]:
    return [Finding(severity=Severity.WARNING, title=line, advice=advice) for line in lines]


def find_ungrouped(
    is_known: bool,
    groups: NDArray[np.int64],
    splits: Sequence[str] | None,
    names: Sequence[str],
) -> list[Finding]:
    if not is_known:
        return [
            Finding(
                severity=Severity.WARNING,
                title=f"no patients are known: {len(set(groups.tolist()))} groups were made of neighbouring numbers "
                "and likeness",
                advice="give patients by --patient-from, by folders or by a column: a split through patients flatters",
            )
        ]
    first = {group: index for index, group in reversed(list(enumerate(groups.tolist())))}
    torn = [
        index
        for index, group in enumerate(groups.tolist())
        if splits is not None and splits[index] != splits[first[group]]
    ]
    if not torn:
        return []
    num_torn = len({int(groups[index]) for index in torn})
    return [
        name_files(
            Severity.ERROR,
            f"{count_of(num_torn, 'patient')} in two splits",
            "put all slices of a patient into one split, or drop the given splits",
            [names[index] for index in torn],
        )
    ]


def find_copies(
    files: Sequence[LookedFile], names: Sequence[str], labels: Sequence[str], splits: Sequence[str]
) -> list[Finding]:
    copies = pair_equal([file.facts.sha256 for file in files])
    kinds = (
        (Severity.ERROR, "of two classes", "correct a label or remove one of each pair", labels),
        (Severity.ERROR, "in two splits", "remove one of each pair, or put both into one split", splits),
    )
    found, left = [], set(copies)
    for severity, where, advice, values in kinds:
        crossing = [pair for pair in copies if values[pair[0]] != values[pair[1]]]
        left -= set(crossing)
        if crossing:
            shown = [f"{names[i]} and {names[j]}" for i, j in crossing]
            found.append(
                name_files(severity, f"{count_of(len(crossing), 'pair')} of identical files {where}", advice, shown)
            )
    if left:
        shown = [f"{names[i]} and {names[j]}" for i, j in sorted(left)]
        title = f"{count_of(len(left), 'pair')} of identical files in one class and split"
        found.append(name_files(Severity.NOTE, title, "remove the copies: they count twice", shown))
    return found


def find_pairs(pairs: Sequence[ShownPair], is_known: bool) -> list[Finding]:
    across_splits = [shown for shown in pairs if shown.pair.across_splits]
    across_labels = [shown for shown in pairs if shown.pair.across_labels]
    rest = [shown for shown in pairs if not shown.pair.across_splits and not shown.pair.across_labels]
    across_patients = [shown for shown in rest if is_known and not shown.is_same_group]
    kinds = (
        (
            Severity.WARNING,
            across_splits,
            "one slice in two splits",
            "one leaves train or val by default; better remove it, and ask whether the two patients are one",
        ),
        (
            Severity.WARNING,
            across_labels,
            "one slice under two classes",
            "look at both and correct the label that is wrong, or remove both",
        ),
        (
            Severity.NOTE,
            across_patients,
            "one slice under two patients of one class and split",
            "ask whether the two patients are one, and give them one id",
        ),
        (
            Severity.NOTE,
            [shown for shown in rest if not is_known or shown.is_same_group],
            "alike within one split and class",
            "neighbouring slices of a scan are; nothing need be done",
        ),
    )
    found = []
    for severity, chosen, what, advice in kinds:
        if chosen:
            shown = [f"{one.pair.first} ~ {one.pair.second}" for one in chosen]
            found.append(
                name_files(severity, f"{count_of(len(chosen), 'pair')} of near-duplicates: {what}", advice, shown)
            )
    return found


def find_odd_files(slices: Sequence[Slice], files: Sequence[LookedFile], names: Sequence[str]) -> list[Finding]:
    odd: defaultdict[str, list[str]] = defaultdict(list)
    for item, file, name in zip(slices, files, names, strict=True):
        for kind in find_oddities(item.path, file.facts, _AUDIT_SIZE):
            odd[kind].append(name)
    return [
        name_files(
            Severity.NOTE, f"{count_of(len(found), 'file')}: {kind}", "they are read; nothing need be done", found
        )
        for kind, found in sorted(odd.items(), key=lambda item: -len(item[1]))
    ]
