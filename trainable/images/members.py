"""Images inside a file that holds many: each slice of a volume or image of an array goes by the path FILE#NUMBER, each
frame of a DICOM file by FILE#frameNUMBER."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trainable.images import medmnist
from trainable.images.decode import BadImageError, ImageFacts, read_frames, resize_grey
from trainable.images.limits import check_dimensions
from trainable.images.neighbours import join_channels, list_neighbours
from trainable.images.pixel_format import GREY, PixelFormat
from trainable.images.scales import Scale
from trainable.images.series import find_series
from trainable.images.volumes import is_volume, read_volume, show_slice

_MEMBER = re.compile(r"(?P<file>.+\.(?:nii|nii\.gz|npz))#(?P<number>\d+)", re.IGNORECASE | re.DOTALL)
FRAMES_AT_ONCE = 32
_FRAME = re.compile(r"(?P<file>.+)#frame(?P<number>\d+)", re.DOTALL)


def name_member(container: Path, number: int) -> Path:
    """The path of an image inside `container`; `number` counts from 0."""
    return container.with_name(f"{container.name}#{number}")


def name_frame(file: Path, number: int) -> Path:
    """The path of a frame of a DICOM file, whatever the file's name; `number` counts from 0, in the file's order."""
    return file.with_name(f"{file.name}#frame{number}")


def split_member(path: Path) -> tuple[Path, int] | None:
    """What `name_member` or `name_frame` joined; None for a file of its own."""
    match = _MEMBER.fullmatch(path.name) or _FRAME.fullmatch(path.name)
    return (path.with_name(match["file"]), int(match["number"])) if match else None


def hash_member(container_hash: str, number: int) -> str:
    """The SHA-256 that stands for an image inside a file of that hash."""
    return hashlib.sha256(f"{container_hash}#{number}".encode()).hexdigest()


def cut_runs(paths: Sequence[Path], max_length: int) -> list[slice]:
    """Parts of `paths` to be read each by one thread: neighbours from one container stay together, so that it is read
    once, frames of a DICOM file up to `FRAMES_AT_ONCE`, since these are slow to decode; files of their own are
    `max_length` at most."""
    runs: list[slice] = []
    begin = 0
    for container, members in groupby(map(split_member, paths), key=lambda member: member[0] if member else None):
        end = begin + sum(1 for _ in members)
        length = max_length if container is None else FRAMES_AT_ONCE if _holds_frames(container) else end - begin
        runs += [slice(at, min(at + length, end)) for at in range(begin, end, length)]
        begin = end
    return runs


def _holds_frames(container: Path) -> bool:
    return not is_volume(container) and not medmnist.is_npz(container)


def read_members(
    container: Path, numbers: Sequence[int], size: int, form: PixelFormat = GREY
) -> Iterator[tuple[ImageFacts, NDArray[np.uint8]]]:
    """Facts and pixels uint8 (size, size), or (size, size, C), of the images `numbers` of one file, one by one.

    Raises BadImageError, naming the file, or OSError where it cannot be read.
    """
    if is_volume(container):
        return _read_slices(container, numbers, size, form)
    if medmnist.is_npz(container):
        return _read_arrays(container, numbers, size, form)
    return _read_frames(container, numbers, size, form)


def _read_slices(
    path: Path, numbers: Sequence[int], size: int, form: PixelFormat
) -> Iterator[tuple[ImageFacts, NDArray[np.uint8]]]:
    if form.colour:
        raise BadImageError(f"{path}: a volume has no colours; leave out --colour")
    data = path.read_bytes()
    file_hash = hashlib.sha256(data).hexdigest()
    try:
        volume = read_volume(data)
        width, height, num_slices = volume.stored.shape
        check_dimensions(width, height)
    except ValueError as error:
        raise BadImageError(f"{path}: {str(error).removeprefix(f'a volume of {len(data)} bytes: ')}") from error
    del data
    for number in numbers:
        if number >= num_slices:
            raise BadImageError(f"{path}: it has {num_slices} slices; number {number} (from 0) was asked for")
        shown = show_slice(
            volume, number, windows=form.windows, neighbours=form.neighbours, neighbour_mm=form.neighbour_mm
        )
        facts = ImageFacts(
            format="NIfTI",
            mode="HU" if volume.in_hounsfield else str(volume.stored.dtype),
            width=width,
            height=height,
            sha256=hash_member(file_hash, number),
            num_bytes=width * height * volume.stored.dtype.itemsize,
            scale=Scale.HOUNSFIELD if volume.in_hounsfield else Scale.STRETCHED,
        )
        yield facts, resize_channels(shown, size)


def _read_arrays(
    path: Path, numbers: Sequence[int], size: int, form: PixelFormat
) -> Iterator[tuple[ImageFacts, NDArray[np.uint8]]]:
    if form.neighbours:
        raise BadImageError(f"{path}: its images have no neighbours; those are a volume's")
    with path.open("rb") as file:
        file_hash = hashlib.file_digest(file, "sha256").hexdigest()
    for number, image in zip(numbers, medmnist.read_images(path, numbers), strict=True):
        facts = ImageFacts(
            format="NumPy",
            mode="RGB" if image.ndim == 3 else "L",
            width=image.shape[1],
            height=image.shape[0],
            sha256=hash_member(file_hash, number),
            num_bytes=image.nbytes,
        )
        shown = Image.fromarray(image)
        pixels = resize_channels(np.asarray(shown.convert("RGB" if form.colour else "L")), size)
        yield facts, pixels if len(form.windows) == 1 else np.stack([pixels] * len(form.windows), axis=-1)


def _read_frames(
    path: Path, numbers: Sequence[int], size: int, form: PixelFormat
) -> Iterator[tuple[ImageFacts, NDArray[np.uint8]]]:
    if form.neighbours:
        yield from _read_frames_between(path, numbers, size, form)
        return
    for number, (facts, pixels) in zip(
        numbers, read_frames(path, numbers, size, windows=form.windows, colour=form.colour), strict=True
    ):
        yield replace(facts, sha256=hash_member(facts.sha256, number)), pixels


def _read_frames_between(
    path: Path, numbers: Sequence[int], size: int, form: PixelFormat
) -> Iterator[tuple[ImageFacts, NDArray[np.uint8]]]:
    """Frames with those that lie beside them in the body, whatever their order in the file."""
    found_series = find_series([path]).series
    if not found_series:
        raise BadImageError(f"{path}: it can no longer be read as a series of frames")
    plans = {
        plan[form.neighbours].frame: [item.frame for item in plan]
        for series in found_series
        for plan in list_neighbours(series, form)
    }
    needed = sorted({frame for number in numbers for frame in plans[number]})
    found = dict(zip(needed, read_frames(path, needed, size, windows=form.windows), strict=True))
    for number in numbers:
        facts = found[number][0]
        pixels = join_channels([found[frame][1] for frame in plans[number]])
        yield replace(facts, sha256=hash_member(facts.sha256, number)), pixels


def resize_channels(shown: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """uint8 (H, W) or (H, W, C) squeezed to (size, size) or (size, size, C), each channel as `resize_grey` does it."""
    if shown.ndim == 2:
        return resize_grey(Image.fromarray(shown), size)
    channels = [resize_grey(Image.fromarray(np.ascontiguousarray(shown[..., c])), size) for c in range(shown.shape[2])]
    return np.stack(channels, axis=-1)
