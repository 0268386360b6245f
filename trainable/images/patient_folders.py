"""Which folder is a patient's, by the names of those above a file: patient1/study1/series1 is patient1's."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from trainable.images.level_words import is_container

_PERSON_WORDS = "patient|pat|case|subject|subj|sub|person|participant|pid|mrn|p"
_PERSON = re.compile(rf"(.*[\W_])?({_PERSON_WORDS})[\W_]*\d+\W*", re.IGNORECASE)
_ALONE = re.compile("patient|case|subject|person|participant", re.IGNORECASE)
_UID = re.compile(r"\d+(\.\d+){4,}")
_STUDY = re.compile(
    r"(.*[\W_])?(study|exam|examination|session|ses|visit|timepoint|tp|st)[\W_]*(\d+|[a-z])\W*"
    r"|\d{4}-?\d\d-?\d\d|\d\d-\d\d-\d{4}(-.*)?",  # a date, as TCIA has it before the words on a study
    re.IGNORECASE,
)
_SERIES = re.compile(
    r"(.*[\W_])?(series|serie|ser|se|scan|part|acquisition|acq|recon|stack|dis[ck])[\W_]*(\d+|[a-z])\W*", re.IGNORECASE
)
_TCIA_SERIES = re.compile(r"\d+(\.0+)?-.*")
_COHORT = re.compile(
    r"(site|hospital|cent(er|re)|clinic|ward|cohort|fold|batch|set|dataset|group|class|grade|year|month|(?<!\d)(19|20)\d\d(?!\d))",
    re.IGNORECASE,
)
_LONG_NUMBER = re.compile(r"(?<!\d)\d{3,}(?!\d)")


def find_patient_folder(folder: Path, root: Path) -> Path:
    """The folder of the patient whose files lie in `folder`, somewhere below the given `root`; where no name says
    which that is, `folder` itself or the study that it is a series of, but never a folder of several people.

    The lowest folder named like a person counts (patient1, sub-01), else one with a number in its name of which the
    folder below is a study's (LIDC-IDRI-0001, by a UID or a date). Above a `root` that is itself named like a part of
    a patient's, the folders that hold it are looked at as well.
    """
    line = list(_list_up(folder, root))
    for place in line:
        if is_named_for_person(place):
            return place
    for lower, upper in pairwise(line):
        name = _name(upper)
        if _is_study(_name(lower)) and _LONG_NUMBER.search(name) and not (_is_study(name) or _COHORT.search(name)):
            return upper
    place = line[0]
    for upper in line[1:]:
        if not _is_series_of(_name(place), _name(upper)):
            break
        place = upper
    return place


def _list_up(folder: Path, root: Path) -> Iterator[Path]:
    """The folders from `folder` up to `root`, or that one alone where it lies elsewhere, as the rest of a series given
    apart; and on above those that are named like a part of a patient's."""
    place, is_above = folder, not folder.is_relative_to(root)
    while True:
        yield place
        is_above = is_above or place == root
        if is_above and not _is_part(_name(place)):
            return
        upper = place.parent if place.name not in ("", "..") else place.absolute().parent
        if upper == place:
            return
        place = upper


def _name(folder: Path) -> str:
    return folder.absolute().name


def is_named_for_person(folder: Path) -> bool:
    """Is it named as one person's, as patient1; also `patient` where it is no class, beside `control`?"""
    name = _name(folder)
    return _PERSON.fullmatch(name) is not None or (_ALONE.fullmatch(name) is not None and not _has_siblings(folder))


def _has_siblings(folder: Path) -> bool:
    beside = folder.absolute().parent.iterdir()
    return sum(path.is_dir() and not path.name.startswith(".") for path in beside) > 1


def _is_study(name: str) -> bool:
    return _STUDY.fullmatch(name) is not None or _UID.fullmatch(name) is not None


def _is_series(name: str) -> bool:
    return any(known.fullmatch(name) for known in (_SERIES, _UID, _TCIA_SERIES)) or is_container(name)


def _is_part(name: str) -> bool:
    return _is_study(name) or _is_series(name)


def _is_series_of(lower: str, upper: str) -> bool:
    return _is_series(lower) and _is_study(upper)
