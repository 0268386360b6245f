"""Columns of a table: which header stands for the path, the label, the patient and the split."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from trainable.images.names import is_missing, map_splits

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
_ABOUT_IDS = (
    "(?:id|ids|uid|uuid|no|nr|num|number|nummer|numero|code|key|hash|hashed|anon|anonymous|anonymi[sz]ed|pseudo|"
    "pseudonym|pseudonymi[sz]ed|deidentified|study|\u53f7|\u7f16\u53f7|\u5e8f\u53f7)*"
)
_PERSON = (
    "patient|patients(?=ids?$)|patienten|patientin|paciente|paziente|subject|participant|person|"
    "\u60a3\u8005|\u75c5\u4eba"
)
_IDS_OF_PEOPLE = re.compile(f"n?{_ABOUT_IDS}(?:{_PERSON}){_ABOUT_IDS}")  # patient_uid, Patienten-Nr, PatientID (anon)
MAX_SPLIT_WORDS = 12
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
    keys = [(name, _key(name)) for name in header]
    for words in ({role}, NEAR[role]):
        if found := [name for name, key in keys if key in words]:
            return found
    if role == "patient" and (found := [name for name, key in keys if _IDS_OF_PEOPLE.fullmatch(key)]):
        return found
    return [name for name, key in keys if key in _VAGUE[role]]


def find_split_values(path: Path, cells: Mapping[str, Iterable[str]]) -> str | None:
    """The header under which only words for splits stand, train and another; `cells` are those of columns that are not
    read. Raises ValueError where there are several."""
    found = []
    for name, texts in cells.items():
        values = set(texts)
        if len(values) > MAX_SPLIT_WORDS:
            continue
        values = {text for text in values if not is_missing(text, none_too=True)}
        splits = map_splits(values)
        if set(splits) == values and "train" in splits.values() and len(set(splits.values())) > 1:
            found.append(name)
    if len(found) > 1:
        raise ValueError(
            f"{path} has the columns {' and '.join(found)}, each of which holds words for splits; name the right one "
            "split, and take the others out"
        )
    return found[0] if found else None


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
