"""Windows of Hounsfield units: which part of the scale becomes black to white."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Window:
    """A linear window in Hounsfield units: centre - width/2 becomes 0 and centre + width/2 becomes 255.

    Raises ValueError where a number is not finite or the width is not positive.
    """

    centre: float
    width: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.centre) and math.isfinite(self.width) and self.width > 0):
            raise ValueError(f"a window of centre {self.centre} and width {self.width}; the width must be above 0")

    def __str__(self) -> str:
        """Its name where it has one, else `CENTRE,WIDTH`: what `parse_windows` reads back."""
        names = [name for name, window in WINDOWS.items() if window == self]
        return names[0] if names else f"{self.centre:.15g},{self.width:.15g}"


# The usual ones for a chest: https://radiopaedia.org/articles/windowing-ct
WINDOWS = {
    "lung": Window(centre=-600.0, width=1500.0),
    "mediastinum": Window(centre=50.0, width=350.0),
    "bone": Window(centre=400.0, width=1800.0),
}
LUNG = WINDOWS["lung"]


def parse_windows(text: str) -> tuple[Window, ...]:
    """One window or several, in order: names and pairs of numbers, all joined by commas.

    `lung`, `-600,1500`, `lung,mediastinum` and `lung,40,400` are all right. Raises ValueError, with what may be
    given, for anything else and for the same window twice.
    """
    words = [word.strip() for word in text.split(",")]
    windows: list[Window] = []
    while words:
        word = words.pop(0)
        if word.lower() in WINDOWS:
            windows.append(WINDOWS[word.lower()])
            continue
        centre, width = _parse_number(word, text), _parse_number(words.pop(0) if words else "", text)
        if not width > 0:
            raise ValueError(f"--window {text!r} has the width {width:g}; it must be above 0, as in -600,1500")
        windows.append(Window(centre=centre, width=width))
    if len(set(windows)) < len(windows):
        raise ValueError(f"--window {text!r} names a window twice; each channel must be another one")
    return tuple(windows)


def format_windows(windows: Sequence[Window]) -> str:
    """The text that `parse_windows` reads back: for records, names of caches and facts of a model."""
    return ",".join(map(str, windows))


def apply_window(values: NDArray[np.floating], *, centre: float, width: float) -> NDArray[np.uint8]:
    """Map centre -+ width/2 to 0 and 255, clipped, as uint8 (LINEAR_EXACT of DICOM PS3.3, C.11.2.1.3.2)."""
    return np.rint(np.clip((values - (centre - width / 2)) * (255 / width), 0, 255)).astype(np.uint8)


def stretch(values: NDArray[Any], *, leave_out: NDArray[np.bool_] | None = None) -> NDArray[np.uint8]:
    """Map the least finite value to 0 and the greatest to 255; NaN becomes 0. A flat image becomes black.

    `leave_out` are pixels that count for neither. Raises ValueError when no value is finite.
    """
    values = np.asarray(values, dtype=np.float64)
    counted = np.isfinite(values)
    if leave_out is not None and (counted & ~leave_out).any():
        counted &= ~leave_out
    if not counted.any():
        raise ValueError("no pixel has a finite value")
    low, high = values.min(where=counted, initial=np.inf), values.max(where=counted, initial=-np.inf)
    if high == low:
        return np.zeros(values.shape, np.uint8)
    values = np.nan_to_num(values, nan=low, posinf=high, neginf=low)
    return apply_window(values, centre=low / 2 + high / 2, width=high - low)


def _parse_number(word: str, text: str) -> float:
    try:
        number = float(word)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        known = ", ".join(WINDOWS)
        came = repr(word) if word else "a centre without a width"
        raise ValueError(
            f"--window {text!r} holds {came}; give {known} or CENTRE,WIDTH in Hounsfield units (-600,1500), "
            "several joined by commas"
        )
    return number
