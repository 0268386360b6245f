"""Where the slices of a data set are told of: by a table, an array, or folders, perhaps packed or some folders down."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from trainable.images.archive import is_archive, unpack
from trainable.images.folders import archive_stem, list_folder, list_tables
from trainable.images.layouts import Branch, read_branches
from trainable.images.level_words import is_container
from trainable.images.limits import open_file
from trainable.images.masks import describe_masks, is_mask
from trainable.images.medmnist import SPLITS, is_npz, read_npz
from trainable.images.members import name_member
from trainable.images.names import is_split_name, map_splits, tidy
from trainable.images.rows import (
    LAYOUTS,
    MANIFEST_NAMES,
    FlawedFolderError,
    FoundRows,
    Row,
    read_table,
    too_few_classes,
)
from trainable.images.split_tables import read_split_tables
from trainable.images.table import (
    EXCEL_SUFFIXES,
    TABLE_SUFFIXES,
    has_column,
    has_needed_columns,
    is_excel,
    read_table_text,
    refuse_excel,
)

_FOREIGN_ARCHIVE = re.compile(r".+\.(7z|rar|zst|tzst|lz4|z\d\d|7z\.\d{3}|zip\.\d{3}|part\d+\.rar)", re.IGNORECASE)
_FOREIGN_STARTS = (b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07", b"\x28\xb5\x2f\xfd")


def read_source(data: Path, *, unpack_into: Path, skip_bad: bool, levels_are_known: bool) -> FoundRows:
    """The rows of a folder, an archive or a table, whichever `data` is. Raises ValueError as its readers do."""
    if data.is_dir():
        return _read_folder(data, unpack_into, skip_bad, levels_are_known)
    if is_npz(data):
        return _read_arrays(data)
    if data.suffix.lower() in EXCEL_SUFFIXES or is_excel(data):
        raise ValueError(refuse_excel(data))
    if data.suffix.lower() in TABLE_SUFFIXES and not _is_foreign_archive(data):
        return read_table(data, skip_bad=skip_bad)
    if _is_foreign_archive(data):
        raise ValueError(
            f"{data} is an archive of a kind that is not read (zip and tar are); unpack it (with 7-Zip: "
            f"7z x {tidy(data.name)}) and give the folder"
        )
    if not is_archive(data):
        raise ValueError(
            f"--data {data} is no folder, zip, tar, {', '.join(TABLE_SUFFIXES)} or .npz of MedMNIST; {LAYOUTS}"
        )
    folder = unpack(data, unpack_into)
    try:
        found = _read_folder(folder, unpack_into, skip_bad, levels_are_known)
    except ValueError as error:  # by the name that the user knows
        raise ValueError(str(error).replace(str(folder), str(data))) from error
    return replace(found, source=f"the archive {data}" + (", by the table in it" if found.columns else ""))


def _read_arrays(npz: Path) -> FoundRows:
    """The images of a MedMNIST file with their classes and published splits. Raises as `medmnist.read_npz` does."""
    found = read_npz(npz)
    return FoundRows(
        rows=tuple(
            Row(path=(path := name_member(npz, number)), name=path.name, label=label, split=split)
            for number, (label, split) in enumerate(zip(found.labels, found.splits, strict=True))
        ),
        source=f"the MedMNIST file {npz}",
        layout="an array a split",
        splits=tuple((split, split) for split in SPLITS),
        notes=("its images are in colour: --colour keeps that, else they are read in grey",) if found.in_colour else (),
    )


def _read_folder(data: Path, unpack_into: Path, skip_bad: bool, levels_are_known: bool) -> FoundRows:
    down = _descend(data, unpack_into)
    for depth, level in enumerate(down.levels):
        manifest = next((level / name for name in MANIFEST_NAMES if (level / name).is_file()), None)
        if manifest is not None:
            found = read_table(manifest, skip_bad=skip_bad, whole_folder=True)
            return replace(found, notes=(*down.notes[:depth], *found.notes))

    def read_classes() -> FoundRows:
        branches = _list_branches(down.levels[-1], unpack_into)
        found = read_branches(down.levels[-1], branches, skip_bad=skip_bad, levels_are_known=levels_are_known)
        if len(labels := {row.label for row in found.rows}) < 2:
            raise ValueError(too_few_classes(data, labels))
        return replace(
            found,
            source=f"the folder {data}",
            left_out=(*down.masks, *found.left_out),
            notes=(*down.notes, *found.notes),
        )

    tables = [table for level in down.levels for table in _list_tables(level)]
    try:
        found = read_classes()
    except ValueError as error:
        are_classes = isinstance(error, FlawedFolderError) and not _has_container(down.levels[-1])
        for vaguely in (False,) if are_classes else (False, True):
            if usable := [table for table in tables if has_needed_columns(table, vaguely=vaguely)]:
                found = _read_tables(usable, skip_bad)
                return replace(found, notes=(*found.notes, *_name_unread(set(tables), down.levels, used=usable)))
        if sheets := [sheet for level in down.levels for sheet in list_tables(level, EXCEL_SUFFIXES)]:
            raise ValueError(f"{error}; {refuse_excel(sheets[0])}") from error
        if tables:
            raise ValueError(f"{error}; the table beside was not read: {_find_fault(tables[0])}") from error
        raise
    if usable := [table for table in tables if has_needed_columns(table)]:
        shown = ", ".join(sorted({row.label for row in found.rows})[:3])
        raise ValueError(
            f"{data} holds class folders ({shown}) and the table {usable[0].name}; which is meant? "
            f"give the table itself (--data {usable[0]}), or move it out of the folder"
        )
    return replace(found, notes=(*found.notes, *_name_unread(tables, down.levels)))


def _has_container(folder: Path) -> bool:
    return any(is_container(inner.name) for inner in list_folder(folder)[0])


def _find_fault(table: Path) -> str:
    """Why a table cannot be read as one of slices."""
    try:
        read_table_text(table)
    except ValueError as error:
        return str(error)
    return f"{table} has no columns path and label"


def _list_tables(folder: Path) -> list[Path]:
    """The tables of a folder; a .txt is one only where it can be read as one, for most of them are notes."""
    tables = list_tables(folder, TABLE_SUFFIXES)
    return [table for table in tables if table.suffix.lower() != ".txt" or has_needed_columns(table, vaguely=True)]


def _name_unread(tables: Iterable[Path], levels: Sequence[Path], used: Sequence[Path] = ()) -> list[str]:
    """A note on each table and spreadsheet that lies there and is not read."""
    sheets = [sheet for level in levels for sheet in list_tables(level, EXCEL_SUFFIXES)]
    lists = [text for level in levels for text in list_tables(level, (".txt",)) if _names_split(text.stem)]
    hint = ", though it has a column for patients: to follow it, add one for labels and give the table by --data"
    return [
        f"the table {table.name} is not read{hint if has_column(table, 'patient') else ''}"
        for table in sorted({*tables, *sheets, *lists}.difference(used))
    ]


def _names_split(stem: str) -> bool:
    """Is a word of it one for a split, as in train_CT_COVID?"""
    return any(is_split_name(word) for word in re.split(r"[\W_]+", stem) if word)


@dataclass(frozen=True, kw_only=True)
class _Descent:
    """The folder, and each one inside that holds all the rest; a note on each of those; and on masks beside them."""

    levels: tuple[Path, ...]
    notes: tuple[str, ...] = ()
    masks: tuple[str, ...] = ()


def _descend(folder: Path, unpack_into: Path) -> _Descent:
    """Go down while one folder that holds folders or archives, or one archive, is alone at its level.

    Folders of masks beside one of images do not count.
    """
    levels, notes, masks = [folder], [], []
    while True:
        folders, files = list_folder(levels[-1])
        images = [inner for inner in folders if is_container(inner.name)]
        if len(images) == 1 and len(folders) > 1 and all(inner in images or is_mask(inner.name) for inner in folders):
            masks += [describe_masks(inner) for inner in folders if inner not in images]
            folders = images
        if not folders and len(files) == 1 and archive_stem(files[0]) and is_archive(files[0]):
            levels.append(unpack(files[0], unpack_into))
            notes.append(f"the archive {files[0].name} inside holds all the rest")
        elif not files and len(folders) == 1 and (list_folder(folders[0])[0] or _holds_archives(folders[0])):
            levels.append(folders[0])
            notes.append(f"the folder {folders[0].name} inside holds all the rest")
        else:
            return _Descent(levels=tuple(levels), notes=tuple(notes), masks=tuple(masks))


def _holds_archives(folder: Path) -> bool:
    return any(archive_stem(file) for file in list_folder(folder)[1])


def _is_foreign_archive(file: Path) -> bool:
    """Is it an archive that is neither zip nor tar, by its name or its first bytes?"""
    if _FOREIGN_ARCHIVE.fullmatch(file.name):
        return True
    try:
        with open_file(file) as content:
            return content.read(8).startswith(_FOREIGN_STARTS)
    except (OSError, ValueError):  # the readers' to judge
        return False


def _list_branches(root: Path, unpack_into: Path) -> list[Branch]:
    folders, files = list_folder(root)
    if not files:
        return [Branch(name=folder.name, folder=folder) for folder in folders]
    if not folders and all(archive_stem(file) and is_archive(file) for file in files):
        unpacked: dict[Path, Path] = {}
        for file in files:
            folder = unpack(file, unpack_into)
            if folder in unpacked:
                raise ValueError(f"{unpacked[folder]} and {file} are identical archives; remove one")
            unpacked[folder] = file
        return [
            Branch(name=str(archive_stem(file)), folder=_descend_packed(folder)) for folder, file in unpacked.items()
        ]
    packed = [file for file in files if archive_stem(file) or _is_foreign_archive(file)]
    hint = f"unpack {packed[0].name} or move it away; " if packed else ""
    if not folders:
        raise ValueError(f"{root} holds {len(files)} files ({files[0].name}) and no class folders; {hint}{LAYOUTS}")
    kind = FlawedFolderError if len(files) < len(folders) else ValueError
    raise kind(f"{files[0]} lies beside the class folders ({len(files)} in all do); {hint}{LAYOUTS}")


def _descend_packed(folder: Path) -> Path:
    """An archive's one top folder, where it has one, whatever that holds."""
    folders, files = list_folder(folder)
    return folders[0] if len(folders) == 1 and not files else folder


def _read_tables(tables: Sequence[Path], skip_bad: bool) -> FoundRows:
    """One table, or one for each split: train.csv, val.csv, test.csv."""
    if len(tables) == 1:
        try:
            return read_table(tables[0], skip_bad=skip_bad, whole_folder=True)
        except ValueError as error:
            packed = [file for file in list_folder(tables[0].parent)[1] if archive_stem(file)]
            if packed and "missing file" in str(error):
                raise ValueError(f"{error}; unpack {packed[0].name} beside the table first") from error
            raise
    splits = map_splits([table.stem for table in tables])
    if len(splits) < len(tables) or len(set(splits.values())) < len(tables):
        raise ValueError(
            f"{tables[0].parent} holds the tables {', '.join(table.name for table in tables)}; give the one that is "
            "meant by --data, or name them after their splits: train.csv, val.csv, test.csv"
        )
    return read_split_tables(tables, splits, skip_bad=skip_bad)
