"""Parts of series: the folders that the slices of one series lie in, put together; and copies of a slice among them."""

from __future__ import annotations

import filecmp
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from trainable.images.dicom_ids import names_somebody
from trainable.images.series_order import SAME_PLACE_MM, describe_gaps, is_same_direction, split_by_direction
from trainable.images.series_places import Place

VOLUMETRIC = ("CT", "MR", "PT", "NM", "")

Part = list[Place]


@dataclass(frozen=True, kw_only=True)
class Joined:
    """Series, each the frames of all its folders, and a sentence each on what was put together or kept apart."""

    series: tuple[Part, ...]
    notes: tuple[str, ...]
    doubts: tuple[str, ...]


def find_copies(files: Mapping[Path, Part], kinds: Mapping[Path, Hashable]) -> dict[Path, Path]:
    """The files that hold the same slice as an earlier one of their kind, and that one.

    A slice is known by its SOPInstanceUID, and must lie at the same place: some de-identified files share one UID.
    Where headers name no place, files are copies if their contents are.
    """
    first: dict[Hashable, list[Path]] = defaultdict(list)
    copies: dict[Path, Path] = {}
    for path, frames in files.items():
        if not frames[0].instance:
            continue
        places = tuple((None if p.position is None else tuple(p.position), p.number, p.shape) for p in frames)
        key = (frames[0].instance, frames[0].series, frames[0].patient, places, kinds.get(path))
        is_placed = any(place.position is not None for place in frames)
        original = next((one for one in first[key] if is_placed or _are_equal(one, path)), None)
        if original is None:
            first[key].append(path)
        else:
            copies[path] = original
    return copies


def join_parts(parts: Iterable[Part]) -> Joined:
    """Put the parts of a series together, each the frames of one folder, by SeriesInstanceUID and PatientID.

    They belong together where no two of their slices lie at one place. Where PatientID names nobody, the UID may be
    one of many people's that a de-identification made alike: then the slices must also follow each other without a
    gap. What lies across the others, or is of another size, is a series of its own.
    """
    alike: dict[Hashable, list[Part]] = defaultdict(list)
    askew: dict[int, Part] = {}
    for number, part in enumerate(parts):
        main, rest = split_by_direction(part)
        askew[id(main)] = rest
        key = _identify(main)
        alike[number if key is None else key].append(main)
    series: list[Part] = []
    num_joined = num_folders = num_apart = 0
    for group in chain.from_iterable(map(_split_by_direction, alike.values())):
        whole = [[*part, *askew[id(part)]] for part in group]
        if len(group) > 1 and _belong_together(group):
            series.append(list(chain.from_iterable(whole)))
            num_joined += 1
            num_folders += len(group)
        else:
            series += whole
            num_apart += len(group) > 1
    series.sort(key=lambda frames: min(frame.path for frame in frames))
    put = f"DICOM series: {num_joined} lie in several folders ({num_folders} in all), and were put together"
    kept = (
        f"{num_apart} DICOM SeriesInstanceUIDs stand in several folders whose slices lie at the same places, or do not "
        "follow each other: each folder is a series of its own"
    )
    return Joined(
        series=tuple(series),
        notes=(f"{put} by SeriesInstanceUID",) if num_joined else (),
        doubts=(kept,) if num_apart else (),
    )


def _identify(part: Part) -> Hashable | None:
    """What the parts of one series share; None for what is never put together: radiographs, slices without order."""
    first = part[0]
    patients = {frame.patient for frame in part}
    is_placed = all(frame.position is not None and frame.normal is not None for frame in part)
    is_numbered = first.modality in VOLUMETRIC and first.num_frames == 1 and all(f.number is not None for f in part)
    if not first.has_series_uid or len(patients) > 1 or not (is_placed or is_numbered):
        return None
    return first.series, first.patient, first.shape, is_placed


def _split_by_direction(parts: Sequence[Part]) -> Iterator[list[Part]]:
    """Parts of one direction each; slices without positions have none, and stay together."""
    groups: list[list[Part]] = []
    for part in parts:
        normal = part[0].normal
        alike = (g for g in groups if normal is None or (n := g[0][0].normal) is None or is_same_direction(normal, n))
        group = next(alike, None)
        if group is None:
            groups.append([part])
        else:
            group.append(part)
    yield from groups


def _belong_together(parts: Sequence[Part]) -> bool:
    is_person = names_somebody(parts[0][0].patient or "")
    frames = list(chain.from_iterable(parts))
    normal = frames[0].normal
    if normal is None or any(frame.position is None for frame in frames):
        steps = np.diff(sorted(frame.number or 0 for frame in frames))
        return bool((steps > 0).all() and (is_person or (steps == 1).all()))
    depths = np.sort([float(frame.position @ normal) for frame in frames if frame.position is not None])
    has_repeats = bool((np.diff(depths) < SAME_PLACE_MM).any())
    return not has_repeats and (is_person or not describe_gaps(depths)[1])


def _are_equal(first: Path, second: Path) -> bool:
    try:
        return filecmp.cmp(first, second, shallow=False)
    except OSError:
        return False
