"""VOI LUT of a DICOM file: a table of grey levels that takes the place of a window (PS3.3, C.11.2.1.1)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def apply_voi_lut(values: NDArray[np.float32], item: Any, *, is_little_endian: bool = True) -> NDArray[np.uint8]:
    """Values (height, width) looked up in an item of VOILUTSequence, as grey levels from the table's least to its
    greatest entry: the whole table's, so that one file's contrast is another's.

    Entries of 8 bits may be packed. Values beyond an end of the table have the entry there. Raises ValueError for a
    table that its descriptor does not fit.
    """
    try:
        num_entries, first, _ = (int(number) for number in item.LUTDescriptor)
    except (AttributeError, TypeError, ValueError):
        raise ValueError("the LUTDescriptor of its VOI LUT must be three whole numbers") from None
    num_entries = num_entries or 2**16
    table = _read_entries(item.get("LUTData"), num_entries, is_little_endian=is_little_endian)
    if len(table) != num_entries:
        raise ValueError(f"its VOI LUT has {len(table)} entries; its LUTDescriptor says {num_entries}")
    if first > 2**15 - 1 and values.min(initial=0) < 0:  # written as unsigned where the values are signed
        first -= 2**16
    shown = table[np.clip(np.rint(values).astype(np.int64) - first, 0, num_entries - 1)].astype(np.float64)
    least, most = float(table.min()), float(table.max())
    return np.rint(255 * (shown - least) / max(most - least, 1)).astype(np.uint8)


def _read_entries(data: Any, num_entries: int, *, is_little_endian: bool) -> NDArray[np.uint16]:
    if not isinstance(data, bytes):
        return np.atleast_1d(np.asarray([] if data is None else data, np.int64) & 0xFFFF).astype(np.uint16)
    if len(data) >= 2 * num_entries:
        return np.frombuffer(data, "<u2" if is_little_endian else ">u2", num_entries).astype(np.uint16)
    return np.frombuffer(data, np.uint8)[:num_entries].astype(np.uint16)
