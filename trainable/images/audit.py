"""What is in a set of slices and what is wrong with it: shown, logged and stored before anything is trained."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trainable.images.decode import ImageFacts
from trainable.images.splits import SPLITS, SplitRow

MAX_NAMES = 3

_ENDINGS = {
    "PNG": {".png"},
    "JPEG": {".jpg", ".jpeg", ".jpe", ".jfif"},
    "TIFF": {".tif", ".tiff"},
    "BMP": {".bmp", ".dib"},
    "GIF": {".gif"},
    "WEBP": {".webp"},
    "DICOM": {".dcm", ".dicom", ".ima", ""},
}
_GREY_MODES = {"L", "HU"}


@dataclass(frozen=True, kw_only=True)
class Examples:
    """How many, and the names of a few of them."""

    count: int
    names: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class DuplicatePair:
    """Two files that show the same slice; `similarity` is the correlation of near_duplicates.py."""

    first: str
    second: str
    similarity: float
    splits: tuple[str, str]
    labels: tuple[str, str]

    @property
    def across_splits(self) -> bool:
        return self.splits[0] != self.splits[1]

    @property
    def across_labels(self) -> bool:
        return self.labels[0] != self.labels[1]


@dataclass(frozen=True, kw_only=True)
class Audit:
    """Counts, odd files and duplicates of a set.

    Files are named relative to the folder that they share; in `class/patient/slice` the patient is replaced by
    the file's row in splits.csv.
    """

    num_slices: int
    num_patients: int | None
    counts: Mapping[str, Mapping[str, int]]  # class -> split -> slices, those taken out included
    taken_out: Examples
    odd_files: Mapping[str, Examples]
    identical_files: tuple[tuple[str, ...], ...]
    near_duplicates: tuple[DuplicatePair, ...]
    skipped: Examples
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The audit as plain values, fit for JSON, without patient ids."""
        return asdict(self)

    def lines(self) -> list[str]:
        """The audit for a terminal, at most about twenty lines."""
        patients = "patients unknown" if self.num_patients is None else f"{self.num_patients} patients"
        width = max(len(name) for name in self.counts)
        lines = [f"{self.num_slices} slices, {patients}, {len(self.counts)} classes"]
        lines.append(f"  {'':{width}} " + " ".join(f"{split:>6}" for split in SPLITS))
        for name, splits in self._shown_counts():
            lines.append(f"  {name:{width}} " + " ".join(f"{splits[split]:6}" for split in SPLITS))
        kinds = sorted(self.odd_files.items(), key=lambda item: -item[1].count)
        lines += [f"  {kind}: {_show(files)}" for kind, files in kinds[:5]]
        if len(kinds) > 5:
            lines.append(f"  and {len(kinds) - 5} more kinds of odd files")
        if self.identical_files:
            lines.append(f"  identical files: {len(self.identical_files)} sets, {_list(self.identical_files[0])}")
        within = sum(not pair.across_splits and not pair.across_labels for pair in self.near_duplicates)
        crossing = [pair for pair in self.near_duplicates if pair.across_splits or pair.across_labels]
        lines.append(
            f"  near-duplicate pairs: {within} within a split and class, "
            f"{sum(pair.across_splits for pair in crossing)} across splits, "
            f"{sum(pair.across_labels for pair in crossing)} across classes"
        )
        for pair in crossing[:MAX_NAMES]:
            one, two = (f"{name} ({split}, {label})" for name, split, label in _sides(pair))
            lines.append(f"    {one} ~ {two}, {pair.similarity:.2f}")
        if self.taken_out.count:
            lines.append(f"  taken out of train and val as near-duplicates: {_show(self.taken_out)}")
        if self.skipped.count:
            lines.append(f"  skipped: {_show(self.skipped)}")
        return lines + [f"  warning: {warning}" for warning in self.warnings]

    def _shown_counts(self) -> list[tuple[str, Mapping[str, int]]]:
        rows = list(self.counts.items())
        if len(rows) <= 6:
            return rows
        rest = {split: sum(splits[split] for _, splits in rows[5:]) for split in SPLITS}
        return [*rows[:5], ("others", rest)]


def audit_slices(
    rows: Sequence[SplitRow],
    facts: Sequence[ImageFacts],
    pairs: Sequence[tuple[int, int, float]],
    *,
    num_patients: int | None,
    image_size: int,
    skipped: Sequence[str] = (),
    warnings: Sequence[str] = (),
) -> Audit:
    """Sum up what is known of each slice (`rows` and `facts`, in one order) and of `pairs` of their indices."""
    names = shorten_names([row.path for row in rows])
    counts = {label: dict.fromkeys(SPLITS, 0) for label in sorted({row.label for row in rows})}
    odd: defaultdict[str, list[str]] = defaultdict(list)
    copies: defaultdict[str, list[str]] = defaultdict(list)
    for row, fact, name in zip(rows, facts, names, strict=True):
        counts[row.label][row.split] += 1
        copies[fact.sha256].append(name)
        for kind in find_oddities(row.path, fact, image_size):
            odd[kind].append(name)
    return Audit(
        num_slices=len(rows),
        num_patients=num_patients,
        counts=counts,
        taken_out=sample([name for row, name in zip(rows, names, strict=True) if not row.kept]),
        odd_files={kind: sample(found) for kind, found in sorted(odd.items())},
        identical_files=tuple(tuple(same) for same in copies.values() if len(same) > 1),
        near_duplicates=tuple(
            DuplicatePair(
                first=names[i],
                second=names[j],
                similarity=round(similarity, 4),
                splits=(rows[i].split, rows[j].split),
                labels=(rows[i].label, rows[j].label),
            )
            for i, j, similarity in pairs
        ),
        skipped=sample(skipped),
        warnings=tuple(warnings),
    )


def find_oddities(path: Path, facts: ImageFacts, image_size: int) -> list[str]:
    kinds = []
    ending = path.suffix.lower()
    if facts.format in _ENDINGS and ending not in _ENDINGS[facts.format]:
        known = any(ending in endings for endings in _ENDINGS.values())
        kinds.append(f"{facts.format} data in a {ending if known and ending else 'file of another ending'}")
    if facts.mode not in _GREY_MODES:
        kinds.append(f"mode {facts.mode}, not 8-bit grey")
    if min(facts.width, facts.height) < image_size:
        kinds.append(f"smaller than {image_size} px")
    return kinds


def shorten_names(paths: Sequence[Path]) -> list[str]:
    """Names fit for a log: a folder between class and file may be a patient's, so its place takes the row."""
    root = Path(os.path.commonpath([path.parent for path in paths]))
    shown = []
    for row, path in enumerate(paths, 1):
        first, *between = path.relative_to(root).parts
        shown.append("/".join([first, f"[row {row}]", between[-1]] if len(between) > 1 else [first, *between]))
    return shown


def sample(names: Sequence[str]) -> Examples:
    return Examples(count=len(names), names=tuple(names[:MAX_NAMES]))


def _sides(pair: DuplicatePair) -> list[tuple[str, str, str]]:
    return list(zip((pair.first, pair.second), pair.splits, pair.labels, strict=True))


def _show(files: Examples) -> str:
    return f"{files.count} ({_list(files.names)}{', ...' if files.count > len(files.names) else ''})"


def _list(names: Sequence[str]) -> str:
    return ", ".join(name if len(name) <= 32 else f"...{name[-29:]}" for name in names[:MAX_NAMES])
