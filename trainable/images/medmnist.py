"""MedMNIST's files: one .npz with images, labels and the published splits (Yang et al. 2023, "MedMNIST v2")."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from trainable.images.decode import BadImageError

SPLITS = ("train", "val", "test")
CLASS_NAMES: dict[
    str, tuple[str, ...]
] = {  # of the sets with two classes: a guess which is positive needs more than 0 and 1
    "breastmnist": ("malignant", "normal or benign"),
    "pneumoniamnist": ("normal", "pneumonia"),
}
_WANTED = ", ".join(f"{split}_images, {split}_labels" for split in SPLITS)
_MAX_HEADER_BYTES = 10_000
_MAX_CLASSES = 1000


@dataclass(frozen=True, kw_only=True)
class NpzSet:
    """What a MedMNIST file says: a class's name and a split for each image, in the order train, val, test.

    `in_colour` says that the images are RGB; `size` is their side in pixels.
    """

    labels: tuple[str, ...]
    splits: tuple[str, ...]
    in_colour: bool
    size: int


def is_npz(path: Path) -> bool:
    return path.suffix.lower() == ".npz"


def read_npz(path: Path) -> NpzSet:
    """Read labels and splits of a file of MedMNIST's 2D sets, of 28 pixels or larger; no image is unpacked.

    Nothing in the file is run (`allow_pickle=False`). Raises ValueError in one line for a file that is none, is damaged
    or whose arrays do not fit, for several labels an image, and for volumes (MedMNIST3D).
    """
    shapes, labels, splits = [], [], []
    with _open(path) as archive:
        if missing := [name for split in SPLITS for name in _arrays(split) if name not in archive.namelist()]:
            raise ValueError(
                f"it has no array {missing[0].removesuffix('.npy')}; it must hold {_WANTED}, as MedMNIST's"
            )
        for split in SPLITS:
            images_name, labels_name = _arrays(split)
            with archive.open(images_name) as file:
                shape, _ = _read_header(file, images_name)
            with archive.open(labels_name) as file:
                found = np.lib.format.read_array(file, allow_pickle=False)
            shapes.append(shape[1:])
            labels.append(_to_column(found, shape[0], split))
            splits += [split] * shape[0]
    if len(set(shapes)) > 1:
        raise ValueError(f"{path}: the images of its splits have the shapes {shapes}; they must have one")
    numbers = np.concatenate(labels)
    highest = int(numbers.max())
    names = CLASS_NAMES.get(re.sub(r"_\d+$", "", path.stem.lower()), ())
    if highest >= len(names):
        names = tuple(str(number).zfill(len(str(highest))) for number in range(highest + 1))  # sorted as counted
    return NpzSet(
        labels=tuple(names[number] for number in numbers),
        splits=tuple(splits),
        in_colour=len(shapes[0]) == 3,
        size=shapes[0][0],
    )


def read_images(path: Path, numbers: Sequence[int]) -> Iterator[NDArray[np.uint8]]:
    """The images uint8 (H, W) or (H, W, 3) by their numbers in the order train, val, test; `numbers` must ascend.

    The file is unpacked as it is read: of the larger sizes (up to 15 GB) one image is in memory at a time. Raises
    BadImageError for a damaged file.
    """
    if any(later <= earlier for earlier, later in pairwise(numbers)):
        raise ValueError("the numbers of images must ascend")
    waiting = list(reversed(numbers))
    begin = 0
    with _open(path) as archive:
        for split in SPLITS:
            name = _arrays(split)[0]
            with archive.open(name) as file:
                shape, dtype = _read_header(file, name)
                num_bytes = int(np.prod(shape[1:])) * dtype.itemsize
                at = 0
                while waiting and waiting[-1] < begin + shape[0]:
                    number = waiting.pop() - begin
                    _skip(file, (number - at) * num_bytes)
                    content = file.read(num_bytes)
                    if len(content) < num_bytes:
                        raise ValueError(f"{name} ends after {number} of {shape[0]} images: it is cut")
                    at = number + 1
                    yield np.frombuffer(content, np.uint8).reshape(shape[1:])
            begin += shape[0]
    if waiting:
        raise BadImageError(f"{path}: it holds {begin} images; number {waiting[-1]} (from 0) was asked for")


def _arrays(split: str) -> tuple[str, str]:
    return f"{split}_images.npy", f"{split}_labels.npy"


@contextmanager
def _open(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except GeneratorExit:
        raise
    except FileNotFoundError:
        raise
    except Exception as error:  # a damaged archive raises nearly anything
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise BadImageError(said if said.startswith(str(path)) else f"{path}: {said}") from error


def _read_header(file: IO[bytes], name: str) -> tuple[tuple[int, ...], np.dtype[np.uint8]]:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, is_fortran, dtype = read(file, max_header_size=_MAX_HEADER_BYTES)
    if dtype != np.uint8 or is_fortran:
        raise ValueError(f"{name} holds {dtype}{' by columns' if is_fortran else ''}; it must be uint8 by rows")
    if len(shape) > 4 or (len(shape) == 4 and shape[3] not in (1, 3)):
        raise ValueError(f"{name} has the shape {shape}, volumes perhaps; images (N, S, S) or (N, S, S, 3) are taken")
    if len(shape) == 4 and shape[3] == 1:
        shape = shape[:3]
    if len(shape) not in (3, 4) or min(shape) < 1:
        raise ValueError(f"{name} has the shape {shape}; it must be (N, S, S) or (N, S, S, 3)")
    return shape, dtype


def _to_column(labels: NDArray[np.generic], num_images: int, split: str) -> NDArray[np.int64]:
    if labels.ndim == 2 and labels.shape[1] > 1:
        raise ValueError(
            f"{split}_labels has the shape {labels.shape}: {labels.shape[1]} labels an image, which is not trained on; "
            f"choose one of them, number k say, and save the file with {split}_labels[:, [k]]"
        )
    if labels.size != num_images:
        raise ValueError(f"{split}_labels has {labels.size} labels for {num_images} images")
    if labels.dtype.kind not in "iub" or (labels.size and labels.min() < 0):
        raise ValueError(f"{split}_labels holds {labels.dtype}, or numbers below 0; classes are counted from 0")
    if labels.size and (most := int(labels.max())) >= _MAX_CLASSES:  # a name is made for each below it
        raise ValueError(f"{split}_labels holds the class {most}; classes are counted from 0, {_MAX_CLASSES} at most")
    return labels.reshape(-1).astype(np.int64)


def _skip(file: IO[bytes], num_bytes: int) -> None:
    while num_bytes > 0:
        passed = len(file.read(min(num_bytes, 2**20)))
        if passed == 0:
            return
        num_bytes -= passed
