"""Changes of a set since its splits were drawn: files, members of volumes, and archives with another content."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from trainable.images.archive import is_archive, unpack
from trainable.images.folders import archive_stem, exists, walk
from trainable.images.member_names import split_member
from trainable.images.members import hash_member
from trainable.images.splits import SplitRow


def find_changed_rows(rows: Sequence[SplitRow]) -> dict[Path, str]:
    """The SHA-256 that images have now, of those that have another content; one that is gone is not listed.

    A slice of a volume and a frame of a file have changed where their file has.
    """

    @cache
    def hash_file(path: Path) -> str | None:
        try:
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:
            return None

    changed = {}
    for row in rows:
        member = split_member(row.path)
        content = hash_file(member[0] if member else row.path)
        if content is not None and member:
            content = hash_member(content, member[1])
        if content is not None and content != row.sha256:
            changed[row.path] = content
    return changed


def find_changed_archives(data: Path | None, unpacked: Path, rows: Sequence[SplitRow]) -> list[str]:
    """The names of the folders below `unpacked` whose archive is no longer part of `data`; none where data is gone."""
    used = sorted({_find_digest(row.path, unpacked) for row in rows} - {""})
    if not used or data is None or not exists(data):
        return []
    there = {digest for digest, _ in _list_archives(data, unpacked)}
    return [digest for digest in used if digest not in there]


def follow_archive(data: Path, unpacked: Path, rows: Sequence[SplitRow]) -> list[SplitRow]:
    """The rows with the places that their images have in the archive as it is now, where there is one that has changed
    and one in its stead; an image that the new one lacks stays where it is. Raises as `unpack` does."""
    stale = find_changed_archives(data, unpacked, rows)
    if len(stale) != 1:
        return list(rows)
    used = {_find_digest(row.path, unpacked) for row in rows}
    fresh = [(digest, archive) for digest, archive in _list_archives(data, unpacked) if digest not in used]
    if len(fresh) != 1:
        return list(rows)
    ((digest, archive),) = fresh
    unpack(archive, unpacked)
    moved: Mapping[Path, Path] = {
        row.path: unpacked / digest / row.path.relative_to(unpacked / stale[0])
        for row in rows
        if _find_digest(row.path, unpacked) == stale[0]
    }
    return [
        replace(row, path=target) if (target := moved.get(row.path)) and exists(_find_file(target)) else row
        for row in rows
    ]


def _find_file(path: Path) -> Path:
    return member[0] if (member := split_member(path)) else path


def _find_digest(path: Path, unpacked: Path) -> str:
    return path.relative_to(unpacked).parts[0] if path.is_relative_to(unpacked) else ""


def _list_archives(data: Path, unpacked: Path) -> Iterator[tuple[str, Path]]:
    """The archives of a set and their SHA-256, also those inside others that were unpacked."""
    for file in walk(data) if data.is_dir() else [data]:
        if (file == data or archive_stem(file)) and file.is_file() and is_archive(file):
            with file.open("rb") as content:
                digest = hashlib.file_digest(content, "sha256").hexdigest()
            yield digest, file
            if (inner := unpacked / digest).is_dir():
                yield from _list_archives(inner, unpacked)
