"""Series: a folder's DICOM slices, grouped by SeriesInstanceUID and sorted by where they lie in the body."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
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
from trainable.images.series_places import Place, read_places
from trainable.images.windows import LUNG, Window

_VOLUMETRIC = ("CT", "MR", "PT", "NM", "")


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
    their order is known. `left_out` are files of the series that lie in another direction or are of another size.
    """

    uid: str
    patient: str | None
    slices: tuple[SeriesSlice, ...]
    spacing_mm: float | None
    notes: tuple[str, ...]
    is_volume: bool
    left_out: tuple[Path, ...] = ()


@dataclass(frozen=True, kw_only=True)
class FoundSeries:
    """The series of many files. `left_out` counts files by the reason why they hold no slice, such as localizers;
    `bad` has a sentence for each that cannot be read.

    `refused` has the error of each file that holds no slice by its headers, `ids` those of all whose headers were read.
    """

    series: tuple[Series, ...]
    left_out: Mapping[str, int]
    bad: tuple[str, ...]
    refused: Mapping[Path, NotASliceError]
    ids: Mapping[Path, DicomIds]


def find_series(paths: Iterable[Path], *, num_workers: int = 2) -> FoundSeries:
    """Read the headers of files, and make series of those that are DICOM slices; pixels are not decoded.

    A series is what shares a folder, a SeriesInstanceUID and a PatientID. Files of several frames, enhanced CT among
    them, give a slice a frame. Series are in the order of their first files' names. Nothing raises: what cannot be
    read is in `bad`.
    """
    paths = sorted(paths)
    places: dict[tuple[Path, str], list[Place]] = defaultdict(list)
    left_out: Counter[str] = Counter()
    bad: list[str] = []
    refused: dict[Path, NotASliceError] = {}
    ids: dict[Path, DicomIds] = {}
    with quiet, ThreadPoolExecutor(max(1, num_workers)) as threads:
        for path, found in zip(paths, threads.map(_look, paths), strict=True):
            if isinstance(found, NotASliceError):
                left_out[str(found)] += 1
                refused[path] = found
            elif isinstance(found, Exception):
                bad.append(str(found))
            else:
                first = found[0]
                places[path.parent, first.series] += found
                ids[path] = DicomIds(
                    patient=first.patient or "",
                    study=first.study,
                    series=first.series if first.has_series_uid else "",
                )
    series = []
    for frames in chain.from_iterable(map(_part_patients, places.values())):
        one = _sort(frames)
        if num_out := len(frames) - len(one.slices):
            left_out["a slice of another direction or size than the rest of its series"] += num_out
        series.append(one)
    return FoundSeries(series=tuple(series), left_out=dict(left_out), bad=tuple(bad), refused=refused, ids=ids)


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
    return Series(
        uid=frames[0].series,
        patient=next(iter(patients)) if len(patients) == 1 else None,
        slices=tuple(
            SeriesSlice(path=place.path, frame=place.frame, position_mm=position, is_frame=place.num_frames > 1)
            for place, position in zip(order.places, positions, strict=True)
        ),
        spacing_mm=order.spacing_mm,
        notes=(*order.notes, *(["its slices name several patients"] if len(patients) > 1 else [])),
        is_volume=len(order.places) > 1 and _has_order(order.places, has_positions=order.positions_mm is not None),
        left_out=tuple(dict.fromkeys(place.path for place in order.left_out if place.path not in kept)),
    )


def _has_order(places: Sequence[Place], *, has_positions: bool) -> bool:
    """Do the slices follow each other in the body: by positions, as frames of one file, or numbered by a scanner?"""
    if has_positions or len({place.path for place in places}) == 1:
        return True
    numbers = {place.number for place in places}
    return (
        all(place.has_series_uid and place.modality in _VOLUMETRIC for place in places)
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
