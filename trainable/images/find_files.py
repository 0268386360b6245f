"""The files that a table means: its separators, accents and folders may be written otherwise than on the disk."""

from __future__ import annotations

import os
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from trainable.images.folders import exists, walk
from trainable.images.names import is_split_name


@dataclass(frozen=True, kw_only=True)
class FoundFiles:
    """What each text of a table stands for, as an absolute path that may not exist, and how that was seen."""

    paths: Mapping[str, Path]
    notes: tuple[str, ...]


def find_files(root: Path, texts: Iterable[str]) -> FoundFiles:
    """Look the paths of one table up below `root`; each rule is decided once for the whole table.

    Backslashes separate folders where no file bears one in its name. Folders that all paths begin with and that are
    not here, as of another machine, are left out. A name is found in whatever Unicode form
    the disk has it. Where not one path leads to anything, all are looked for in the folders below, then without
    their endings, then in any case of letters, then decoded as of a URL: each must fit one file and no other. Raises
    ValueError where one fits several.
    """
    texts = list(dict.fromkeys(texts))
    notes: list[str] = []
    written = {text: text for text in texts}
    if any("\\" in text for text in texts) and not any("\\" in text and exists(root / text) for text in texts):
        written = {text: text.replace("\\", "/") for text in texts}
        notes.append("backslashes in its paths separate folders")
    written |= {text: name.strip() for text, name in written.items() if not exists(root / name)}
    paths = {text: Path(os.path.normpath(root / written[text])) for text in texts}
    is_lost = not any(written[text] and exists(path) for text, path in paths.items())
    index = _Index(root)
    if is_lost and (begin := _find_foreign_begin(index, [PurePosixPath(name) for name in written.values() if name])):
        written = {text: _take_away(begin, name) for text, name in written.items()}
        paths = {text: Path(os.path.normpath(root / written[text])) for text in texts}
        shown = "/".join(begin).replace("//", "/")
        notes.append(f"its paths begin with {shown}, which is not there: it is left out")
    missing = [text for text in texts if written[text] and not exists(paths[text])]
    missing = [text for text in missing if paths[text].is_relative_to(root)]
    if not missing:
        return FoundFiles(paths=paths, notes=tuple(notes))
    composed = {text: index.by_path.get(_nfc(index.name(paths[text]))) for text in missing}
    paths |= {text: path for text, path in composed.items() if path is not None}
    if any(written[text] and exists(path) for text, path in paths.items()):
        return FoundFiles(paths=paths, notes=tuple(notes))
    for key, note in _RULES:
        if found := index.find({text: index.name(paths[text]) for text in missing}, key):
            return FoundFiles(paths=paths | found, notes=(*notes, note.format(where=_show_folders(root, found))))
    return FoundFiles(paths=paths, notes=tuple(notes))


def _find_foreign_begin(index: _Index, paths: Sequence[PurePosixPath]) -> tuple[str, ...]:
    """The folders that all paths begin with, as another machine had them, without which some lead to a file here."""
    if not paths or any(".." in path.parts for path in paths):
        return ()
    for length in range(1, min(len(path.parts) for path in paths)):
        if len({path.parts[:length] for path in paths}) > 1 or is_split_name(paths[0].parts[length - 1]):
            break  # the images of another split may bear the same names
        if any(index.holds("/".join(path.parts[length:])) for path in paths):
            return paths[0].parts[:length]
    return ()


def _take_away(begin: tuple[str, ...], name: str) -> str:
    parts = PurePosixPath(name).parts
    return "/".join(parts[len(begin) :]) if parts[: len(begin)] == begin else name


def _nfc(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _stem(name: str) -> str:
    return name.removesuffix(".gz").rpartition(".")[0] or name


_RULES: Sequence[tuple[Callable[[str, bool], str], str]] = (
    (lambda name, of_disk: _nfc(name), "its paths begin {where}"),
    (lambda name, of_disk: _nfc(_stem(name) if of_disk else name), "its paths have no endings and begin {where}"),
    (lambda name, of_disk: _nfc(name).casefold(), "its paths are found in another case of letters, {where}"),
    (lambda name, of_disk: _nfc(name if of_disk else unquote(name)), "its paths are encoded as of a URL, {where}"),
)


class _Index:
    """All files and folders below a folder, by their paths and by their last parts; looked up when first needed."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @cached_property
    def _paths(self) -> list[Path]:
        paths = list(walk(self._root))
        folders = {parent for path in paths for parent in path.parents if parent.is_relative_to(self._root)}
        return paths + sorted(folders - {self._root})

    @cached_property
    def by_path(self) -> dict[str, Path]:
        """By the path below the folder, in NFC."""
        return {_nfc(self.name(path)): path for path in self._paths}

    def holds(self, name: str) -> bool:
        """Is there a file or folder of that path below the folder, in whatever Unicode form?"""
        return exists(self._root / name) or (not name.isascii() and _nfc(name) in self.by_path)

    def name(self, path: Path) -> str:
        return path.relative_to(self._root).as_posix()

    def find(self, wanted: Mapping[str, str], key: Callable[[str, bool], str]) -> dict[str, Path]:
        """Those of `wanted` whose whole name is the end of one path here, alike under `key`."""
        by_end: defaultdict[str, list[Path]] = defaultdict(list)
        for path in self._paths:
            by_end[key(path.name, True)].append(path)
        found = {}
        for text, name in wanted.items():
            end = "/" + key(name, False)
            last = end.rpartition("/")[2]
            fitting = [path for path in by_end[last] if f"/{key(self.name(path), True)}".endswith(end)]
            if len(fitting) > 1:
                raise ValueError(
                    f"the table's path {text} fits {fitting[0]} and {fitting[1]} ({len(fitting)} files in all); "
                    "write paths relative to the table"
                )
            if fitting:
                found[text] = fitting[0]
        return found


def _show_folders(root: Path, found: Mapping[str, Path]) -> str:
    folders = sorted({path.relative_to(root).parts[0] for path in found.values()})
    return "below " + ", ".join(folders[:3]) + (f" and {len(folders) - 3} more folders" if len(folders) > 3 else "")
