"""Order of a series: its slices along their common normal, and what is odd about where they lie, in sentences."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainable.images.series_places import Place

SAME_DIRECTION = np.cos(np.radians(5))  # of two normals
LEAST_TILT_DEGREES = 0.5
SAME_PLACE_MM = 0.01
_UNEVEN = 0.1  # of the spacing: positions are rounded in headers, and tables do not move evenly


@dataclass(frozen=True, kw_only=True)
class Order:
    """Slices in order, with positions in millimetres (None without headers); `notes` say what is odd.

    `left_out` are slices of the series that lie in another direction: scouts without a mark, reformatted ones.
    """

    places: tuple[Place, ...]
    positions_mm: tuple[float, ...] | None
    spacing_mm: float | None
    left_out: tuple[Place, ...]
    notes: tuple[str, ...]


def sort_places(places: Sequence[Place]) -> Order:
    """Sort the frames of one series: by position along the normal, else by InstanceNumber, else by name.

    Positions run to the head, or of other slices than axial ones to the patient's back or left, however the headers
    give the normal.
    """
    kept, askew = split_by_direction(places)
    (rows, columns), _ = Counter(place.shape for place in kept).most_common(1)[0]
    odd = [place for place in kept if place.shape != (rows, columns)]
    kept = [place for place in kept if place.shape == (rows, columns)]
    notes = []
    if askew:
        notes.append(f"{len(askew)} slices lie in another direction and are left out")
    if odd:
        notes.append(f"{len(odd)} slices are of another size than {columns} x {rows} and are left out")
    normal = _point_up(kept[0].normal)
    depths = None
    if normal is not None and all(place.position is not None for place in kept):
        kept, depths = _sort_along(kept, normal)
    elif len(kept) > 1:
        is_one_file = len({place.path for place in kept}) == 1
        by, kept = _sort_without_positions(kept)
        if not is_one_file:  # its frames are in order
            notes.append(f"some slices have no position in their headers: sorted by {by}")
    spacing = None
    if depths is not None and normal is not None and len(kept) > 1:
        spacing, more = describe_gaps(depths)
        notes += more
        tilt = measure_tilt(kept, normal)
        if tilt > LEAST_TILT_DEGREES:
            notes.append(f"the gantry was tilted by {tilt:.1f} degrees: slices are shifted against each other")
    return Order(
        places=tuple(kept),
        positions_mm=None if depths is None else tuple(map(float, depths)),
        spacing_mm=spacing,
        left_out=(*askew, *odd),
        notes=tuple(notes),
    )


def describe_gaps(depths: NDArray[np.float64]) -> tuple[float | None, list[str]]:
    """The usual distance of sorted positions in millimetres, and sentences on missing, repeated and uneven ones."""
    steps = np.diff(depths)
    notes = []
    repeated = steps < SAME_PLACE_MM
    if repeated.any():
        notes.append(f"{int(repeated.sum())} slices lie at the place of another one: two scans or a copy in one series")
    steps, begins = steps[~repeated], depths[:-1][~repeated]
    if not len(steps):
        return None, notes
    spacing = float(np.median(steps))
    counts = np.rint(steps / spacing).astype(int) - 1
    gaps = counts > 0
    if gaps.any():
        at = ", ".join(f"{place:.1f}" for place in begins[gaps][:3])
        more = " and elsewhere" if gaps.sum() > 3 else ""
        notes.append(
            f"{int(counts[gaps].sum())} slices are missing (spacing {spacing:.2f} mm, gaps after {at} mm{more})"
        )
    uneven = np.abs(steps[~gaps] - spacing) > _UNEVEN * spacing
    if uneven.any():
        low, high = steps[~gaps].min(), steps[~gaps].max()
        notes.append(f"slices lie unevenly, {low:.2f} to {high:.2f} mm apart")
    return spacing, notes


def measure_tilt(places: Sequence[Place], normal: NDArray[np.float64]) -> float:
    """The angle, in degrees, between the way from the first slice to the last and their normal."""
    shift = _corner(places[-1]) - _corner(places[0])
    along = float(shift @ normal)
    across = float(np.linalg.norm(shift - along * normal))
    return float(np.degrees(np.arctan2(across, abs(along)))) if abs(along) > SAME_PLACE_MM else 0.0


def _sort_along(places: Sequence[Place], normal: NDArray[np.float64]) -> tuple[list[Place], NDArray[np.float64]]:
    depths = [float(_corner(place) @ normal) for place in places]
    keys = [(round(depth, 3), place.number or 0, str(place.path)) for depth, place in zip(depths, places, strict=True)]
    order = sorted(range(len(places)), key=keys.__getitem__)
    return [places[index] for index in order], np.array([depths[index] for index in order])


def _point_up(normal: NDArray[np.float64] | None) -> NDArray[np.float64] | None:
    """The normal with its greatest part above 0: in DICOM's axes that is to the head, to the back or to the left."""
    return None if normal is None else normal * np.sign(normal[np.argmax(np.abs(normal))])


def _corner(place: Place) -> NDArray[np.float64]:
    return np.zeros(3) if place.position is None else place.position


def is_same_direction(first: NDArray[np.float64], second: NDArray[np.float64]) -> bool:
    """Whether two normals are the same within 5 degrees, either way round."""
    return bool(abs(first @ second) >= SAME_DIRECTION)


def split_by_direction(places: Sequence[Place]) -> tuple[list[Place], list[Place]]:
    """The slices along the most common normal, either way round, and the others; all of them where none is known."""
    groups: list[tuple[NDArray[np.float64], list[Place]]] = []
    lost: list[Place] = []
    for place in places:
        if place.normal is None:
            lost.append(place)
            continue
        alike = next((group for normal, group in groups if is_same_direction(normal, place.normal)), None)
        if alike is None:
            groups.append((place.normal, [place]))
        else:
            alike.append(place)
    if not groups:
        return list(places), []
    kept = max((group for _, group in groups), key=len)
    return [*kept, *lost], [place for _, group in groups if group is not kept for place in group]


def _sort_without_positions(places: Sequence[Place]) -> tuple[str, list[Place]]:
    numbers = [place.number for place in places]
    if None not in numbers and len(set(numbers)) == len(numbers):
        return "InstanceNumber", sorted(places, key=lambda place: place.number or 0)
    return "name", sorted(places, key=lambda place: (_natural(place.path.name), str(place.path), place.frame))


def _natural(name: str) -> list[tuple[int, int, str]]:
    """A name's parts, so that IM9 comes before IM10."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.findall(r"[0-9]+|[^0-9]+", name)]
