"""An audit of a set by itself: every file is read once, nothing is trained, all that is found is said."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainable.images.audit import shorten_names
from trainable.images.audit_findings import (
    LookedFile,
    ShownPair,
    find_copies,
    find_doubts,
    find_left_out,
    find_odd_files,
    find_pairs,
    find_ungrouped,
    find_unusable,
    pair_up,
)
from trainable.images.decode import ImageFacts
from trainable.images.faults import NotASliceError
from trainable.images.find_slices import ALL_SLICES, find_slices
from trainable.images.findings import (
    EXIT_CODES,
    Finding,
    Severity,
    find_blank,
    find_blank_slices,
    find_one_source,
    find_shortcuts,
    find_small_splits,
)
from trainable.images.groups import group_slices
from trainable.images.looked_at import check_neighbours, look_with_neighbours
from trainable.images.manifest import Manifest, Slice
from trainable.images.near_duplicates import (
    SAME_SCAN,
    SAME_SLICE,
    THUMBNAIL_SIZE,
    find_near_duplicates,
)
from trainable.images.pixel_format import GREY, PixelFormat
from trainable.images.read_many import read_all
from trainable.images.scales import scale_warnings
from trainable.images.shortcut_features import SIDE, measure_features
from trainable.images.shortcuts import Shortcut, measure_shortcuts
from trainable.images.slice_rule import SliceRule
from trainable.images.windows import LUNG

NO_SPLIT = "not split yet"


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

    def measure(path: Path, facts: ImageFacts, pixels: NDArray[np.uint8]) -> LookedFile:
        name = str(path.relative_to(root)) if path.is_relative_to(root) else path.name
        lung, pixels = (pixels[..., 0], pixels[..., 1]) if pixels.ndim == 3 else (pixels, pixels)
        blocks = lung.reshape(THUMBNAIL_SIZE, SIDE // THUMBNAIL_SIZE, THUMBNAIL_SIZE, SIDE // THUMBNAIL_SIZE)
        return LookedFile(
            facts=facts,
            small=np.round(blocks.mean(axis=(1, 3))).astype(np.uint8),
            is_blank=bool(find_blank(lung[None])[0]),
            features=measure_features(path, name, facts, pixels),
        )

    # As in a search, near-duplicates and blank slices are found through the lung window.
    windows = (LUNG,) if form.colour or form.windows[0] == LUNG else (LUNG, form.windows[0])
    looked = look_with_neighbours(
        [item.path for item in slices],
        form,
        num_workers,
        lambda paths: read_all(paths, SIDE, num_workers, measure, colour=form.colour, windows=windows),
    )
    usable = [index for index, file in enumerate(looked) if isinstance(file, LookedFile)]
    left_out = [*found.left_out, *(fault for fault in looked if isinstance(fault, NotASliceError))]
    broken = [
        (item, str(fault))
        for item, fault in zip(slices, looked, strict=True)
        if not isinstance(fault, (LookedFile, NotASliceError))
    ]
    if not usable:
        fault = broken[0][1] if broken else str(left_out[0])
        raise ValueError(f"none of the {len(looked)} files of {data} can be used; the first: {fault}")
    ids = found.patients.ids
    remarks = [
        *find_unusable(found.manifest, broken, len(looked)),
        *find_left_out(left_out),
        *find_doubts(found.oddities, "look at these series before anything is trained"),
        *find_doubts(
            [line for line in found.reading.warnings if line not in found.oddities],
            "make sure whose each slice is before anything is trained",
        ),
    ]
    return _audit(
        found.manifest,
        [slices[index] for index in usable],
        [file for file in looked if isinstance(file, LookedFile)],
        None if ids is None else [ids[index] for index in usable],
        remarks,
        seed,
    )


def _audit(
    manifest: Manifest,
    slices: Sequence[Slice],
    files: Sequence[LookedFile],
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
    pairs = pair_up(slices, names, labels, shown_splits, groups, [pair for pair in alike if pair[2] >= SAME_SLICE])
    word = "patients" if is_known else "groups"
    findings = [
        *remarks,
        *find_doubts(scale_warnings(Counter(file.facts.scale for file in files)), "a search warns of it too"),
        *find_ungrouped(is_known, groups, splits, names),
        *find_copies(files, names, labels, shown_splits),
        *find_pairs(pairs, is_known),
        *find_blank_slices(names, labels, np.array([file.is_blank for file in files])),
        *find_small_splits(labels, splits, groups, word),
        *find_one_source(labels, groups, sources, word),
        *find_shortcuts(shortcuts),
        *find_odd_files(slices, files, names),
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
