"""What a level of folders is, by the names on it: classes, patients, parts of a set, images beside their masks."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from trainable.images.masks import is_mask
from trainable.images.names import is_split_name, split_words

MAX_NUMBERED_CLASSES = 20

_CONTAINER_WORDS = (
    "images image imgs img slices scans studies volumes frames png pngs jpg jpgs jpeg dcm dicom dicoms nifti ct cts "
    "ctscans ctslices files original originals"
)
_CONTAINERS = frozenset(_CONTAINER_WORDS.split())
_UID = re.compile(r"\d+(\.\d+){4,}")
_HASH = re.compile(r"(?=.*\d)(?=.*[a-f])([0-9a-f]{8,}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})", re.IGNORECASE)
_PERSON = re.compile(
    r"(p|pat|case|subj|sub|pid|mrn|im|img|(.*[\W_])?(patients?|subject|person|study|series|scan|session|record|images?))"
    r"[\W_]*\d+\W*",
    re.IGNORECASE,
)
_PART = re.compile(
    r"(.*[\W_])?(part|batch|chunk|dis[ck]|volume|vol|fold|(sub|data)?set|split|shard|site|hospital|cent(er|re)|clinic|"
    r"scanner|cohort)"
    r"[\W_]*(\d+|[a-z])\W*",
    re.IGNORECASE,
)
_SCAN_PART = re.compile(r"(.*[\W_])?(vol|volume|dis[ck])[\W_]*(\d+|[a-z])\W*", re.IGNORECASE)
_NUMBERED = re.compile(r"(\D*)(\d+)(\D*)")
_PART_WORDS = frozenset({"part", "chunk", "batch", "copy", "kopie", "copie", "copia"})
_DOWNLOAD = re.compile(r"-\d{8}T\d{6}Z(-\d+)+$")  # what a cloud drive adds to each archive of a large folder


def is_container(name: str) -> bool:
    """Is it a folder that only gathers files, as `images`?"""
    return _key(name) in _CONTAINERS


def check_are_classes(where: Path, below: Mapping[str, Collection[str]]) -> None:
    """Raise ValueError where folders that stand for classes are named like patients, parts of a set or containers.

    `below` are the names of the folders in each.
    """
    names = list(below)
    shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    if len(names) > 1 and all(is_container(name) or is_mask(name) for name in names):
        raise ValueError(
            f"the folders of {where} ({shown}) are no classes; put the slices into folders of their classes, or write "
            "a table with the columns path,label"
        )
    names = [name for name in names if not is_mask(name)]
    if len(names) > 1 and _are_many_alike(names, all(below[name] for name in names)):
        raise ValueError(
            f"the folders of {where} ({shown}) look like patients, studies or parts of a set, not like classes; put "
            "the slices into a folder per class, or write a table with the columns path,label,patient"
        )


def check_levels(where: Path, below: Mapping[str, Collection[str]]) -> None:
    """Raise ValueError where most folders below the would-be classes bear the same names in words.

    `below` are the folders' names in each class. COVID and Normal in each of hospital1 and hospital2, or in each of
    some patients, are the classes themselves.
    """
    spelled = {name.strip().casefold(): name for names in below.values() for name in names}
    counts = Counter(key for names in below.values() for key in {name.strip().casefold() for name in names})
    shared = [name for key, name in spelled.items() if counts[key] > 1 and _is_word(name)]
    if 2 * len(shared) < len(counts) or not (len(shared) > 1 or (shared and len(counts) == 1)):
        return
    tops = ", ".join(list(below)[:3]) + (", ..." if len(below) > 3 else "")
    raise ValueError(
        f"which folders of {where} are the classes? {tops} hold folders of the same names ({', '.join(shared[:3])}); "
        "where the lower ones are the classes, move them to the top (are the upper ones splits, name those train, val, "
        "test); where the upper ones are, say what the patients are, as by --patient-from '^[^/]+/[^/]+'"
    )


def check_no_parts(where: Path, below: Mapping[str, Collection[str]]) -> None:
    """Raise ValueError where the folders below the classes are parts of a set, as fold1 and hospital B in each of them,
    and would be taken for patients."""
    found = [name for names in below.values() for name in names if not is_mask(name)]
    names = sorted(set(found))
    are_parts = all(_PART.fullmatch(name) and not _SCAN_PART.fullmatch(name) for name in names)
    if 1 < len(names) < len(found) and are_parts:
        raise ValueError(
            f"the folders below the classes of {where} ({', '.join(names[:3])}) look like parts of a set, not like "
            "patients; take that level away, or say what the patients are, as by --patient-from '^[^/]+/[^/]+/[^/]+'"
        )


def check_whole(where: Path, classes: Collection[str]) -> None:
    """Raise ValueError where classes are one but for words that stand for splits or parts: COVID_train, COVID_test."""
    found: dict[tuple[str, ...], tuple[str, tuple[str, ...]]] = {}
    for name in classes:
        rest, added = _part_words(name)
        other, others = found.setdefault(rest, (name, added))
        if others != added:
            raise ValueError(
                f"the classes {other} and {name} of {where} differ only in words for splits, parts or copies; put the "
                "slices of one class into one folder, and splits into folders train, val and test above the classes"
            )


def count_up(names: Collection[str]) -> bool:
    """Are they numbers in one frame that count from 0 or 1 with few gaps: Patient (1), Patient (2)?"""
    matches = [_NUMBERED.fullmatch(name) for name in names]
    if not all(matches):
        return False
    found = [match for match in matches if match]
    numbers = {int(match[2]) for match in found}
    return (
        len({(match[1], match[3]) for match in found}) == 1 and min(numbers) <= 1 and max(numbers) <= 2 * len(numbers)
    )


def _part_words(name: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The words of a name, and those of splits and parts in it, with the number of a part."""
    download = _DOWNLOAD.search(name)
    rest: list[str] = []
    added = [download[0]] if download else []
    after_part = False
    for word in split_words(name[: download.start()] if download else name):
        key = word.casefold()
        is_part = key in _PART_WORDS
        if is_part or is_split_name(key) or (after_part and (key.isdigit() or len(key) == 1)):
            added.append(key)
        else:
            rest.append(key)
        after_part = is_part
    return tuple(rest), tuple(added)


def _are_many_alike(names: Sequence[str], all_hold_folders: bool) -> bool:
    if all(_UID.fullmatch(name) for name in names) or all(_HASH.fullmatch(name) for name in names):
        return True
    numbers = {re.sub(r"\D", "", name) for name in names}
    if all(_PERSON.fullmatch(name) for name in names) and numbers != {"0", "1"}:
        return True
    if all(_PART.fullmatch(name) for name in names):
        return True
    frames = {re.sub(r"(?<![^\W\d_])[^\W\d_]?\d+", "#", name) for name in names}  # of Z001 as of 4244
    padded = all_hold_folders and all(re.search(r"\d{3,}", name) for name in names)
    return len(frames) == 1 and (len(names) > MAX_NUMBERED_CLASSES or padded)


def _is_word(name: str) -> bool:
    return not re.search(r"\d", name) and not is_split_name(name) and not is_container(name) and not is_mask(name)


def _key(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.casefold())
