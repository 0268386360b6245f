"""Many images looked at once: each file's facts and pixels, or what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainable.images.decode import BadImageError, ImageFacts, read_slice
from trainable.images.members import cut_runs, read_members, split_member

MAX_RUN = 32  # files that a thread takes at once

Look = tuple[ImageFacts, NDArray[np.uint8]] | BadImageError | OSError


def read_all(paths: Sequence[Path], size: int, num_workers: int) -> Iterator[Look]:
    """Facts and grey pixels uint8 (size, size) of every path, in order, or the error that it raised.

    A path is a file or an image inside one (`members.name_member`); a file that holds many is read once.
    """
    runs = [paths[run] for run in cut_runs(paths, MAX_RUN)]
    with ThreadPoolExecutor(max(1, num_workers)) as threads:
        for looks in threads.map(partial(_read_run, size=size), runs):
            yield from looks


def _read_run(run: Sequence[Path], size: int) -> list[Look]:
    if (member := split_member(run[0])) is None:
        return [_read_one(path, size) for path in run]
    numbers = [member[1] for path in run if (member := split_member(path)) is not None]
    looks: list[Look] = []
    try:
        looks.extend(read_members(member[0], numbers, size))
    except (BadImageError, OSError) as error:
        looks += [error] * (len(run) - len(looks))
    return looks


def _read_one(path: Path, size: int) -> Look:
    try:
        return read_slice(path, size)
    except (BadImageError, OSError) as error:
        return error
