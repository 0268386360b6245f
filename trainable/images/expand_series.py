"""Rows of DICOM files to rows of slices: series in their order, files of several frames, and what is no slice."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np

from trainable.images.decode import BadImageError, read_hounsfield
from trainable.images.dicom_ids import DicomIds, is_dicom_file, read_dicom_ids
from trainable.images.faults import NotASliceError
from trainable.images.manifest import Slice
from trainable.images.members import name_frame, split_member
from trainable.images.quiet import quiet
from trainable.images.rows import Row
from trainable.images.series import FoundSeries, Series, SeriesSlice, find_series
from trainable.images.slice_rule import SliceRule, measure_lung_share
from trainable.images.volumes import is_volume

T = TypeVar("T", Row, Slice)
WITHOUT_PIXELS = "a DICOM file without pixel data"
COPY = "a copy of another slice of the set (it has the same SOPInstanceUID)"
OTHER_SHAPE = "a slice of another direction or size than the rest of its series"


@dataclass(frozen=True, kw_only=True)
class ExpandedSeries(Generic[T]):
    """Rows of single slices. `notes` say what was made of series, `oddities` what may be wrong with them.

    `left_out` are files in order that hold no slice, `skipped` a sentence for each series that was left out. `ids` are
    the headers of every DICOM row, `volumes` the series of each row that is one of several slices, as a number.
    """

    rows: tuple[T, ...]
    notes: tuple[str, ...] = ()
    oddities: tuple[str, ...] = ()
    left_out: tuple[NotASliceError, ...] = ()
    skipped: tuple[str, ...] = ()
    ids: Mapping[Path, DicomIds] = field(default_factory=dict)
    volumes: Mapping[Path, str] = field(default_factory=dict)


def expand_series(
    rows: Sequence[T],
    rule: SliceRule,
    *,
    skip_bad_images: bool = False,
    keep_bad_volumes: bool = False,
    num_workers: int = 1,
) -> ExpandedSeries[T]:
    """Give the DICOM files among `rows` as slices: of a series, and of a file of several frames, those that `rule`
    chooses, in their order in the body. Single images and other files stay as they are, and so do damaged ones.

    Localizers, reports, and slices that lie across their series are left out. Raises BadImageError for a series that
    shows nothing that the rule asks for, unless those are skipped, or kept whole and noted.
    """
    candidates = [row.path for row in rows if not is_volume(row.path) and split_member(row.path) is None]
    with ThreadPoolExecutor(max(1, num_workers)) as threads:
        yes = threads.map(is_dicom_file, candidates)
        files = [path for path, is_dicom in zip(candidates, yes, strict=True) if is_dicom]
    if not files:
        return ExpandedSeries(rows=tuple(rows))
    # a copy under another label is a fault, not a copy
    kinds: dict[Path, tuple[str | int, str | None]] = {row.path: (row.label, row.split) for row in rows}
    found: FoundSeries = find_series(files, kinds=kinds, num_workers=num_workers)
    volumes: list[Series] = [one for one in found.series if one.is_volume]
    refused = {path: error for path, error in found.refused.items() if error.reason != WITHOUT_PIXELS}
    refused |= {path: NotASliceError(COPY, name=str(path)) for path in found.copies}
    refused |= {path: NotASliceError(OTHER_SHAPE, name=str(path)) for series in volumes for path in series.left_out}
    with quiet, ThreadPoolExecutor(max(1, num_workers)) as threads:
        chosen = list(threads.map(lambda series: choose_slices(series, rule), volumes))
    bad = [slices for slices in chosen if isinstance(slices, Exception)]
    if bad and not keep_bad_volumes and (not skip_bad_images or len(bad) == len(chosen)):
        raise BadImageError(f"{bad[0]} ({len(bad)} of {len(chosen)} series cannot be used)") from bad[0]
    kept: dict[Path, list[tuple[int, SeriesSlice]]] = defaultdict(list)
    members: defaultdict[int, list[SeriesSlice]] = defaultdict(list)
    dropped: set[Path] = set()
    for number, (series, slices) in enumerate(zip(volumes, chosen, strict=True)):
        dropped |= {item.path for item in series.slices}
        if isinstance(slices, Exception):
            slices = list(series.slices) if keep_bad_volumes else []
        for item in slices:
            kept[item.path].append((number, item))
            members[number].append(item)
    by_path = {row.path: row for row in rows}
    expanded: list[T] = []
    of_volume: dict[Path, str] = {}
    ids = {**read_dicom_ids([path for path in files if path not in found.ids]), **found.ids}
    placed: set[int] = set()
    for row in rows:
        if row.path in refused:
            continue
        if row.path not in dropped:
            expanded.append(row)
        for number, _ in kept.get(row.path, []):
            if number in placed:
                continue
            placed.add(number)
            for item in members[number]:
                slice_row = _name_slice(by_path[item.path], item)
                expanded.append(slice_row)
                of_volume[slice_row.path] = f"series {number}"
                ids[slice_row.path] = found.ids[item.path]
    num_slices = sum(len(slices) for slices in chosen if not isinstance(slices, Exception))
    notes = list(found.notes)
    if num_slices:
        notes.append(f"DICOM series: {len(volumes) - len(bad)} were read as {num_slices} slices, by the rule {rule}")
    if bad and keep_bad_volumes:
        notes.append(f"DICOM series: {len(bad)} of {len(volumes)} cannot be used, the first: {bad[0]}")
    oddities = [
        *found.doubts,
        *_count_torn(volumes, kinds),
        *_count_oddities(volumes),
        *_count_unordered(found.series),
    ]
    return ExpandedSeries(
        rows=tuple(expanded),
        notes=tuple(notes),
        oddities=tuple(oddities),
        left_out=tuple(refused.values()),
        skipped=() if keep_bad_volumes else tuple(map(str, bad)),
        ids=ids,
        volumes=of_volume,
    )


def choose_slices(series: Series, rule: SliceRule) -> list[SeriesSlice] | BadImageError | OSError:
    """The slices of a series that a rule chooses, in order; the error where it finds none or a file is bad."""
    if not rule.needs_voxels:
        return [series.slices[index] for index in rule.choose(len(series.slices))]
    try:
        shares = [
            measure_lung_share(values)
            for path, run in groupby(series.slices, key=lambda item: item.path)
            for values in read_hounsfield(path, [item.frame for item in run])
        ]
        return [series.slices[index] for index in rule.choose_lung(np.array(shares))]
    except (BadImageError, OSError) as error:
        return error
    except ValueError as error:
        return BadImageError(f"{series.slices[0].path.parent}: {error}")


def _name_slice(row: T, item: SeriesSlice) -> T:
    if not item.is_frame:
        return row
    return replace(row, path=name_frame(row.path, item.frame), name=f"{row.name}#frame{item.frame}")


def _count_torn(volumes: Sequence[Series], kinds: Mapping[Path, tuple[str | int, str | None]]) -> list[str]:
    """Lines on series whose slices are of several classes or splits."""
    lines = []
    for what, place in (("classes", 0), ("splits", 1)):
        if torn := sum(len({kinds[item.path][place] for item in series.slices}) > 1 for series in volumes):
            lines.append(
                f"{torn} of {len(volumes)} DICOM series have slices in several {what}: each slice keeps its own, and "
                "the rule for slices chooses among all slices of a series"
            )
    return lines


def _count_unordered(series: Sequence[Series]) -> list[str]:
    """A line on scanners' series whose headers give no order."""
    scans = [one for one in series if one.is_scan]
    unordered = [one for one in scans if not one.is_volume]
    if not unordered:
        return []
    return [
        f"{len(unordered)} of {len(scans)} DICOM series have neither positions nor numbers for their slices: all "
        f"{sum(len(one.slices) for one in unordered)} of them are read as single images, whatever the rule for slices"
    ]


def _count_oddities(volumes: Sequence[Series]) -> list[str]:
    """A line for each kind of what is odd about series, with how many are and the first one's words."""
    kinds: defaultdict[str, list[str]] = defaultdict(list)
    for series in volumes:
        for note in series.notes:
            kinds[re.sub(r"\(.*|\d[\d.]*", "", note)].append(note)
    return [f"{len(notes)} of {len(volumes)} DICOM series: {notes[0]}" for notes in kinds.values()]
