"""Series: DICOM slices, grouped by SeriesInstanceUID and sorted by where they lie in the body."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain, groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainable.images.decode import decode_frames
from trainable.images.dicom_ids import DicomIds
from trainable.images.faults import BadImageError, NotASliceError, show_name, show_text
from trainable.images.quiet import quiet
from trainable.images.scales import Scale
from trainable.images.series_order import sort_places
from trainable.images.series_parts import VOLUMETRIC, find_copies, join_parts
from trainable.images.series_places import Place, read_places
from trainable.images.windows import LUNG, Window


@dataclass(frozen=True, kw_only=True)
class SeriesSlice:
    """One slice of a series: a file, the number of the frame in it, and its place along the normal in millimetres.

    `is_frame` says that the file holds several.
    """

    path: Path
    frame: int
    position_mm: float | None
    is_frame: bool = False


@dataclass(frozen=True, kw_only=True)
class Series:
    """The slices of one series in order, feet to head, and `notes`, a sentence each on what is odd about them.

    `uid` and `patient` come from headers: never log the second. `is_volume` says that there are several slices and that
    their order is known, `is_scan` that they are a scanner's, in whatever order. `mixed_scales` says how
    many slices cannot be brought to Hounsfield units where others can. `left_out` are files of the series that lie in
    another direction or are of another size.
    """

    uid: str
    patient: str | None
    slices: tuple[SeriesSlice, ...]
    spacing_mm: float | None
    notes: tuple[str, ...]
    is_volume: bool
    is_scan: bool = False
    mixed_scales: str = ""
    left_out: tuple[Path, ...] = ()


@dataclass(frozen=True, kw_only=True)
class FoundSeries:
    """The series of many files. `left_out` counts files by the reason why they hold no slice, such as localizers;
    `bad` has a sentence for each that cannot be read.

    `refused` has the error of each file that holds no slice by its headers, `ids` those of all whose headers were read.
    `copies` are files that hold the slice of an earlier one, and that one. `notes` say what was put together from
    several folders, `doubts` what was not.
    """

    series: tuple[Series, ...]
    left_out: Mapping[str, int]
    bad: tuple[str, ...]
    refused: Mapping[Path, NotASliceError]
    ids: Mapping[Path, DicomIds]
    copies: Mapping[Path, Path] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()


def find_series(
    paths: Iterable[Path], *, kinds: Mapping[Path, Hashable] | None = None, num_workers: int = 2
) -> FoundSeries:
    """Read the headers of files, and make series of those that are DICOM slices; pixels are not decoded.

    A series is what shares a SeriesInstanceUID and a PatientID, in one folder or in several as `join_parts` has it; a
    slice that is there twice is taken once, unless its files are of different `kinds`. Files of several frames,
    enhanced CT among them, give a slice a frame. Series are in the order of their first files' names. Nothing raises:
    what cannot be read is in `bad`.
    """
    paths = sorted(paths)
    files: dict[Path, list[Place]] = {}
    left_out: Counter[str] = Counter()
    bad: list[str] = []
    refused: dict[Path, NotASliceError] = {}
    with quiet, ThreadPoolExecutor(max(1, num_workers)) as threads:
        for path, found in zip(paths, threads.map(_look, paths), strict=True):
            if isinstance(found, NotASliceError):
                left_out[str(found)] += 1
                refused[path] = found
            elif isinstance(found, Exception):
                bad.append(str(found))
            else:
                files[path] = found
    copies = find_copies(files, kinds or {})
    parts: dict[tuple[Path, str], list[Place]] = defaultdict(list)
    for path, found in files.items():
        if path not in copies:
            # Frames without positions follow each other in their file, and nothing else does.
            is_alone = found[0].num_frames > 1 and any(place.position is None for place in found)
            parts[path if is_alone else path.parent, found[0].series] += found
    joined = join_parts(chain.from_iterable(map(_part_patients, parts.values())))
    series = []
    for frames in joined.series:
        one = _sort(frames)
        if num_out := len(frames) - len(one.slices):
            left_out["a slice of another direction or size than the rest of its series"] += num_out
        series.append(one)
    return FoundSeries(
        series=tuple(series),
        left_out=dict(left_out),
        bad=tuple(bad),
        refused=refused,
        ids={path: _identify(found[0]) for path, found in files.items()},
        copies=copies,
        notes=joined.notes,
        doubts=joined.doubts,
    )


def _identify(place: Place) -> DicomIds:
    return DicomIds(patient=place.patient or "", study=place.study, series=place.series if place.has_series_uid else "")


def _part_patients(frames: Sequence[Place]) -> Iterator[list[Place]]:
    """A series a patient: UIDs may be made alike with names. Not where each slice bears a PatientID of its own."""
    of_patient: dict[str | None, list[Place]] = defaultdict(list)
    for frame in frames:
        of_patient[frame.patient].append(frame)
    if max(map(len, of_patient.values())) == 1:
        yield list(frames)
    else:
        yield from of_patient.values()


def _sort(frames: Sequence[Place]) -> Series:
    order = sort_places(frames)
    patients = {frame.patient for frame in frames}
    kept = {place.path for place in order.places}
    positions = order.positions_mm or [None] * len(order.places)
    num_other = sum(not place.is_hounsfield for place in order.places)
    mixed = ""
    if 0 < num_other < len(order.places):
        mixed = f"{num_other} slices cannot be brought to Hounsfield units, and {len(order.places) - num_other} can"
    return Series(
        uid=frames[0].series,
        patient=next(iter(patients)) if len(patients) == 1 else None,
        slices=tuple(
            SeriesSlice(path=place.path, frame=place.frame, position_mm=position, is_frame=place.num_frames > 1)
            for place, position in zip(order.places, positions, strict=True)
        ),
        spacing_mm=order.spacing_mm,
        notes=(
            *order.notes,
            *(["its slices name several patients"] if len(patients) > 1 else []),
            *([mixed] if mixed else []),
        ),
        mixed_scales=mixed,
        is_volume=len(order.places) > 1 and _has_order(order.places, has_positions=order.positions_mm is not None),
        is_scan=len(frames) > 1 and all(f.has_series_uid and f.modality in VOLUMETRIC[:-1] for f in frames),
        left_out=tuple(dict.fromkeys(place.path for place in order.left_out if place.path not in kept)),
    )


def _has_order(places: Sequence[Place], *, has_positions: bool) -> bool:
    """Do the slices follow each other in the body: by positions, as frames of one file, or numbered by a scanner?"""
    if has_positions or len({place.path for place in places}) == 1:
        return True
    numbers = {place.number for place in places}
    return (
        all(place.has_series_uid and place.modality in VOLUMETRIC for place in places)
        and None not in numbers
        and len(numbers) == len(places)
    )


def decode_series(
    series: Series,
    *,
    size: int | None = None,
    windows: Sequence[Window] = (LUNG,),
    num_workers: int = 2,
) -> tuple[NDArray[np.uint8], Counter[Scale]]:
    """The slices of a series in its order: uint8 (N, H, W), or (N, H, W, C) of several windows, and their scales.

    With `size` each is squeezed to (size, size). A file of several frames is read once. Raises BadImageError and
    OSError.
    """
    runs = [list(run) for _, run in groupby(series.slices, key=lambda item: item.path)]

    def decode(run: Sequence[SeriesSlice]) -> list[tuple[NDArray[np.uint8], Scale]]:
        return list(decode_frames(run[0].path, [item.frame for item in run], size=size, windows=windows))

    with quiet, ThreadPoolExecutor(max(1, num_workers)) as threads:
        decoded = list(chain.from_iterable(threads.map(decode, runs)))
    return np.stack([pixels for pixels, _ in decoded]), Counter(scale for _, scale in decoded)


def _look(path: Path) -> list[Place] | Exception:
    try:
        return read_places(path)
    except NotASliceError as error:
        return error
    except Exception as error:  # fed a damaged file, pydicom raises nearly anything
        return BadImageError(f"{show_name(path)}: {show_text(str(error) or type(error).__name__)}")
