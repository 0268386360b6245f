"""Neighbours of DICOM slices: which slices of a series stand beside one as its channels, and how those are decoded."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from trainable.images.decode import decode_slice
from trainable.images.dicom_ids import is_dicom_file, read_dicom_ids
from trainable.images.faults import BadImageError
from trainable.images.folders import list_folder
from trainable.images.limits import read_file
from trainable.images.member_names import holds_frames, name_frame, split_member
from trainable.images.series import Series, SeriesSlice, find_series

if TYPE_CHECKING:
    from trainable.images.pixel_format import PixelFormat

Plan = tuple[SeriesSlice, ...]


def list_neighbours(series: Series, form: PixelFormat) -> list[Plan]:
    """For each slice of a series the slices that are its channels, feet to head, itself in the middle.

    They lie `form.neighbour_mm` apart as in `volumes.show_slice`: to the nearest slice by position, so that missing
    ones do not shift the rest; beyond an end the last slice is repeated. Raises BadImageError for a distance where
    positions are unknown.
    """
    offsets = np.arange(-form.neighbours, form.neighbours + 1)
    last = len(series.slices) - 1
    wanted = np.arange(last + 1)[:, None] + offsets
    if form.neighbour_mm is not None:
        places = [item.position_mm for item in series.slices if item.position_mm is not None]
        if len(places) <= last or series.spacing_mm is None:
            raise BadImageError(
                f"{series.slices[0].path}: its series has no positions, so that {form.neighbour_mm:g} mm cannot be "
                "measured in it; give neighbours without a distance"
            )
        step_mm = max(1, round(form.neighbour_mm / series.spacing_mm)) * series.spacing_mm
        depths = np.array(places)
        targets = depths[:, None] + step_mm * offsets
        nearest = np.abs(depths - targets[..., None]).argmin(axis=2)
        wanted = np.where(offsets > 0, np.maximum(wanted, nearest), np.minimum(wanted, nearest))
        wanted[:, form.neighbours] = np.arange(last + 1)
    return [tuple(series.slices[index] for index in row) for row in np.clip(wanted, 0, last)]


def plan_slices(paths: Iterable[Path], form: PixelFormat, *, num_workers: int = 1) -> dict[Path, Plan]:
    """The plan of each of `paths` that is one slice of a DICOM series, among all files of its folder, and of the
    folders among theirs that hold more of the series.

    Raises BadImageError as `list_neighbours` does, and OSError.
    """
    if not form.neighbours:
        return {}
    wanted = set(paths)
    folders = {path.parent for path in wanted}
    files = {file for file in wanted.union(*map(_list_files, folders)) if is_dicom_file(file)}
    found = find_series(files, num_workers=num_workers)
    if more := _find_more(folders, {ids.series for ids in found.ids.values()}):
        found = find_series(files.union(filter(is_dicom_file, more)), num_workers=num_workers)
    plans = {
        item.path: plan
        for series in found.series
        if series.is_volume
        for item, plan in zip(series.slices, list_neighbours(series, form), strict=True)
        if not item.is_frame
    }
    for copy, original in found.copies.items():
        if copy in wanted and original in plans:
            plans[copy] = tuple(replace(item, path=copy) if item.path == original else item for item in plans[original])
    return {path: plan for path, plan in plans.items() if path in wanted}


def _find_more(folders: Set[Path], known: Set[str]) -> list[Path]:
    """The files of the other folders below the one that holds all these, whose first file is of a series that is
    `known`."""
    if len(folders) < 2:
        return []
    others = set(_list_below(Path(os.path.commonpath(folders)))) - folders
    first_of = {files[0]: files for folder in sorted(others) if (files := _list_files(folder))}
    ids = read_dicom_ids(first_of)
    return [file for first, one in ids.items() if one.series and one.series in known for file in first_of[first]]


def _list_below(folder: Path) -> Iterator[Path]:
    for inner in list_folder(folder)[0]:
        yield inner
        yield from _list_below(inner)


def _list_files(folder: Path) -> list[Path]:
    return list_folder(folder)[1]


def plan_rows(paths: Sequence[Path], form: PixelFormat, *, num_workers: int = 1) -> dict[Path, tuple[Path, ...]]:
    """The names of the slices that are each one's channels, for slices of series and frames of files alike; of NIfTI's
    nothing is said: they are read whole. Raises as `plan_slices` does."""
    if not form.neighbours:
        return {}
    plans = plan_slices([path for path in paths if split_member(path) is None], form, num_workers=num_workers)
    named = {path: tuple(_name(item) for item in plan) for path, plan in plans.items()}
    files = dict.fromkeys(member[0] for path in paths if (member := split_member(path)) and holds_frames(member[0]))
    wanted = set(paths)
    for series in find_series(files, num_workers=num_workers).series:
        for plan in list_neighbours(series, form):
            if (name := _name(plan[form.neighbours])) in wanted:
                named[name] = tuple(map(_name, plan))
    return named


def _name(item: SeriesSlice) -> Path:
    return name_frame(item.path, item.frame) if item.is_frame else item.path


def hash_neighbours(plans: Mapping[Path, Plan], known: Mapping[Path, str]) -> dict[Path, str]:
    """The SHA-256 of every file of the plans; those `known` are not read again."""
    files = {item.path for plan in plans.values() for item in plan}
    return {path: known.get(path) or hashlib.sha256(read_file(path)).hexdigest() for path in sorted(files)}


def decode_plans(
    plans: Sequence[Plan], size: int, form: PixelFormat, check: Callable[[Path, bytes], None]
) -> Iterator[NDArray[np.uint8]]:
    """Each slice with its neighbours, uint8 (size, size, C); a slice that the next plan needs too is decoded once.

    `check` is called with each file and its content. Raises what that raises, BadImageError naming the file, OSError.
    """
    decoded: dict[SeriesSlice, NDArray[np.uint8]] = {}
    for plan in plans:
        decoded = {item: decoded[item] for item in plan if item in decoded}
        for item in plan:
            if item not in decoded:
                content = read_file(item.path)
                check(item.path, content)
                frame = item.frame if item.is_frame else None
                try:
                    decoded[item] = decode_slice(content, size, windows=form.windows, frame=frame)
                except BadImageError as error:
                    raise BadImageError(f"{item.path}: {error}") from error
        yield join_channels([decoded[item] for item in plan])


def join_channels(slices: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Slices uint8 (S, S), or (S, S, W) of several windows, as the channels of one image: (S, S, N * W)."""
    return np.concatenate([pixels if pixels.ndim == 3 else pixels[..., None] for pixels in slices], axis=-1)
