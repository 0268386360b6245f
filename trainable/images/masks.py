"""Masks beside images: folders and files that show where something is, and are no slices of their own."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from trainable.images.folders import list_folder, volume_stem
from trainable.images.names import split_words

_FOLDER_NAMES = (
    "mask masks segmentation segmentations seg segs annotation annotations contours labels lungmask lungmasks "
    "infectionmask infectionmasks groundtruth groundtruths"
)
_MASK_WORDS = (
    "mask masks seg segmentation segmentations label annotation annotated contour contours overlay gt groundtruth"
)
_IMAGE_WORDS = "image images img imgs ct cts scan scans slice slices volume volumes vol orig original"
_FOLDERS, _WORDS, _IMAGES = (frozenset(words.split()) for words in (_FOLDER_NAMES, _MASK_WORDS, _IMAGE_WORDS))
_MAY_NAME_ONE = re.compile("mask|seg|label|annotat|contour|overlay|gt|truth", re.IGNORECASE)


def is_mask(name: str) -> bool:
    """Is it a folder of masks, by its name?"""
    key = re.sub(r"[\W_]+", "", name.casefold())
    return key in _FOLDERS or key.endswith(("masks", "segmentations"))


def describe_masks(folder: Path) -> str:
    """The sentence on a folder of masks that is not read."""
    num_files = sum(not name.startswith(".") for *_, names in os.walk(folder) for name in names)
    return f"{folder} ({num_files} files): masks are not read"


def find_masks(names: Sequence[str]) -> set[str]:
    """Those of the names, without endings, that are masks of others: 1_mask beside 1, mask_1 beside image_1, mask
    beside any. Where nothing else is there, none is."""
    if not any(map(_MAY_NAME_ONE.search, names)):
        return set()
    words = {name: [word.casefold() for word in split_words(name)] for name in names}
    masks = {name for name, found in words.items() if not _WORDS.isdisjoint(found)}
    begins: set[tuple[str, ...]] = set()
    for name in words.keys() - masks:
        plain = _leave_out_images(words[name])
        begins |= {plain[:length] for length in range(len(plain) + 1)}
    return {name for name in masks if not begins.isdisjoint(_list_shown(words[name]))}


def find_mask_folders(names: Sequence[str]) -> set[str]:
    """Those of the names of folders that are of masks, where others are of none."""
    found = {name for name in find_masks(names) if len(split_words(name)) > 1}
    found |= {name for name in names if is_mask(name)}
    return found if len(found) < len(set(names)) else set()


def find_mask_files(files: Sequence[Path]) -> list[Path]:
    """Those of the files of a folder that are masks of others there."""
    found = find_masks([_stem(path) for path in files])
    return [path for path in files if _stem(path) in found]


def list_slices(folder: Path, *, refuse_loops: bool = True) -> tuple[list[Path], list[Path], list[str]]:
    """The folders and the files of a folder, as `list_folder` has them, without masks; and a sentence on each folder
    and on the files that are left out."""
    folders, files = list_folder(folder, refuse_loops=refuse_loops)
    of_folders = find_mask_folders([path.name for path in folders] + [""] * bool(files))
    notes = [describe_masks(path) for path in folders if path.name in of_folders]
    if masks := find_mask_files(files):
        more = ", ..." if len(masks) > 1 else ""
        notes.append(f"{len(masks)} files of {folder} ({masks[0].name}{more}): masks are not read")
        files = sorted(set(files).difference(masks))
    return [path for path in folders if path.name not in of_folders], files, notes


def walk_slices(folder: Path, notes: list[str]) -> Iterator[Path]:
    """Every file below a folder that is no mask, in order; what is left out is added to `notes`."""
    folders, files, masks = list_slices(folder)
    notes += masks
    yield from files
    for inner in folders:
        yield from walk_slices(inner, notes)


def _list_shown(words: Sequence[str]) -> set[tuple[str, ...]]:
    """What a mask of these words may show: all that stands around the word for it, or before it."""
    place = next(place for place, word in enumerate(words) if word in _WORDS)
    before, after = _leave_out_images(words[:place]), _leave_out_images(words[place + 1 :])
    return {before + after, before or before + after}


def _leave_out_images(words: Sequence[str]) -> tuple[str, ...]:
    return tuple(word for word in words if word not in _IMAGES)


def _stem(path: Path) -> str:
    return volume_stem(path) or path.stem
