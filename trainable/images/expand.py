"""Rows of files to rows of images: a volume becomes its slices, all of one patient."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, TypeVar

from trainable.images.decode import BadImageError
from trainable.images.manifest import Slice
from trainable.images.members import name_member
from trainable.images.rows import Row
from trainable.images.slice_rule import SliceRule
from trainable.images.volumes import count_slices, is_volume, read_volume

T = TypeVar("T", Row, Slice)


@dataclass(frozen=True, kw_only=True)
class Expanded(Generic[T]):
    """Rows of single images, in the order of the files. `notes` say what was made of volumes; `skipped` has one
    sentence for each volume that was left out."""

    rows: tuple[T, ...]
    notes: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()


def expand_volumes(
    rows: Sequence[T],
    rule: SliceRule,
    *,
    skip_bad_images: bool = False,
    keep_bad_volumes: bool = False,
    num_workers: int = 1,
) -> Expanded[T]:
    """Give each volume among `rows` (NIfTI) as the slices that `rule` chooses; other files stay as they are.

    A volume without a patient is a patient of its own, so that no two of its slices lie in two splits. Raises
    BadImageError for a volume that cannot be read or shows nothing that the rule asks for, unless those are skipped, or
    kept as they are and noted.
    """
    paths = [row.path for row in rows if is_volume(row.path)]
    if not paths:
        return Expanded(rows=tuple(rows))

    def look(path: Path) -> list[int] | BadImageError | OSError:
        try:
            return choose_members(path, rule)
        except (BadImageError, OSError) as error:
            return error

    with ThreadPoolExecutor(max(1, num_workers)) as threads:
        found = dict(zip(paths, threads.map(look, paths), strict=True))
    bad = {path: error for path, error in found.items() if isinstance(error, Exception)}
    if bad and not keep_bad_volumes and (not skip_bad_images or len(bad) == len(found)):
        error = next(iter(bad.values()))
        raise BadImageError(f"{error} ({len(bad)} of {len(found)} volumes cannot be used)") from error
    expanded: list[T] = []
    for row in rows:
        chosen = found.get(row.path)
        if chosen is None or (keep_bad_volumes and row.path in bad):
            expanded.append(row)
        elif not isinstance(chosen, Exception):
            patient = row.patient or str(row.path)
            expanded += [
                replace(row, path=name_member(row.path, number), name=f"{row.name}#{number}", patient=patient)
                for number in chosen
            ]
    num_slices = sum(len(chosen) for chosen in found.values() if not isinstance(chosen, Exception))
    notes = [f"volumes: {len(found) - len(bad)} were read as {num_slices} slices, by the rule {rule}"] * (
        num_slices > 0
    )
    if bad and keep_bad_volumes:
        notes.append(f"volumes: {len(bad)} of {len(found)} cannot be used, the first: {next(iter(bad.values()))}")
    if num_alone := sum(row.patient is None for row in rows if is_volume(row.path)):
        notes.append(f"volumes: of {num_alone} no patient is given; each counts as a patient of its own")
    return Expanded(
        rows=tuple(expanded), notes=tuple(notes), skipped=() if keep_bad_volumes else tuple(map(str, bad.values()))
    )


def choose_members(path: Path, rule: SliceRule) -> list[int]:
    """The numbers of the slices that `rule` chooses of a NIfTI file. Raises BadImageError and OSError."""
    if not rule.needs_voxels:
        return rule.choose(count_slices(path))
    volume = read_volume(path)
    try:
        return rule.choose(volume.num_slices, volume)
    except ValueError as error:
        raise BadImageError(f"{path}: {error}") from error
