"""What an image becomes in the cache and at a model's door: windows, colours, or a slice between its neighbours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from trainable.images.windows import LUNG, Window, format_windows, parse_windows

MAX_NEIGHBOURS = 8


@dataclass(frozen=True, kw_only=True)
class PixelFormat:
    """How images are decoded: the same for a whole set, in training and in serving.

    Each of the `windows` of Hounsfield units is a channel; `colour` keeps red, green and blue. `neighbours` slices of a
    volume on each side stand beside a slice, `neighbour_mm` apart (None: those that lie next to it), from feet to head,
    each with all its windows.
    """

    windows: tuple[Window, ...] = (LUNG,)
    colour: bool = False
    neighbours: int = 0
    neighbour_mm: float | None = None

    def __post_init__(self) -> None:
        if not self.windows:
            raise ValueError("no window came; there must be one or several")
        if not 0 <= self.neighbours <= MAX_NEIGHBOURS:
            raise ValueError(f"neighbours are {self.neighbours}; there may be 0 to {MAX_NEIGHBOURS} on each side")
        if self.colour and (self.neighbours or len(self.windows) > 1):
            raise ValueError("colour came with several windows or neighbours, which are for grey slices: give one")
        if self.neighbour_mm is not None and not 0 < self.neighbour_mm <= 100:
            raise ValueError(f"neighbours are {self.neighbour_mm:g} mm apart; that must lie between 0 and 100")

    @property
    def num_channels(self) -> int:
        return 3 if self.colour else len(self.windows) * (1 + 2 * self.neighbours)

    def to_dict(self) -> dict[str, Any]:
        """What differs from one lung window in grey, for JSON: {} for that."""
        entries: dict[str, Any] = {}
        if self.windows != (LUNG,):
            entries["windows"] = format_windows(self.windows)
        for name in ("colour", "neighbours", "neighbour_mm"):
            if getattr(self, name) != getattr(GREY, name):
                entries[name] = getattr(self, name)
        return entries

    @classmethod
    def from_dict(cls, entries: Mapping[str, Any]) -> Self:
        """What `to_dict` gave. Raises ValueError for a bad window, TypeError for an entry of a later version."""
        given = dict(entries)
        if "windows" in given:
            given["windows"] = parse_windows(given["windows"])
        return cls(**given)


GREY = PixelFormat()
