"""Which slices of a volume are looked at: all, the middle one, every N-th, or those that show lung."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from trainable.images.volumes import Volume

LEAST_LUNG_SHARE = 0.1
"""Of the body's area in a slice: below it are abdomen and throat, where only bowel and windpipe hold air."""
TISSUE_HU = -320.0  # half-way between lung and soft tissue
_SIDE = 128  # pixels that a slice is thinned to before it is measured

RULES = "all, middle, every:N or lung"


@dataclass(frozen=True, kw_only=True)
class SliceRule:
    """A rule for the slices of every volume of a set; `step` is the N of `every:N`."""

    kind: Literal["all", "middle", "every", "lung"] = "all"
    step: int = 1

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError for anything but `all`, `middle`, `every:N` and `lung`."""
        word = text.strip().lower()
        if word == "all":
            return cls(kind="all")
        if word == "middle":
            return cls(kind="middle")
        if word == "lung":
            return cls(kind="lung")
        if (match := re.fullmatch(r"every:(\d{1,4})", word)) and int(match[1]) > 0:
            return cls(kind="every", step=int(match[1]))
        raise ValueError(f"the rule for slices is {text!r}; it must be {RULES}")

    def __str__(self) -> str:
        return f"every:{self.step}" if self.kind == "every" else self.kind

    @property
    def needs_voxels(self) -> bool:
        """Whether the number of slices does not tell which are chosen."""
        return self.kind == "lung"

    def choose(self, num_slices: int, volume: Volume | None = None) -> list[int]:
        """Indices of the chosen slices, feet to head; `every:N` lies around the middle. `lung` needs the `volume`.

        Raises ValueError where `lung` finds no slice, or the values are no Hounsfield units.
        """
        if self.kind == "all":
            return list(range(num_slices))
        if self.kind == "middle":
            return [num_slices // 2]
        if self.kind == "every":
            return list(range((num_slices // 2) % self.step, num_slices, self.step))
        assert volume is not None
        if not volume.in_hounsfield:
            low, high = volume.value_range
            raise ValueError(
                f"its values run from {low:g} to {high:g}, which are no Hounsfield units: lung cannot be told; give "
                "another rule for slices, such as middle"
            )
        return self.choose_lung(measure_lung(volume))

    def choose_lung(self, shares: NDArray[np.float64]) -> list[int]:
        """Indices of the slices that show lung, by what `measure_lung` found of each. Raises ValueError for none."""
        chosen = np.flatnonzero(shares >= LEAST_LUNG_SHARE).tolist()
        if not chosen:
            raise ValueError(
                f"no slice shows lung: air inside the body takes at most {shares.max():.0%} of it, "
                f"{LEAST_LUNG_SHARE:.0%} are asked for; give another rule for slices, such as middle"
            )
        return chosen


def measure_lung(volume: Volume) -> NDArray[np.float64]:
    """The share of the body's area that is air inside it, for each slice: float (Z,) in [0, 1]."""
    return np.array([measure_lung_share(volume.slice_at(index)) for index in range(volume.num_slices)])


def measure_lung_share(values: NDArray[np.float32]) -> float:
    """The share of the body's area that is air inside it, in [0, 1], of one slice (Y, X) in Hounsfield units.

    The body is the largest connected region above -320 HU with its holes filled; air inside it is what was filled
    (after Hu, Hoffman and Reinhardt 2001, "Automatic lung segmentation", steps 1 and 2). The patient's table, and air
    around it, count for nothing.
    """
    from scipy import ndimage

    thin = max(1, max(values.shape) // _SIDE)
    regions, num_regions = ndimage.label(values[::thin, ::thin] > TISSUE_HU)
    if not num_regions:
        return 0.0
    body = regions == 1 + np.argmax(np.bincount(regions.ravel())[1:])
    whole = ndimage.binary_fill_holes(body)
    return float((whole & ~body).sum() / whole.sum())
