"""Series: a folder's DICOM slices, grouped by SeriesInstanceUID and sorted by where they lie in the body."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainable.images.decode import decode_frames
from trainable.images.faults import BadImageError, NotASliceError, show_name, show_text
from trainable.images.quiet import quiet
from trainable.images.scales import Scale
from trainable.images.series_order import sort_places
from trainable.images.series_places import Place, read_places
from trainable.images.windows import LUNG, Window


@dataclass(frozen=True, kw_only=True)
class SeriesSlice:
    """One slice of a series: a file, the number of the frame in it, and its place along the normal in millimetres."""

    path: Path
    frame: int
    position_mm: float | None


@dataclass(frozen=True, kw_only=True)
class Series:
    """The slices of one series in order, and `notes`, a sentence each on what is odd about them.

    `uid` and `patient` come from headers: never log the second.
    """

    uid: str
    patient: str | None
    slices: tuple[SeriesSlice, ...]
    spacing_mm: float | None
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class FoundSeries:
    """The series of many files. `left_out` counts files by the reason why they hold no slice, such as localizers;
    `bad` has a sentence for each that cannot be read."""

    series: tuple[Series, ...]
    left_out: Mapping[str, int]
    bad: tuple[str, ...]


def find_series(paths: Iterable[Path], *, num_workers: int = 2) -> FoundSeries:
    """Read the headers of files, and make series of those that are DICOM slices; pixels are not decoded.

    Files of several frames, enhanced CT among them, give a slice a frame. Series are in the order of their first
    files' names. Nothing raises: what cannot be read is in `bad`.
    """
    paths = sorted(paths)
    places: dict[str, list[Place]] = defaultdict(list)
    left_out: Counter[str] = Counter()
    bad: list[str] = []
    with quiet, ThreadPoolExecutor(max(1, num_workers)) as threads:
        for found in threads.map(_look, paths):
            if isinstance(found, NotASliceError):
                left_out[str(found)] += 1
            elif isinstance(found, Exception):
                bad.append(str(found))
            else:
                places[found[0].series] += found
    series = []
    for uid, frames in places.items():
        order = sort_places(frames)
        if order.left_out:
            left_out["a slice of another direction or size than the rest of its series"] += len(order.left_out)
        patients = {frame.patient for frame in frames}
        positions = order.positions_mm or [None] * len(order.places)
        series.append(
            Series(
                uid=uid,
                patient=next(iter(patients)) if len(patients) == 1 else None,
                slices=tuple(
                    SeriesSlice(path=place.path, frame=place.frame, position_mm=position)
                    for place, position in zip(order.places, positions, strict=True)
                ),
                spacing_mm=order.spacing_mm,
                notes=(*order.notes, *(["its slices name several patients"] if len(patients) > 1 else [])),
            )
        )
    return FoundSeries(series=tuple(series), left_out=dict(left_out), bad=tuple(bad))


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
