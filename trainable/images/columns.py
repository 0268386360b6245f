"""Columns of a table: which header stands for the path, the label, the patient and the split."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

Role = Literal["path", "label", "patient", "split"]

# Near names, without case and separators: `Patient ID` is patientid. The vague ones count where there is no other.
_NEAR_WORDS: Mapping[Role, str] = {
    "path": "paths image img picture imagepath imgpath filepath filename file files fname imagefile imagefilename "
    "imagefilepath imagename imageindex imageid imgid dicom dicompath dicomfile slicepath slicefile relativepath "
    "relpath fullpath volumepath volumefile scanpath filelocation",
    "label": "labels class classes classname classlabel labelname diagnosis diagnoses target category finding findings "
    "findinglabels dx disease groundtruth outcome pathology",
    "patient": "patients patientid patientno patientnumber patientname pid subject subjectid subjectno case caseid "
    "participant participantid person personid mrn",
    "split": "splits set subset fold partition splitname datasplit",
}
_VAGUE_WORDS: Mapping[Role, str] = {
    "path": "id idcode name slice scan volume series nifti",
    "label": "y type result severity grade",
    "patient": "sub subj",
    "split": "phase usage",
}
NEAR = {role: frozenset(words.split()) for role, words in _NEAR_WORDS.items()}
_VAGUE = {role: frozenset(words.split()) for role, words in _VAGUE_WORDS.items()}


def names_enough(header: Sequence[str], *, vaguely: bool = True) -> bool:
    keys = {_key(name) for name in header}
    words = {role: {role, *NEAR[role], *(_VAGUE[role] if vaguely else ())} for role in NEAR}
    has_path = keys & words["path"] or (vaguely and keys & words["patient"])
    return bool(has_path and keys & words["label"])


def _key(header: str) -> str:
    return re.sub(r"[\W_]+", "", header.casefold())


def find_candidates(header: Iterable[str], role: Role) -> list[str]:
    """The headers that may be meant: those of the very name, else those of a near one, else of a vague one."""
    header = list(header)
    tiers = ({role}, NEAR[role], _VAGUE[role])
    return next((found for words in tiers if (found := [name for name in header if _key(name) in words])), [])


def find_columns(path: Path, header: Sequence[str], needed: Sequence[Role] = ("path", "label")) -> Mapping[Role, str]:
    """Which header stands for what; where no column has paths, that of patients stands for their folders.

    Raises ValueError where two may stand for one thing, and where one that is `needed` is not there.
    """
    columns: dict[Role, str] = {}
    for role in NEAR:
        found = find_candidates(header, role)
        if len(found) > 1:
            raise ValueError(
                f"{path} has the columns {' and '.join(found)}, each of which may be the {role}; "
                f"name the right one {role} and the others otherwise"
            )
        if found:
            columns[role] = found[0]
    if "path" not in columns and "patient" in columns:
        columns["path"] = columns["patient"]  # a folder for each patient
    if not set(needed) <= set(columns):
        wanted = ",".join(needed) + ("[,patient][,split]" if "label" in needed else "")
        shown = ", ".join(name if len(name) <= 40 else f"{name[:37]}..." for name in header[:12])
        raise ValueError(f"{path} has the columns {shown}; it needs {wanted}, named in its first row")
    return columns
