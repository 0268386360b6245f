"""What an image becomes in the cache and at a model's door: grey, in colour, or a slice between its neighbours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

MAX_NEIGHBOURS = 8


@dataclass(frozen=True, kw_only=True)
class PixelFormat:
    """How images are decoded: the same for a whole set, in training and in serving.

    `colour` keeps red, green and blue. `neighbours` slices of a volume on each side become channels beside a slice,
    `neighbour_mm` apart (None: those that lie next to it).
    """

    colour: bool = False
    neighbours: int = 0
    neighbour_mm: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.neighbours <= MAX_NEIGHBOURS:
            raise ValueError(f"neighbours are {self.neighbours}; there may be 0 to {MAX_NEIGHBOURS} on each side")
        if self.colour and self.neighbours:
            raise ValueError("colour and neighbours came together; slices of a volume are grey: give one of them")
        if self.neighbour_mm is not None and not 0 < self.neighbour_mm <= 100:
            raise ValueError(f"neighbours are {self.neighbour_mm:g} mm apart; that must lie between 0 and 100")

    @property
    def num_channels(self) -> int:
        return 3 if self.colour else 1 + 2 * self.neighbours

    def to_dict(self) -> dict[str, Any]:
        """What differs from plain grey, for JSON: {} for that."""
        return {name: value for name, value in asdict(self).items() if value != getattr(GREY, name)}

    @classmethod
    def from_dict(cls, entries: Mapping[str, Any]) -> Self:
        """Raises TypeError for an entry that a later version wrote."""
        return cls(**entries)


GREY = PixelFormat()
