"""Many images looked at once: what is measured of each, or what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trainable.images.decode import BadImageError, ImageFacts, NotASliceError, quiet, read_slice
from trainable.images.members import cut_runs, read_members, split_member
from trainable.images.pixel_format import PixelFormat
from trainable.images.windows import LUNG, Window

MAX_RUN = 32  # files that a thread takes at once

T = TypeVar("T")
Measure = Callable[[Path, ImageFacts, NDArray[np.uint8]], T]


def read_all(
    paths: Sequence[Path],
    size: int,
    num_workers: int,
    measure: Measure[T],
    *,
    colour: bool = False,
    windows: Sequence[Window] = (LUNG,),
) -> Iterator[T | BadImageError | OSError]:
    """What `measure` makes of every path's facts and grey pixels uint8 (size, size), in order, or the error it raised.

    Pixels through several `windows` are (size, size, C).

    A path is a file or an image inside one (`members.name_member`); a file that holds many is read once. `measure`
    runs in the thread that read the image. With `colour` files are taken too that are refused in grey, such as DICOM
    in RGB, in their luma.
    """
    runs = [paths[run] for run in cut_runs(paths, MAX_RUN)]
    with quiet, ThreadPoolExecutor(max(1, num_workers)) as threads:
        for looks in threads.map(partial(_read_run, size=size, measure=measure, colour=colour, windows=windows), runs):
            yield from looks


def _read_run(
    run: Sequence[Path], *, size: int, measure: Measure[T], colour: bool, windows: Sequence[Window]
) -> list[T | BadImageError | OSError]:
    if (member := split_member(run[0])) is None:
        return [_read_one(path, size, measure, colour=colour, windows=windows) for path in run]
    numbers = [member[1] for path in run if (member := split_member(path)) is not None]
    looks: list[T | BadImageError | OSError] = []
    try:
        form = PixelFormat(colour=colour, windows=tuple(windows))
        for path, (facts, pixels) in zip(run, read_members(member[0], numbers, size, form), strict=True):
            looks.append(measure(path, facts, _to_luma(pixels) if colour else pixels))
    except (BadImageError, OSError) as error:
        looks += [error] * (len(run) - len(looks))
    return looks


def _read_one(
    path: Path, size: int, measure: Measure[T], *, colour: bool, windows: Sequence[Window]
) -> T | BadImageError | OSError:
    try:
        return measure(path, *read_slice(path, size, windows=windows))
    except NotASliceError as error:
        return error
    except (BadImageError, OSError) as error:
        if not colour or isinstance(error, OSError):
            return error
    try:
        facts, pixels = read_slice(path, size, colour=True)
        return measure(path, facts, _to_luma(pixels))
    except (BadImageError, OSError) as error:
        return error


def _to_luma(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return pixels if pixels.ndim == 2 else np.array(Image.fromarray(pixels).convert("L"))
