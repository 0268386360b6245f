"""An audit of a set by itself: every file is read once, nothing is trained, all that is found is said."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainable.images.audit import DuplicatePair, find_oddities, shorten_names
from trainable.images.decode import ImageFacts
from trainable.images.faults import NotASliceError, count_left_out
from trainable.images.find_slices import ALL_SLICES, find_slices
from trainable.images.findings import (
    EXIT_CODES,
    Finding,
    Severity,
    count_of,
    find_blank,
    find_blank_slices,
    find_one_source,
    find_shortcuts,
    find_small_splits,
    name_files,
)
from trainable.images.groups import group_slices
from trainable.images.looked_at import check_neighbours, look_with_neighbours
from trainable.images.manifest import Manifest, Slice
from trainable.images.near_duplicates import (
    PICTURE_SIZE,
    SAME_SCAN,
    SAME_SLICE,
    find_near_duplicates,
    pair_equal,
)
from trainable.images.pixel_format import GREY, PixelFormat
from trainable.images.read_many import read_all
from trainable.images.scales import scale_warnings
from trainable.images.shortcut_features import SIDE, Features, measure_features
from trainable.images.shortcuts import Shortcut, measure_shortcuts
from trainable.images.slice_rule import SliceRule
from trainable.images.windows import LUNG

NO_SPLIT = "not split yet"
_AUDIT_SIZE = 64  # pixels: smaller files are odd


@dataclass(frozen=True, kw_only=True)
class ShownPair:
    """A pair of near-duplicates, and where its two files lie."""

    pair: DuplicatePair
    paths: tuple[Path, Path]
    is_same_group: bool


@dataclass(frozen=True, kw_only=True)
class DataAudit:
    """What is in a set and what is wrong with it. Files are named as `shorten_names` does: without patients.

    `counts` and `num_groups` are class -> split -> slices, and patients (or groups, where `num_patients` is None).
    `sources` are kind -> class -> value -> slices, for the file type, the colour mode and the size in pixels.
    """

    name: str
    num_slices: int
    num_patients: int | None
    counts: Mapping[str, Mapping[str, int]]
    num_groups: Mapping[str, Mapping[str, int]]
    sources: Mapping[str, Mapping[str, Mapping[str, int]]]
    findings: tuple[Finding, ...]
    pairs: tuple[ShownPair, ...]
    shortcuts: tuple[Shortcut, ...]

    @property
    def exit_code(self) -> int:
        """0 where nothing above a note was found, 3 for warnings, 4 for errors."""
        return EXIT_CODES[max((finding.severity for finding in self.findings), default=Severity.NOTE)]

    def lines(self) -> list[str]:
        """The audit for a terminal: a line of counts, and one for each finding, the worst first."""
        patients = "patients unknown" if self.num_patients is None else f"{self.num_patients} patients"
        head = f"{self.name}: {self.num_slices} slices, {patients}, {len(self.counts)} classes"
        return [head, *(f"  {finding.line()}" for finding in self.findings)]

    def to_dict(self) -> dict[str, Any]:
        """Plain values fit for JSON, without patients and without the folders of this machine."""
        plain = asdict(self)
        plain["findings"] = [asdict(finding) | {"severity": finding.severity.name.lower()} for finding in self.findings]
        plain["pairs"] = [asdict(shown.pair) | {"is_same_group": shown.is_same_group} for shown in self.pairs]
        plain["shortcuts"] = [asdict(shortcut) | {"is_warning": shortcut.is_warning} for shortcut in self.shortcuts]
        return plain | {"exit_code": self.exit_code}


@dataclass(frozen=True, kw_only=True)
class _File:
    facts: ImageFacts
    small: NDArray[np.uint8]  # (64, 64)
    is_blank: bool
    features: Features


def audit_data(
    data: Path,
    *,
    cache_dir: Path,
    patient_from: str | None = None,
    positive: str | None = None,
    slice_rule: SliceRule = ALL_SLICES,
    form: PixelFormat = GREY,
    num_workers: int = 1,
    seed: int = 0,
) -> DataAudit:
    """Audit data as `prepare_data` would take it; archives are unpacked into `cache_dir`.

    `form` says which files can be used (in colour, with neighbours); what is measured of pixels is so in grey, of CT
    through the first window. Files that cannot be used are findings. Shortcuts are measured on all slices but those of
    a given test split. Raises what `find_slices` and `check_neighbours` raise, and ValueError where no file can be
    used.
    """
    found = find_slices(
        data,
        unpack_into=cache_dir / "unpacked",
        patient_from=patient_from,
        positive=positive,
        skip_bad_images=True,
        slice_rule=slice_rule,
        num_workers=num_workers,
    )
    if form.neighbours:
        check_neighbours(found.manifest, found.volumes)
    slices = found.manifest.slices
    root = data if data.is_dir() else data.parent

    def measure(path: Path, facts: ImageFacts, pixels: NDArray[np.uint8]) -> _File:
        name = str(path.relative_to(root)) if path.is_relative_to(root) else path.name
        lung, pixels = (pixels[..., 0], pixels[..., 1]) if pixels.ndim == 3 else (pixels, pixels)
        blocks = lung.reshape(PICTURE_SIZE, SIDE // PICTURE_SIZE, PICTURE_SIZE, SIDE // PICTURE_SIZE)
        return _File(
            facts=facts,
            small=np.round(blocks.mean(axis=(1, 3))).astype(np.uint8),
            is_blank=bool(find_blank(lung[None])[0]),
            features=measure_features(path, name, facts, pixels),
        )

    # As in a search, near-duplicates and blank slices are found through the lung window.
    windows = (LUNG,) if form.windows[0] == LUNG else (LUNG, form.windows[0])
    looked = look_with_neighbours(
        [item.path for item in slices],
        form,
        num_workers,
        lambda paths: read_all(paths, SIDE, num_workers, measure, colour=form.colour, windows=windows),
    )
    usable = [index for index, file in enumerate(looked) if isinstance(file, _File)]
    left_out = [*found.left_out, *(fault for fault in looked if isinstance(fault, NotASliceError))]
    broken = [
        (item, str(fault))
        for item, fault in zip(slices, looked, strict=True)
        if not isinstance(fault, (_File, NotASliceError))
    ]
    if not usable:
        fault = broken[0][1] if broken else str(left_out[0])
        raise ValueError(f"none of the {len(looked)} files of {data} can be used; the first: {fault}")
    ids = found.patients.ids
    remarks = [
        *_find_unusable(found.manifest, broken, len(looked)),
        *_find_left_out(left_out),
        *_find_doubts(found.oddities, "look at these series before anything is trained"),
        *_find_doubts(
            [line for line in found.reading.warnings if line not in found.oddities],
            "make sure whose each slice is before anything is trained",
        ),
    ]
    return _audit(
        found.manifest,
        [slices[index] for index in usable],
        [file for file in looked if isinstance(file, _File)],
        None if ids is None else [ids[index] for index in usable],
        remarks,
        seed,
    )


def _audit(
    manifest: Manifest,
    slices: Sequence[Slice],
    files: Sequence[_File],
    patients: Sequence[str] | None,
    remarks: Sequence[Finding],
    seed: int,
) -> DataAudit:
    names = shorten_names([item.path for item in slices])
    labels = [manifest.classes[item.label] for item in slices]
    alike = find_near_duplicates(np.stack([file.small for file in files]), SAME_SCAN)
    is_known = patients is not None
    groups = group_slices(slices, patients, alike)
    given = [item.split for item in slices if item.split is not None]
    splits = given if len(given) == len(slices) else None
    shown_splits = splits or [NO_SPLIT] * len(slices)
    sources = {
        "file type": [file.facts.format for file in files],
        "colour mode": [file.facts.mode for file in files],
        "size": [f"{file.facts.width} x {file.facts.height}" for file in files],
    }
    open_ones = [index for index, split in enumerate(shown_splits) if split != "test"]
    shortcuts = measure_shortcuts(
        [files[index].features for index in open_ones],
        [labels[index] for index in open_ones],
        np.unique(groups[open_ones], return_inverse=True)[1],
        seed=seed,
    )
    pairs = _pair_up(slices, names, labels, shown_splits, groups, [pair for pair in alike if pair[2] >= SAME_SLICE])
    word = "patients" if is_known else "groups"
    findings = [
        *remarks,
        *_find_doubts(scale_warnings(Counter(file.facts.scale for file in files)), "a search warns of it too"),
        *_find_ungrouped(is_known, groups, splits, names),
        *_find_copies(files, names, labels, shown_splits),
        *_find_pairs(pairs, is_known),
        *find_blank_slices(names, labels, np.array([file.is_blank for file in files])),
        *find_small_splits(labels, splits, groups, word),
        *find_one_source(labels, groups, sources, word),
        *find_shortcuts(shortcuts),
        *_find_odd_files(slices, files, names),
    ]
    return DataAudit(
        name=manifest.name,
        num_slices=len(slices),
        num_patients=None if patients is None else len(set(patients)),
        counts=_count(zip(labels, shown_splits, strict=True)),
        num_groups=_count(
            (label, split) for label, split, _ in {*zip(labels, shown_splits, groups.tolist(), strict=True)}
        ),
        sources={kind: _count(zip(labels, values, strict=True)) for kind, values in sources.items()},
        findings=tuple(sorted(findings, key=lambda finding: -finding.severity)),
        pairs=pairs,
        shortcuts=shortcuts,
    )


def _count(entries: Any) -> dict[str, dict[str, int]]:
    counted: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for first, second in entries:
        counted[first][second] += 1
    return {first: dict(values.most_common()) for first, values in sorted(counted.items())}


def _pair_up(
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


def _find_unusable(manifest: Manifest, broken: Sequence[tuple[Slice, str]], num_files: int) -> list[Finding]:
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


def _find_left_out(errors: Sequence[NotASliceError]) -> list[Finding]:
    return [
        Finding(severity=Severity.NOTE, title=line, advice="nothing need be done") for line in count_left_out(errors)
    ]


def _find_doubts(lines: Sequence[str], advice: str) -> list[Finding]:
    return [Finding(severity=Severity.WARNING, title=line, advice=advice) for line in lines]


def _find_ungrouped(
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


def _find_copies(
    files: Sequence[_File], names: Sequence[str], labels: Sequence[str], splits: Sequence[str]
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


def _find_pairs(pairs: Sequence[ShownPair], is_known: bool) -> list[Finding]:
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


def _find_odd_files(slices: Sequence[Slice], files: Sequence[_File], names: Sequence[str]) -> list[Finding]:
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
