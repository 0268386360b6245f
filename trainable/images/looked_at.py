"""Every file of a set looked at once: what can be used, what cannot, and what holds no slice."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from trainable.images.decode import BadImageError, ImageFacts
from trainable.images.faults import NotASliceError, count_left_out
from trainable.images.manifest import Manifest
from trainable.images.members import split_member
from trainable.images.near_duplicates import THUMBNAIL_SIZE
from trainable.images.neighbours import plan_rows
from trainable.images.pixel_format import PixelFormat
from trainable.images.read_many import read_all

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class SeenFile:
    """What a file is, and its thumbnail uint8 (64, 64), by which near-duplicates are found."""

    facts: ImageFacts
    thumbnail: NDArray[np.uint8]


def look_at(
    paths: Sequence[Path], form: PixelFormat, num_workers: int, skip_bad_images: bool = False
) -> tuple[dict[Path, SeenFile], list[str], list[str]]:
    """Each usable file, the names of the bad ones that were left out, and lines on those that hold no slice.

    A slice of which a neighbour cannot be used is bad too, so that it is found out here and not at the sealed test.
    Raises the first bad file's error unless bad ones are skipped, and always where none is left.
    """

    def keep(path: Path, facts: ImageFacts, pixels: NDArray[np.uint8]) -> SeenFile:
        return SeenFile(facts=facts, thumbnail=pixels)

    files: dict[Path, SeenFile] = {}
    bad: dict[Path, BadImageError | OSError] = {}
    left_out: list[NotASliceError] = []
    looks = look_with_neighbours(
        paths, form, num_workers, lambda files: read_all(files, THUMBNAIL_SIZE, num_workers, keep, colour=form.colour)
    )
    for path, look in zip(paths, looks, strict=True):
        if isinstance(look, SeenFile):
            files[path] = look
        elif isinstance(look, NotASliceError):
            left_out.append(look)
        else:
            bad[path] = look
    if bad and (not skip_bad_images or not files):
        path, error = next(iter(bad.items()))
        container = (split_member(path) or (path, 0))[0]
        fault = str(error) if str(container) in str(error) else f"{path}: {error}"
        advice = ", or leave them out by --skip-bad-images" if files else ""
        raise BadImageError(
            f"{fault} ({len(bad)} of {len(paths)} files cannot be used); mend or remove them{advice}"
        ) from error
    if not files:
        raise BadImageError(f"no file holds a slice: {'; '.join(count_left_out(left_out))}")
    return files, [str(path) for path in bad], count_left_out(left_out)


def look_with_neighbours(
    paths: Sequence[Path],
    form: PixelFormat,
    num_workers: int,
    read: Callable[[Sequence[Path]], Iterable[T | BadImageError | OSError]],
) -> list[T | BadImageError | OSError]:
    """What `read` makes of each path; the error of a slice whose own look is in order and a neighbour's is not."""
    beside = plan_rows(paths, form, num_workers=num_workers)
    files = list(dict.fromkeys([*paths, *(file for names in beside.values() for file in names)]))
    looks = dict(zip(files, read(files), strict=True))

    def judge(path: Path) -> T | BadImageError | OSError:
        lost = next((file for file in beside.get(path, ()) if isinstance(looks[file], (BadImageError, OSError))), None)
        if lost is None or isinstance(looks[path], (BadImageError, OSError)):
            return looks[path]
        return BadImageError(f"{path}: its neighbour {lost.name} cannot be used: {looks[lost]}")

    return [judge(path) for path in paths]


def check_neighbours(manifest: Manifest, volumes: Mapping[Path, str]) -> None:
    loose = [item.name for item in manifest.slices if item.path not in volumes]
    if loose:
        raise ValueError(
            f"{len(loose)} of {len(manifest.slices)} images have no neighbours ({loose[0]}): those are a volume's or a "
            "DICOM series'; leave out --neighbours, or take these images out of the set"
        )
