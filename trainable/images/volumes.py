"""Volumes: a NIfTI file to Hounsfield units by the patient's own axes, and its slices as images."""

from __future__ import annotations

import gzip
import io
import logging
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainable.images.decode import BadImageError
from trainable.images.windows import LUNG, Window, apply_window

VOLUME_SUFFIXES = (".nii", ".nii.gz")
MAX_BYTES = 2**31  # of an unpacked volume: 512 x 512 x 4,000 voxels of 16 bits
AIR_HU = -200.0  # a CT in Hounsfield units has voxels below it, whatever it shows: there is air around every patient
_HEADER_BYTES = 2**20  # enough for a header and its extensions
_GZIP = b"\x1f\x8b"


@dataclass(frozen=True, kw_only=True)
class Volume:
    """A scan by the patient's own axes, wherever it came from.

    `stored` (X, Y, Z) runs from left to right, from back to front and from feet to head (RAS); `slope` and `intercept`
    bring it to Hounsfield units. `spacing_mm` lies between voxels along X, Y and Z. Without `has_orientation` the file
    did not say how it lies, and is taken to lie as most do.
    """

    stored: NDArray[Any]
    spacing_mm: tuple[float, float, float]
    slope: float = 1.0
    intercept: float = 0.0
    has_orientation: bool = True

    @property
    def num_slices(self) -> int:
        return self.stored.shape[2]

    def hounsfield(self) -> NDArray[np.float32]:
        """The values float32 (X, Y, Z) in Hounsfield units."""
        return self._scale(self.stored)

    def slice_at(self, index: int) -> NDArray[np.float32]:
        """An axial slice (Y, X) in Hounsfield units as it is looked at: the front on top, the patient's right on the
        left, as in DICOM. Index 0 is nearest the feet."""
        return self._scale(self.stored[::-1, ::-1, index].T)

    @cached_property
    def value_range(self) -> tuple[float, float]:
        ends = self._scale(np.array([self.stored.min(), self.stored.max()]))
        return float(ends.min()), float(ends.max())

    @property
    def in_hounsfield(self) -> bool:
        """Whether the values can be Hounsfield units of a CT: some are those of air."""
        return self.value_range[0] < AIR_HU

    def _scale(self, values: NDArray[Any]) -> NDArray[np.float32]:
        wide = np.result_type(values.dtype, np.float32).type  # float64 where 24 bits do not hold the values
        return (values.astype(wide) * wide(self.slope) + wide(self.intercept)).astype(np.float32, copy=False)


def is_volume(path: Path) -> bool:
    """Whether a file is a NIfTI volume, by its name."""
    return path.name.lower().endswith(VOLUME_SUFFIXES)


def read_volume(source: Path | bytes) -> Volume:
    """Read a NIfTI file (.nii, .nii.gz; https://nifti.nimh.nih.gov/nifti-1) with its scale and orientation applied.

    Raises BadImageError in one line for what is no volume of finite numbers: a damaged or cut file, several volumes in
    one file, colours, no size, NaN. Raises OSError where the file cannot be read.
    """
    data = source if isinstance(source, bytes) else source.read_bytes()
    try:
        return _parse(_unpack(data, MAX_BYTES))
    except Exception as error:  # fed a damaged file, nibabel raises nearly anything
        raise BadImageError(f"{_name(source)}: {_first_line(error)}") from error


def count_slices(path: Path) -> int:
    """The number of axial slices of a NIfTI file, from its header alone. Raises as `read_volume` does."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEADER_BYTES)
        image, to_ras = _open(_unpack_head(head))
        return int(image.shape[int(np.flatnonzero(to_ras[:, 0] == 2)[0])])
    except OSError:
        raise
    except Exception as error:
        raise BadImageError(f"{path}: {_first_line(error)}") from error


def show_slice(
    volume: Volume,
    index: int,
    *,
    windows: Sequence[Window] = (LUNG,),
    neighbours: int = 0,
    neighbour_mm: float | None = None,
) -> NDArray[np.uint8]:
    """A slice as grey levels uint8 (Y, X), or (Y, X, C) with its neighbours, feet to head, each through all windows.

    Hounsfield units go through the windows; other values are stretched from the volume's least to its greatest.
    Neighbours lie `neighbour_mm` apart, to the nearest slice (None: next to each other), and at least one slice; beyond
    an end of the volume its last slice is repeated.
    """
    step = 1 if neighbour_mm is None else max(1, round(neighbour_mm / volume.spacing_mm[2]))
    wanted = np.clip(index + step * np.arange(-neighbours, neighbours + 1), 0, volume.num_slices - 1)
    if not volume.in_hounsfield:
        low, high = volume.value_range
        windows = [Window(centre=(low + high) / 2, width=max(high - low, 1e-6))] * len(windows)
    shown = [
        apply_window(values, centre=window.centre, width=window.width)
        for values in (volume.slice_at(int(k)) for k in wanted)
        for window in windows
    ]
    return np.stack(shown, axis=-1) if len(shown) > 1 else shown[0]


def _unpack(data: bytes, max_bytes: int) -> bytes:
    if data[:2] != _GZIP:
        return data
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
        unpacked = file.read(max_bytes + 1)
    if len(unpacked) > max_bytes:
        raise ValueError(f"it unpacks to more than {max_bytes >> 30} GiB; give volumes below that")
    return unpacked


def _unpack_head(data: bytes) -> bytes:
    is_packed = data[:2] == _GZIP
    return zlib.decompressobj(wbits=31).decompress(data, _HEADER_BYTES) if is_packed else data


def _open(data: bytes) -> tuple[Any, NDArray[np.float64]]:
    """nibabel's image over a file's bytes, its voxels not looked at, and nibabel's way from its axes to RAS."""
    import nibabel
    from nibabel.orientations import io_orientation

    logging.getLogger("nibabel.global").setLevel(logging.CRITICAL + 1)  # what it mends in headers, on stderr
    is_second = int.from_bytes(data[:4], "little") == 540 or int.from_bytes(data[:4], "big") == 540
    try:
        image = (nibabel.Nifti2Image if is_second else nibabel.Nifti1Image).from_bytes(data)
    except Exception as error:
        raise ValueError(f"its header is not that of a NIfTI file ({_first_line(error)})") from error
    if image.dataobj.offset < image.header.single_vox_offset:
        raise ValueError(f"its header says that voxels begin at byte {image.dataobj.offset}, in itself; write it anew")
    shape = image.shape
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) != 3:
        raise ValueError(f"its shape is {image.shape}; it must be one volume of three dimensions: write each as a file")
    if min(shape) < 1:
        raise ValueError(f"its shape is {image.shape}; a volume has some voxels along each axis")
    if np.dtype(image.get_data_dtype()).kind not in "iuf":
        raise ValueError(f"its voxels are {image.get_data_dtype()}; they must be plain numbers")
    to_ras = io_orientation(image.affine) if np.isfinite(image.affine).all() else np.full((3, 2), np.nan)
    if np.isnan(to_ras).any():
        raise ValueError("its header gives axes without a direction; write it anew with an affine")
    return image, to_ras


def _parse(data: bytes) -> Volume:
    from nibabel.affines import voxel_sizes
    from nibabel.orientations import apply_orientation

    image, to_ras = _open(data)
    num_bytes = int(np.prod(image.shape, dtype=np.float64)) * image.get_data_dtype().itemsize
    if num_bytes > len(data):
        raise ValueError(
            f"its header names {num_bytes} bytes of voxels and {len(data)} are there: it is cut or damaged"
        )
    stored = np.asarray(image.dataobj.get_unscaled()).reshape(image.shape[:3])
    if stored.dtype.kind == "f" and not np.isfinite(stored).all():
        num_bad = int((~np.isfinite(stored)).sum())
        raise ValueError(f"{num_bad} of its {stored.size} voxels are no finite numbers; replace them, by -1024 say")
    sizes = voxel_sizes(image.affine)
    spacing = [float(sizes[int(axis)]) for axis in np.argsort(to_ras[:, 0])]
    codes = int(image.header["sform_code"]), int(image.header["qform_code"])
    return Volume(
        stored=apply_orientation(stored, to_ras),
        spacing_mm=(spacing[0], spacing[1], spacing[2]),
        slope=float(image.dataobj.slope),
        intercept=float(image.dataobj.inter),
        has_orientation=codes != (0, 0),
    )


def _name(source: Path | bytes) -> str:
    return f"a volume of {len(source)} bytes" if isinstance(source, bytes) else str(source)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(";: ")
