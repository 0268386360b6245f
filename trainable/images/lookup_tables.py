"""Lookup tables of DICOM files: modality LUTs, VOI LUTs and palettes (PS3.3, C.11.1.1, C.11.2.1.1 and C.7.6.3.1.5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trainable.images.dicom_headers import read_integer

if TYPE_CHECKING:
    import pydicom

_COLOURS = ("Red", "Green", "Blue")


@dataclass(frozen=True, kw_only=True)
class LookupTable:
    """`entries` uint16 (N,) for the values from `first` on."""

    entries: NDArray[np.uint16]
    first: int

    def look_up(self, values: NDArray[Any]) -> NDArray[np.uint16]:
        """The entry of each value; those beyond an end of the table have the entry there."""
        return self.entries[np.clip(np.rint(values).astype(np.int64) - self.first, 0, len(self.entries) - 1)]


def read_table(
    descriptor: Any, data: Any, name: str, *, below_zero: bool, is_little_endian: bool = True
) -> LookupTable:
    """A table by its descriptor: how many entries, the first value, bits. Entries of 8 bits may be packed.

    Headers write the first value's 16 bits as signed or not, whatever the values are: `below_zero` says that these can
    be negative. Raises ValueError, with the table's `name`, for one that its descriptor does not fit.
    """
    try:
        num_entries, first, _ = (int(number) for number in descriptor)
    except (TypeError, ValueError):
        raise ValueError(f"the LUTDescriptor of its {name} must be three whole numbers") from None
    num_entries, first = num_entries % 2**16 or 2**16, first % 2**16
    entries = _read_entries(data, num_entries, is_little_endian=is_little_endian)
    if len(entries) != num_entries:
        raise ValueError(f"its {name} has {len(entries)} entries; its LUTDescriptor says {num_entries}")
    return LookupTable(entries=entries, first=first - 2**16 if below_zero and first >= 2**15 else first)


def read_lut(dataset: pydicom.Dataset, item: pydicom.Dataset, name: str, *, below_zero: bool) -> LookupTable:
    """The table in an item of a file's ModalityLUTSequence or VOILUTSequence. Raises as `read_table` does."""
    return read_table(
        item.get("LUTDescriptor"),
        item.get("LUTData"),
        name,
        below_zero=below_zero,
        is_little_endian=dataset.original_encoding[1] is not False,
    )


def apply_voi_lut(values: NDArray[Any], table: LookupTable) -> NDArray[np.uint8]:
    """Values (height, width) as grey levels from the table's least to its greatest entry: the whole table's, so that
    one file's contrast is another's."""
    shown = table.look_up(values).astype(np.float64)
    least, most = float(table.entries.min()), float(table.entries.max())
    return np.rint(255 * (shown - least) / max(most - least, 1)).astype(np.uint8)


def apply_palette(stored: NDArray[Any], dataset: pydicom.Dataset) -> NDArray[np.uint8]:
    """Stored values (height, width) as RGB (height, width, 3) by the file's palette.

    Entries of 16 bits are shown by their upper half (C.7.6.3.1.6), unless none of the palette needs it: some write 8
    bits into entries of 16. Raises as `read_table` does.
    """
    below_zero = read_integer(dataset, "PixelRepresentation", 0) == 1
    tables = [_read_colour(dataset, colour, below_zero=below_zero) for colour in _COLOURS]
    shift = 8 if max(int(table.entries.max()) for table in tables) > 255 else 0
    return np.stack([(table.look_up(stored) >> shift).astype(np.uint8) for table in tables], axis=-1)


def _read_colour(dataset: pydicom.Dataset, colour: str, *, below_zero: bool) -> LookupTable:
    descriptor = dataset.get(f"{colour}PaletteColorLookupTableDescriptor")
    data = dataset.get(f"{colour}PaletteColorLookupTableData")
    if data is None and f"Segmented{colour}PaletteColorLookupTableData" in dataset:
        from pydicom.pixels.processing import apply_color_lut

        numbers = np.arange(int(descriptor[0]) % 2**16 or 2**16, dtype=np.int32) + int(descriptor[1])
        data = np.asarray(apply_color_lut(numbers, dataset))[:, _COLOURS.index(colour)]
    is_little_endian = dataset.original_encoding[1] is not False
    name = f"{colour.lower()} palette"
    return read_table(descriptor, data, name, below_zero=below_zero, is_little_endian=is_little_endian)


def _read_entries(data: Any, num_entries: int, *, is_little_endian: bool) -> NDArray[np.uint16]:
    if not isinstance(data, bytes):
        return np.atleast_1d(np.asarray([] if data is None else data, np.int64) & 0xFFFF).astype(np.uint16)
    if len(data) in (num_entries, num_entries + num_entries % 2):
        return np.frombuffer(data, np.uint8, num_entries).astype(np.uint16)
    kind = "<u2" if is_little_endian else ">u2"
    return np.frombuffer(data, kind, min(num_entries, len(data) // 2)).astype(np.uint16)
