"""Findings of an audit: what is wrong with a set, how bad that is, and what to do about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from trainable.images.shortcuts import WARN_ABOVE, Shortcut

MIN_TEST_GROUPS = 30
MAX_NAMES = 8
TEST_SHARE = 0.1  # of what `assign_splits` draws

_IMBALANCE, _STRONG_IMBALANCE = 3, 10  # slices of the largest class for one of the smallest
_SHARED = 0.1  # of the other classes' slices: what fewer share marks a class
_MIN_MARKED = 10  # slices of a class, below which one source says nothing


class Severity(IntEnum):
    """How bad a finding is: an error makes results wrong or stops a search, a warning makes them doubtful."""

    NOTE = 0
    WARNING = 1
    ERROR = 2


EXIT_CODES = {Severity.NOTE: 0, Severity.WARNING: 3, Severity.ERROR: 4}  # 1 and 2: the command itself failed


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One fault: `title` says it in a line, `advice` what to do; `names` are some of its `count` files or classes."""

    severity: Severity
    title: str
    advice: str
    count: int = 0
    names: tuple[str, ...] = ()

    def line(self) -> str:
        """The finding for a terminal."""
        shown = ", ".join(self.names[:3]) + (", ..." if self.count > 3 else "")
        return f"{self.severity.name.lower()}: {self.title}{f' ({shown})' if shown else ''}; {self.advice}"


def find_blank(pixels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which slices of uint8 (N, S, S) hold one grey level and nothing else, bool (N,)."""
    return np.ptp(pixels.reshape(len(pixels), -1), axis=1) == 0


def check_blank_classes(labels: Sequence[str], is_blank: Sequence[bool] | NDArray[np.bool_]) -> None:
    """Raises ValueError, naming it, where a class holds nothing but blank slices."""
    if empty := _blank_classes(labels, is_blank):
        raise ValueError(
            f"every slice of class {empty[0]} is blank (one grey level and nothing else); "
            "a classifier needs images of every class: export them anew, or remove the class"
        )


def find_blank_slices(names: Sequence[str], labels: Sequence[str], is_blank: NDArray[np.bool_]) -> list[Finding]:
    """Blank slices are a warning; a class of nothing else is an error."""
    blank = [name for name, yes in zip(names, is_blank, strict=True) if yes]
    found = [
        Finding(
            severity=Severity.ERROR,
            title=f"every slice of class {label} is blank",
            advice="export the class anew, or remove it",
        )
        for label in _blank_classes(labels, is_blank)
    ]
    if blank:
        found.append(
            name_files(
                Severity.WARNING,
                f"{len(blank)} of {len(names)} slices are blank: one grey level and nothing else",
                "remove them, or export them anew: a model learns from them that black means their class",
                blank,
            )
        )
    return found


def find_small_splits(
    labels: Sequence[str], splits: Sequence[str] | None, groups: NDArray[np.int64], word: str
) -> list[Finding]:
    """Few test patients or groups, and classes of unlike size."""
    found = []
    if splits is None:
        num_test = round(TEST_SHARE * len(set(groups.tolist())))
        title = f"a test split of {TEST_SHARE:.0%} will hold about {num_test} {word}"
    else:
        num_test = len({group for group, split in zip(groups.tolist(), splits, strict=True) if split == "test"})
        title = f"the test split holds {num_test} {word}"
    if num_test < MIN_TEST_GROUPS:
        found.append(
            Finding(
                severity=Severity.WARNING,
                title=f"{title}; below {MIN_TEST_GROUPS} its figures say little",
                advice="add patients to the test split, or read its intervals before its figures",
            )
        )
    sizes = Counter(labels).most_common()
    (large, most), (small, fewest) = sizes[0], sizes[-1]
    if most > _IMBALANCE * fewest:
        found.append(
            Finding(
                severity=Severity.WARNING if most > _STRONG_IMBALANCE * fewest else Severity.NOTE,
                title=f"class {large} has {most / fewest:.1f} times as many slices as {small} ({most} and {fewest})",
                advice="judge models by AUC and by sensitivity and specificity, not by accuracy",
            )
        )
    return found


def find_one_source(
    labels: Sequence[str], groups: NDArray[np.int64], sources: Mapping[str, Sequence[str]], word: str
) -> list[Finding]:
    """Classes that come from one source: `sources` names a value of each slice (its file type, its size)."""
    found = []
    for label in sorted(set(labels)):
        own = [index for index, other in enumerate(labels) if other == label]
        rest = [index for index, other in enumerate(labels) if other != label]
        if len({int(groups[index]) for index in own}) == 1 and len(own) > 1:
            found.append(
                Finding(
                    severity=Severity.WARNING,
                    title=f"all {len(own)} slices of class {label} come from one of the {word}",
                    advice="add others: a model learns that one and not the class",
                )
            )
        for source, values in sources.items():
            value, count = Counter(values[index] for index in own).most_common(1)[0]
            shared = sum(values[index] == value for index in rest)
            if count == len(own) >= _MIN_MARKED and shared < _SHARED * max(1, len(rest)):
                found.append(
                    Finding(
                        severity=Severity.WARNING,
                        title=f"class {label} comes from one source: its {source} is always {value}, "
                        f"elsewhere in {shared} of {len(rest)} slices",
                        advice="take all classes from the same sources, or expect the model to learn the source",
                    )
                )
    return found


def count_of(number: int, word: str) -> str:
    """`1 pair`, `2 pairs`."""
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def find_shortcuts(shortcuts: Sequence[Shortcut]) -> list[Finding]:
    """Shortcuts above 0.7 that chance does not explain."""
    found = []
    for shortcut in shortcuts:
        if not shortcut.is_warning:
            continue
        name, auc = shortcut.features[0]
        if not shortcut.seen:
            advice = "decoding hides it from a model, but classes that differ in it may come from different places"
        elif shortcut.group == "grey levels":
            advice = "where the disease does not explain it, scanners or windows differ: compare images of both classes"
        else:
            advice = "crop or mask it before training: a model can see it, and it says nothing about the disease"
        found.append(
            Finding(
                severity=Severity.WARNING,
                title=f"classes can be told apart by {shortcut.group} alone: AUC {shortcut.auc:.2f} ± "
                f"{shortcut.margin:.2f} (above {WARN_ABOVE}), best by itself: {name} ({auc:.2f})",
                advice=advice,
            )
        )
    return found


def name_files(severity: Severity, title: str, advice: str, names: Sequence[str]) -> Finding:
    """A finding about files, of which the first few are named."""
    return Finding(severity=severity, title=title, advice=advice, count=len(names), names=tuple(names[:MAX_NAMES]))


def _blank_classes(labels: Sequence[str], is_blank: Sequence[bool] | NDArray[np.bool_]) -> list[str]:
    shown = {label for label, blank in zip(labels, is_blank, strict=True) if not blank}
    return sorted(set(labels) - shown)
