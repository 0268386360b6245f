"""Scans: what is classified as one, an image file or a volume; and the pixels of its slices, as in training."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainable.images.cache import decode_pixels
from trainable.images.decode import BadImageError, read_frames
from trainable.images.dicom_ids import is_dicom_file
from trainable.images.expand import choose_members
from trainable.images.expand_series import COPY, OTHER_SHAPE, choose_slices
from trainable.images.faults import NotASliceError, show_name
from trainable.images.members import FRAMES_AT_ONCE, name_frame, name_member, read_members
from trainable.images.neighbours import Plan, decode_plans, list_neighbours
from trainable.images.pixel_format import PixelFormat
from trainable.images.quiet import quiet
from trainable.images.series import Series, SeriesSlice, find_series
from trainable.images.slice_rule import SliceRule
from trainable.images.volumes import is_volume

MAX_RUN = 32  # slices that a thread takes at once

SliceOfScan = tuple[Path, NDArray[np.uint8]]


@dataclass(frozen=True, kw_only=True)
class Scan:
    """An image file, or a volume: a NIfTI file, a DICOM file of several frames, or a folder's series.

    `path` is the file's or the folder's; of several series in one folder FOLDER#NUMBER, in the order of their first
    files. `series` are the slices of a DICOM volume; `refusal` says why a file is none to classify.
    """

    path: Path
    series: Series | None = None
    refusal: NotASliceError | None = None

    @property
    def is_volume(self) -> bool:
        return self.series is not None or is_volume(self.path)


def open_scan(path: Path) -> Scan:
    """The scan in one file; what cannot be read counts as an image, whose reader says why."""
    if is_volume(path) or not is_dicom_file(path):
        return Scan(path=path)
    found = find_series([path]).series
    is_alone = len(found) == 1 and found[0].is_volume and all(item.is_frame for item in found[0].slices)
    return Scan(path=path, series=found[0] if is_alone else None)


def find_scans(files: Sequence[Path], *, num_workers: int = 1) -> Iterator[Scan]:
    """The scans in the files of folders: series of single slices are put together, each file is in one scan.

    A series stands where its first file stands; one that lies in several folders has the name of the folder above.
    Files that hold no slice, localizers among them, slices that lie across their series, and copies are refused.
    """
    with ThreadPoolExecutor(max(1, num_workers)) as threads:
        dicom = [path for path, yes in zip(files, threads.map(is_dicom_file, files), strict=True) if yes]
    found = find_series(dicom, num_workers=num_workers)
    series = [one for one in found.series if one.is_volume]
    names = {id(one): find_place(one) for one in series}
    shared = Counter(name for name in names.values() if name not in found.ids)
    numbers: Counter[Path] = Counter()
    of_file: dict[Path, Scan] = {}
    for one in sorted(series, key=lambda one: min(item.path for item in one.slices)):
        name = names[id(one)]
        if shared[name] > 1:
            numbers[name] += 1
            name = name.with_name(f"{name.name}#{numbers[name]}")
        of_file |= dict.fromkeys((item.path for item in one.slices), Scan(path=name, series=one))
        for path in one.left_out:
            of_file[path] = Scan(path=path, refusal=NotASliceError(OTHER_SHAPE, name=show_name(path)))
    for path, original in found.copies.items():
        if original in of_file:
            of_file[path] = Scan(path=path, refusal=NotASliceError(COPY, name=show_name(path)))
    seen: set[Path] = set()
    for path in files:
        scan = of_file.get(path, Scan(path=path))
        if scan.path not in seen:
            seen.add(scan.path)
            yield scan


def find_place(series: Series) -> Path:
    """The file of frames, or the folder that holds all files of a series."""
    paths = {item.path for item in series.slices}
    if len(paths) == 1:
        return next(iter(paths))
    folders = {path.parent for path in paths}
    is_relative = not any(folder.is_absolute() for folder in folders)
    return Path(os.path.commonpath(folders if is_relative else {folder.absolute() for folder in folders}))


def read_scan(
    scan: Scan, size: int, form: PixelFormat, rule: SliceRule, *, num_workers: int = 1
) -> Iterator[SliceOfScan]:
    """The slices of a volume that `rule` chooses, feet to head, each with its name (`members.name_member`) and its
    pixels as the cache has them.

    Raises BadImageError, naming the file, where one is bad or the rule finds none; and OSError.
    """
    if scan.series is None:
        numbers = choose_members(scan.path, rule)
        for number, (_, pixels) in zip(numbers, read_members(scan.path, numbers, size, form), strict=True):
            yield name_member(scan.path, number), pixels
        return
    if scan.series.mixed_scales:
        raise BadImageError(f"{scan.path}: {scan.series.mixed_scales}: one tissue would have several greys")
    chosen = choose_slices(scan.series, rule)
    if isinstance(chosen, Exception):
        raise chosen
    plans = dict(zip(scan.series.slices, list_neighbours(scan.series, form), strict=True)) if form.neighbours else {}

    def read(run: Sequence[SeriesSlice]) -> list[SliceOfScan]:
        names = [name_frame(item.path, item.frame) if item.is_frame else item.path for item in run]
        return list(zip(names, _read_run(run, size, form, [plans[item] for item in run if plans]), strict=True))

    with quiet, ThreadPoolExecutor(max(1, num_workers)) as threads:
        yield from chain.from_iterable(threads.map(read, _cut(chosen, num_workers)))


def _cut(slices: Sequence[SeriesSlice], num_workers: int) -> Iterator[list[SeriesSlice]]:
    length = min(MAX_RUN, -(-len(slices) // max(1, num_workers)))
    for _, of_file in groupby(slices, key=lambda item: item.is_frame and item.path):
        run = list(of_file)
        step = FRAMES_AT_ONCE if run[0].is_frame else length
        yield from (run[at : at + step] for at in range(0, len(run), step))


def _read_run(
    run: Sequence[SeriesSlice], size: int, form: PixelFormat, plans: Sequence[Plan]
) -> Iterable[NDArray[np.uint8]]:
    if plans:
        return decode_plans(plans, size, form, lambda path, content: None)
    if run[0].is_frame:
        frames = [item.frame for item in run]
        found = read_frames(run[0].path, frames, size, windows=form.windows, colour=form.colour)
        return (pixels for _, pixels in found)
    return (_read_slice(item.path, size, form) for item in run)


def _read_slice(path: Path, size: int, form: PixelFormat) -> NDArray[np.uint8]:
    try:
        return decode_pixels(path, size, form)
    except BadImageError as error:
        raise error if str(path) in str(error) else BadImageError(f"{show_name(path)}: {error}") from error
