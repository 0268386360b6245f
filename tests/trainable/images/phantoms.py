"""A drawn chest for tests of volumes: an ellipse of soft tissue with two lungs in the middle slices, on a table."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
from numpy.typing import NDArray

AIR, TISSUE, LUNG = -1000, 40, -850
SPACING_MM = (0.8, 0.7, 5.0)


def draw_chest(
    shape: tuple[int, int, int] = (64, 56, 10), lung: slice = slice(3, 8), seed: int = 0
) -> NDArray[np.int16]:
    """Hounsfield units (X, Y, Z), from left to right, back to front and feet to head; `seed` is the person.

    What is called air is cloudy, up to -450, so that two people are no near-duplicates of each other.
    """
    rng = np.random.default_rng(seed)
    x, y = np.meshgrid(np.linspace(-1, 1, shape[0]), np.linspace(-1, 1, shape[1]), indexing="ij")
    values = np.full(shape, AIR, np.int16)
    values[(x / 0.8) ** 2 + (y / 0.6) ** 2 < 1] = TISSUE
    values[:, 2] = TISSUE  # the table, behind
    for side in (-1, 1):
        values[((x - 0.35 * side) / 0.25) ** 2 + (y / 0.4) ** 2 < 1, lung] = LUNG
    clouds = np.kron(rng.integers(0, 550, (8, 7)), np.ones((-(-shape[0] // 8), -(-shape[1] // 7))))
    clouds = np.where(values < TISSUE, clouds[: shape[0], : shape[1], None], 0)
    return (values + clouds + rng.normal(0, 15, shape)).astype(np.int16)


def save_nifti(
    path: Path,
    values: NDArray[np.generic],
    *,
    affine: NDArray[np.float64] | None = None,
    slope: float = 1,
    inter: float = 0,
) -> Path:
    """`values` (X, Y, Z) by the affine's axes, RAS without one, stored as they are with this scale in the header."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(values, np.diag([*SPACING_MM, 1]) if affine is None else affine)
    image.header.set_slope_inter(slope, inter)
    nibabel.save(image, path)
    return path
