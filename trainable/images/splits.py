"""Which slice is for training, validation or the sealed test: balanced by class, never through a patient."""

from __future__ import annotations

import csv
import io
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trainable.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Sequence

    Column = Sequence[int] | Sequence[str] | Sequence[int | str] | np.ndarray  # one entry for each slice

SPLITS = ("train", "val", "test")
FRACTIONS = (0.7, 0.2, 0.1)


@dataclass(frozen=True, kw_only=True)
class SplitRow:
    """One slice of splits.csv. `group` is a number: patients stay out of the file.

    `kept` is False for an image that was taken out of train or validation; `near_duplicate` is True where
    another slice shows the same image.
    """

    path: Path
    label: str
    group: int
    split: str
    sha256: str
    kept: bool
    near_duplicate: bool


def assign_splits(
    labels: Column,
    groups: Column,
    *,
    seed: int,
    fractions: Sequence[float] = FRACTIONS,
) -> tuple[str, ...]:
    """Draw train, val or test for each slice, whole groups at a time: `fractions` of each class's slices.

    `labels` may be classes' numbers or names (messages show them). The same groups and seed give the same
    splits, in whatever order the slices come. Raises ValueError where a class has too few groups to be in
    every split.
    """
    if len(fractions) != len(SPLITS) or min(fractions) <= 0 or abs(sum(fractions) - 1) > 1e-6:
        raise ValueError(f"fractions are {tuple(fractions)}; there must be three above 0 with the sum 1")
    return _spread(labels, groups, seed=seed, shares=dict(zip(SPLITS, fractions, strict=True)))


def check_splits(
    splits: Sequence[str],
    groups: Column,
    labels: Column,
    *,
    names: Sequence[object] | None = None,
    seed: int = 0,
) -> tuple[tuple[str, ...], str | None]:
    """Check splits that came with the data; where they lack val, draw it from train. Returns splits and note.

    `names` are the slices' files, for messages: patients are never named. Raises ValueError where a group is
    in two splits, where train or test is missing, or a class is missing from a split.
    """
    if unknown := sorted(set(splits) - set(SPLITS)):
        raise ValueError(f"unknown split {', '.join(map(repr, unknown))}; known are {', '.join(SPLITS)}")
    _check_lengths(labels, groups, splits)
    first: dict[object, int] = {}
    straddling: dict[object, tuple[int, int]] = {}
    for index, group in enumerate(groups):
        other = first.setdefault(group, index)
        if splits[other] != splits[index]:
            straddling.setdefault(group, (other, index))
    if straddling:
        one, two = next(iter(straddling.values()))
        files = names if names is not None else [f"slice {index}" for index in range(len(splits))]
        raise ValueError(
            f"{len(straddling)} patients are in two splits: {files[one]} ({splits[one]}) and {files[two]} "
            f"({splits[two]}) are of one patient; put each patient into one split, drop "
            "the splits, or, where they are different people, give patients by --patient-from or a table"
        )
    advice = {"train": "add it", "test": "add it, or name val test (val is then drawn from train)"}
    for needed, what_to_do in advice.items():
        if needed not in splits:
            raise ValueError(
                f"the splits given have no {needed}, only {', '.join(sorted(set(splits)))}; {what_to_do}, or "
                "drop the column or folders of splits to have all drawn"
            )
    note = None
    if "val" not in splits:
        splits, note = _carve_val(splits, groups, labels, seed)
    present = set(zip(splits, labels, strict=True))
    for label in sorted(set(labels)):
        for split in SPLITS:
            if (split, label) not in present:
                raise ValueError(f"class {label} has no slice in the {split} split; add some, or drop the splits")
    return tuple(splits), note


def _carve_val(
    splits: Sequence[str],
    groups: Column,
    labels: Column,
    seed: int,
) -> tuple[list[str], str]:
    train = [index for index, split in enumerate(splits) if split == "train"]
    share = FRACTIONS[1] / (FRACTIONS[0] + FRACTIONS[1])
    drawn = _spread(
        [labels[index] for index in train],
        [groups[index] for index in train],
        seed=seed,
        shares={"train": 1 - share, "val": share},
    )
    completed = list(splits)
    for index, split in zip(train, drawn, strict=True):
        completed[index] = split
    num_val = drawn.count("val")
    return (
        completed,
        f"the splits given have no val: {num_val} of its {len(train)} train slices were drawn for it",
    )


def _spread(
    labels: Column,
    groups: Column,
    *,
    seed: int,
    shares: dict[str, float],
) -> tuple[str, ...]:
    """Greedy: large groups first, each to the split where it adds least to chi-square.

    Chi-square is the sum over splits and classes of (slices there - slices wanted)^2 / slices wanted: up to a
    constant, the sum of slices^2 / wanted. When a class has no more groups left than there are splits that
    lack it, its groups go to those splits.
    """
    _check_lengths(labels, groups)
    classes, label_of = np.unique(np.asarray(labels), return_inverse=True)
    names, group_of = np.unique(np.asarray([str(group) for group in groups]), return_inverse=True)
    counts = np.zeros((len(names), len(classes)))
    np.add.at(counts, (group_of, label_of), 1)
    left = (counts > 0).sum(axis=0)
    if (left < len(shares)).any():
        rare = int(left.argmin())
        raise ValueError(
            f"class {classes[rare]} has {left[rare]} groups (patients, or clusters of near-duplicates); "
            f"{len(shares)} are needed, one for each of {', '.join(shares)}"
        )
    wanted = np.outer(list(shares.values()), counts.sum(axis=0))
    placed = np.zeros_like(wanted)
    split_of = np.zeros(len(names), dtype=np.int64)
    shuffled = np.random.default_rng(seed).permutation(len(names))
    for group in shuffled[np.argsort(-counts[shuffled].sum(axis=1), kind="stable")]:
        added = counts[group]
        growth = (added * (2 * placed + added) / wanted).sum(axis=1)
        lacking = (placed == 0) & (added > 0)
        short = (added > 0) & (left <= lacking.sum(axis=0))
        growth[(short & ~lacking).any(axis=1)] = np.inf
        split_of[group] = growth.argmin()
        placed[split_of[group]] += added
        left -= added > 0
    if (placed == 0).any():
        raise ValueError(
            "no way was found to have every class in every split: groups of several classes tie them together"
        )
    splits = tuple(shares)
    return tuple(splits[index] for index in split_of[group_of])


def _check_lengths(*columns: Sequence[object] | np.ndarray) -> None:
    if len({len(column) for column in columns}) > 1 or not len(columns[0]):
        raise ValueError(f"labels, groups and splits have {[len(c) for c in columns]} entries; one for each slice")


def write_splits(path: Path, rows: Sequence[SplitRow]) -> None:
    """Write splits.csv, aside and renamed: it is whole or absent."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(field.name for field in fields(SplitRow))
    writer.writerows(astuple(row) for row in rows)
    write_atomically(path, text.getvalue())


def read_splits(path: Path) -> tuple[SplitRow, ...]:
    """Read what `write_splits` wrote. Raises ValueError for anything else."""
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        reader = csv.DictReader(file)
        expected = [field.name for field in fields(SplitRow)]
        if reader.fieldnames != expected:
            raise ValueError(f"{path} has the columns {reader.fieldnames}; it must have {expected}")
        return tuple(_to_row(path, reader.line_num, values) for values in reader)


def _to_row(path: Path, line: int, values: dict[str, str]) -> SplitRow:
    try:
        if values["split"] not in SPLITS:
            raise ValueError(f"the split {values['split']!r}")
        flags = {name: {"True": True, "False": False}[values[name]] for name in ("kept", "near_duplicate")}
        return SplitRow(
            path=Path(values["path"]),
            label=values["label"],
            group=int(values["group"]),
            split=values["split"],
            sha256=values["sha256"],
            **flags,
        )
    except (KeyError, ValueError, TypeError) as error:
        raise ValueError(f"{path}, line {line} is damaged ({error}); it is written once and never edited") from error
