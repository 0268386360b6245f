"""Folders as they lie on a disk: what is a slice's, what is the system's, and archives among them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

_SYSTEM_NAMES = {
    *("__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "$recycle.bin", "@eadir"),
    *("system volume information", "lost+found", "#recycle", "dicomdir", "__pycache__"),
}
_TEXT_NAME = re.compile(r"(licen[cs]e|read[ _-]?me)([ _-][^.]*)?", re.IGNORECASE)
_EXTRA_SUFFIXES = {
    *(".txt", ".md", ".rst", ".csv", ".tsv", ".parquet", ".json", ".jsonl", ".xml", ".html", ".htm", ".pdf", ".rtf"),
    *(".xlsx", ".xls", ".xlsm", ".xlsb", ".ods", ".doc", ".docx", ".log", ".ini", ".db", ".yaml", ".yml", ".toml"),
    *(".py", ".ipynb", ".m", ".r", ".sh", ".bat", ".lnk", ".url", ".bib", ".tcia", ".md5", ".sha256"),
}
_ARCHIVE_NAME = re.compile(r"(.+?)(\.tar)?\.(zip|tar|tgz|tbz2?|txz|gz|bz2|xz)", re.IGNORECASE)
_VOLUME_SUFFIXES = (".nii", ".nii.gz")


def list_folder(folder: Path, *, refuse_loops: bool = True) -> tuple[list[Path], list[Path]]:
    """The folders and the files of a folder, sorted by name, without hidden ones and well-known extras.

    Raises ValueError for a link to a folder that holds it; without `refuse_loops` it is listed.
    """
    folders: list[Path] = []
    files: list[Path] = []
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if _is_extra(entry.name):
                continue
            if not entry.is_dir():
                if Path(entry.name).suffix.lower() not in _EXTRA_SUFFIXES:
                    files.append(folder / entry.name)
            elif refuse_loops and entry.is_symlink() and _leads_up(folder / entry.name):
                raise ValueError(f"{folder / entry.name} is a link to a folder that holds it; remove it")
            else:
                folders.append(folder / entry.name)
    return folders, files


def list_tables(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """The files of a folder with these endings, sorted by name, without hidden ones."""
    entries = sorted(folder.iterdir())
    return [
        entry for entry in entries if entry.suffix.lower() in suffixes and not _is_extra(entry.name) and entry.is_file()
    ]


def exists(path: Path) -> bool:
    """Is there a file or folder? False also for what can be no path, as one of too many characters."""
    return os.path.exists(path)  # noqa: PTH110 - Path.exists raises there


def walk(folder: Path) -> Iterator[Path]:
    """Every file below a folder that `list_folder` lists, in order."""
    folders, files = list_folder(folder)
    yield from files
    for inner in folders:
        yield from walk(inner)


def archive_stem(path: Path) -> str | None:
    """An archive's name without its endings; None for other files, volumes among them."""
    match = _ARCHIVE_NAME.fullmatch(path.name)
    return match[1] if match and not path.name.lower().endswith(".nii.gz") else None


def volume_stem(path: Path) -> str | None:
    """The name of a NIfTI volume without its ending; None for another file."""
    lower = path.name.lower()
    ending = next((suffix for suffix in reversed(_VOLUME_SUFFIXES) if lower.endswith(suffix)), None)
    return path.name[: -len(ending)] if ending else None


def _is_extra(name: str) -> bool:
    lower = name.lower()
    return (
        name.startswith((".", "~$"))
        or lower in _SYSTEM_NAMES
        or lower.endswith(":zone.identifier")
        or _TEXT_NAME.fullmatch(name) is not None
    )


def _leads_up(link: Path) -> bool:
    """Does it lead to a folder that holds it, or that was gone through on the way to it, by other links?"""
    target = os.path.realpath(link)
    return any(Path(os.path.realpath(folder)).is_relative_to(target) for folder in link.parents)
