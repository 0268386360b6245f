"""The synthetic set: procedural grey chest slices, half of them with ground-glass opacities. No patient was ever
scanned for it; it shows that a search works, and nothing about medicine."""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

POSITIVE, NEGATIVE = "covid", "normal"
FACTS_FILE = ".made.json"
SET_VERSION = 1

# How hard the set is. Brightness is that of haze over a lung of 0.14; the nodules share out the same sum.
BRIGHTNESS = (0.18, 0.32)
HAZE_SHARE = (0.85, 1.0)
NUM_NODULES = 24
NODULE_REACH = (0.018, 0.032)
NOISE = (0.02, 0.05)
VESSEL_BRIGHTNESS = (0.20, 0.55)

Grey = NDArray[np.float32]
Column = NDArray[np.float64]


def write_synthetic_set(
    folder: Path,
    *,
    seed: int = 0,
    num_patients: int = 150,
    slices_per_patient: int = 4,
    image_size: int = 96,
) -> Path:
    """Draw the set into `folder` and return it; a complete set of the same arguments is reused as it is.

    Writes `folder/CLASS/patient-017/slice-2.png`: 8-bit grey PNGs of `image_size` pixels a side, all of one
    length in bytes, the classes `covid` and `normal` with half of the patients each. The same arguments give
    the same bytes (for one version of numpy and Pillow). Raises ValueError where the folder holds anything else.
    """
    if num_patients < 2 or slices_per_patient < 1 or image_size < 32:
        raise ValueError(
            f"num_patients is {num_patients}, slices_per_patient {slices_per_patient}, image_size {image_size}; "
            "a synthetic set needs 2 patients, 1 slice and 32 pixels or more"
        )
    facts = {
        "version": SET_VERSION,
        "seed": seed,
        "num_patients": num_patients,
        "slices_per_patient": slices_per_patient,
        "image_size": image_size,
    }
    if _is_complete(folder, facts):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        for patient in range(num_patients):
            _draw_patient(aside, patient, seed, slices_per_patient, image_size)
        (aside / FACTS_FILE).write_text(json.dumps(facts))
        aside.chmod(0o755)
        try:
            os.rename(aside, folder)  # noqa: PTH104 - onto an empty folder or none, else it raises
        except OSError:
            if not _is_complete(folder, facts):  # else another process was first
                raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return folder


def _is_complete(folder: Path, facts: dict[str, int]) -> bool:
    if not folder.is_dir() or not any(folder.iterdir()):
        return False
    found = folder / FACTS_FILE
    if not found.is_file() or json.loads(found.read_text()) != facts:
        raise ValueError(
            f"{folder} holds something other than the synthetic set of {facts}; name another folder or remove this one"
        )
    return True


def _draw_patient(root: Path, patient: int, seed: int, num_slices: int, size: int) -> None:
    rng = np.random.default_rng([seed, patient])
    is_positive = patient % 2 == 1
    case = root / (POSITIVE if is_positive else NEGATIVE) / f"patient-{patient + 1:03d}"
    case.mkdir(parents=True)
    anatomy = _Anatomy.draw(rng)
    note = PngInfo()
    note.add_text("Description", "drawn by ctsearch; not a patient")
    for number, depth in enumerate(np.linspace(0.1, 0.9, num_slices)):
        pixels = _draw_slice(anatomy, float(depth), is_positive, size, rng)
        # Stored, not compressed: else the texture of a class would show in the length of its files.
        Image.fromarray(pixels).save(case / f"slice-{number + 1}.png", compress_level=0, pnginfo=note)


@dataclass(frozen=True, kw_only=True)
class _Anatomy:
    """What the slices of one patient share. Lengths are in halves of the image's side, angles in radians."""

    thorax: tuple[float, float]  # half axes
    lung: tuple[float, float]
    centre: tuple[float, float]
    tilt: float
    heart: float
    num_ribs: int
    rib_turn: float
    vessels: NDArray[np.float64]  # (V, 5): side, angle, start, end, width
    lesions: NDArray[np.float64]  # (L, 4): side, angle, distance from the lung's centre (1 is the pleura), radius

    @classmethod
    def draw(cls, rng: np.random.Generator) -> _Anatomy:
        num_vessels, num_lesions = rng.integers(14, 44), rng.integers(3, 6)
        starts = rng.uniform(0.0, 0.5, num_vessels)
        return cls(
            thorax=(rng.uniform(0.76, 0.93), rng.uniform(0.56, 0.76)),
            lung=(rng.uniform(0.25, 0.33), rng.uniform(0.38, 0.52)),
            centre=(rng.uniform(-0.06, 0.06), rng.uniform(-0.14, 0.14)),
            tilt=rng.uniform(-0.16, 0.16),
            heart=rng.uniform(0.17, 0.30),
            num_ribs=int(rng.integers(9, 18)),
            rib_turn=rng.uniform(0, 2 * np.pi),
            vessels=np.stack(
                [
                    rng.choice([-1.0, 1.0], num_vessels),
                    rng.uniform(0, 2 * np.pi, num_vessels),
                    starts,
                    starts + rng.uniform(0.15, 0.45, num_vessels),
                    rng.uniform(0.010, 0.024, num_vessels),
                ],
                axis=1,
            ),
            lesions=np.stack(
                [
                    rng.choice([-1.0, 1.0], num_lesions),
                    rng.uniform(0, 2 * np.pi, num_lesions),
                    rng.uniform(0.45, 0.85, num_lesions),
                    rng.uniform(0.10, 0.17, num_lesions),
                ],
                axis=1,
            ),
        )


def _draw_slice(
    anatomy: _Anatomy, depth: float, is_positive: bool, size: int, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """One slice, uint8 (size, size); `depth` runs from the lung's apex (0) to its base (1)."""
    axis = (np.arange(size, dtype=np.float32) + 0.5) * (2 / size) - 1
    x, y = np.meshgrid(axis - anatomy.centre[0], axis - anatomy.centre[1])
    cos, sin = math.cos(anatomy.tilt), math.sin(anatomy.tilt)
    x, y = cos * x + sin * y, cos * y - sin * x
    edge = 1.5 / size

    grow = 0.80 + 0.25 * math.sin(math.pi * (0.15 + 0.6 * depth))
    width, height = anatomy.lung[0] * grow, anatomy.lung[1] * grow
    offset = 0.06 + anatomy.lung[0]
    lungs = np.maximum(_ellipse(x + offset, y, width, height, edge), _ellipse(x - offset, y, width, height, edge))
    heart = anatomy.heart * (0.5 + 0.8 * depth)
    lungs = lungs * (1 - _ellipse(x - 0.08, y + 0.12, heart, 0.9 * heart, edge))
    lungs = lungs * (1 - _ellipse(x, y - 0.42, 0.13, 0.15, edge))

    grey = 0.42 * _ellipse(x, y, *anatomy.thorax, edge)
    grey += 0.12 * _ellipse(x, y, anatomy.thorax[0] - 0.07, anatomy.thorax[1] - 0.06, edge)
    wall = _ellipse(x, y, anatomy.thorax[0] - 0.08, anatomy.thorax[1] - 0.06, edge)
    wall -= _ellipse(x, y, anatomy.thorax[0] - 0.14, anatomy.thorax[1] - 0.12, edge)
    around = np.arctan2(y / anatomy.thorax[1], x / anatomy.thorax[0]) - 0.25 * depth
    grey += 0.30 * wall * _step(np.cos(anatomy.num_ribs * around + anatomy.rib_turn) - 0.1, 0.3)
    grey += 0.06 * _ellipse(x - 0.06, y + 0.14, 0.8 * heart, 0.7 * heart, edge)
    grey += 0.28 * _ellipse(x, y - 0.43, 0.11, 0.10, edge) + 0.25 * _ellipse(x, y - 0.58, 0.03, 0.10, edge)
    grey += 0.08 * _ellipse(x - 0.12, y - 0.34, 0.06, 0.06, edge)

    inner = 0.14 + _draw_vessels(anatomy, x, y, (width, height), offset, rng)
    inner += _draw_lesions(anatomy, (width, height), offset, size, is_positive, rng)
    grey = grey * (1 - lungs) + inner * lungs
    grey = grey * rng.uniform(0.80, 1.05) + rng.uniform(0.02, 0.10)
    grey += rng.normal(0, rng.uniform(*NOISE), grey.shape)
    return np.round(np.clip(grey, 0, 1) * 255).astype(np.uint8)


def _draw_vessels(
    anatomy: _Anatomy, x: Grey, y: Grey, lung: tuple[float, float], offset: float, rng: np.random.Generator
) -> Grey:
    """Bright lines that run from the middle of a lung outwards, thinner on their way."""
    total = np.zeros_like(x)
    turns = anatomy.vessels[:, 1] + rng.normal(0, 0.12, len(anatomy.vessels))
    for (side, _, start, end, thickness), turn in zip(anatomy.vessels.tolist(), turns.tolist(), strict=True):
        first_x, first_y = side * offset + start * lung[0] * math.cos(turn), start * lung[1] * math.sin(turn)
        last_x, last_y = (
            side * offset + end * lung[0] * math.cos(turn + 0.3),
            end * lung[1] * math.sin(turn + 0.3),
        )
        step_x, step_y = last_x - first_x, last_y - first_y
        length_squared = step_x**2 + step_y**2
        from_x, from_y = x - first_x, y - first_y
        along = np.clip((from_x * step_x + from_y * step_y) * (1 / length_squared), 0, 1)
        distance_squared = (from_x - along * step_x) ** 2 + (from_y - along * step_y) ** 2
        reach = thickness * (1.2 - 0.6 * along)
        total = np.maximum(total, np.exp(np.maximum(-distance_squared / reach**2, -30)))
    return total * rng.uniform(*VESSEL_BRIGHTNESS)


def _draw_lesions(
    anatomy: _Anatomy,
    lung: tuple[float, float],
    offset: float,
    size: int,
    is_positive: bool,
    rng: np.random.Generator,
) -> Grey:
    """Soft haze in a positive slice; in a negative one crowds of sharp nodules of the same place, spread and
    total brightness. What tells the classes apart is texture alone: no single pixel and no sum of pixels."""
    haze_share = rng.uniform(*HAZE_SHARE) if is_positive else 1 - rng.uniform(*HAZE_SHARE)
    brightness = rng.uniform(*BRIGHTNESS)
    side, angle, distance, radius = anatomy.lesions.T
    angle = angle + rng.normal(0, 0.15, len(angle))
    radius = radius * rng.uniform(0.8, 1.2, len(radius))
    x = side * offset + distance * np.cos(angle) * lung[0]
    y = distance * np.sin(angle) * lung[1]
    spread = np.repeat(radius / np.sqrt(2), NUM_NODULES)
    nodule_x = np.repeat(x, NUM_NODULES) + rng.normal(0, spread)
    nodule_y = np.repeat(y, NUM_NODULES) + rng.normal(0, spread)
    reach = rng.uniform(*NODULE_REACH, len(nodule_x))
    weight = np.repeat(radius**2, NUM_NODULES) / (NUM_NODULES * reach**2)
    haze = _blobs(anatomy, size, x, y, radius, np.ones_like(x))
    nodules = _blobs(anatomy, size, nodule_x, nodule_y, reach, weight)
    return np.asarray(brightness * (haze_share * haze + (1 - haze_share) * nodules), dtype=np.float32)


def _blobs(anatomy: _Anatomy, size: int, x: Column, y: Column, reach: Column, peak: Column) -> Grey:
    """The sum of round Gaussians given in the patient's own, tilted coordinates."""
    cos, sin = math.cos(anatomy.tilt), math.sin(anatomy.tilt)
    axis = (np.arange(size) + 0.5) * (2 / size) - 1
    right = cos * x - sin * y + anatomy.centre[0]
    down = sin * x + cos * y + anatomy.centre[1]
    columns = np.exp(-(((axis - right[:, None]) / reach[:, None]) ** 2))
    rows = np.exp(-(((axis - down[:, None]) / reach[:, None]) ** 2))
    return np.asarray((rows * peak[:, None]).T @ columns, dtype=np.float32)


def _ellipse(x: Grey, y: Grey, half_width: float, half_height: float, edge: float) -> Grey:
    """1 inside, 0 outside, with an edge about `edge` wide."""
    return _step((1 - np.hypot(x / half_width, y / half_height)) * min(half_width, half_height), edge)


def _step(value: Grey, width: float) -> Grey:
    return np.asarray(1 / (1 + np.exp(np.clip(value * (-2 / width), -30, 30))), dtype=np.float32)
