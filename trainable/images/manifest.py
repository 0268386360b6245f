"""What images there are, whose, of which class and split: read from a folder, an archive or a manifest."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

from trainable.images.archive import is_archive, unpack
from trainable.images.medmnist import is_npz
from trainable.images.members import list_rows
from trainable.images.rows import LAYOUTS, MANIFEST_NAMES, Row, list_folder, read_folder, read_table

_NEGATIVE_WORDS = {
    *("normal", "normals", "healthy", "health", "negative", "neg", "control", "controls", "benign", "clear"),
    *("no", "not", "none", "without", "absent", "uninfected", "0"),
}


@dataclass(frozen=True, kw_only=True)
class Slice:
    """One image: absolute path, index into `Manifest.classes`, patient and split where they are known."""

    path: Path
    label: int
    patient: str | None = None
    split: str | None = None


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A set of slices. `name` is fit for an MLflow model; `classes` are sorted; `positive` is one's index.

    Patients are known for all slices or for none, and so are splits. `skipped` has one sentence for each row
    or class folder that was left out.
    """

    name: str
    slices: tuple[Slice, ...]
    classes: tuple[str, ...]
    positive: int
    positive_was_guessed: bool
    skipped: tuple[str, ...] = ()


def read_manifest(
    data: Path,
    *,
    unpack_into: Path,
    patient_from: str | None = None,
    positive: str | None = None,
    skip_bad_images: bool = False,
) -> Manifest:
    """Read a folder of classes, a zip or tar of one, a CSV or Parquet manifest, or a .npz of MedMNIST; no
    image is opened.

    A folder that holds a `manifest.csv` or `manifest.parquet` is read by it. Patients are what `patient_from`
    finds in each path below the data's folder (a regular expression: its first group, else the whole match),
    else the manifest's column or the folders' names. With `skip_bad_images`, rows without a label or their
    file and empty class folders are left out and told in `skipped`. Raises ValueError saying which file or
    row is at fault, and FileNotFoundError for `data` itself.
    """
    if not data.exists():
        raise FileNotFoundError(f"--data {data} does not exist; it takes a folder, a zip or tar, or a manifest")
    data = Path(os.path.abspath(data))  # noqa: PTH100 -- resolve() would follow the user's links
    source = data
    if not data.is_dir() and data.suffix.lower() not in (".csv", ".parquet", ".npz"):
        if not is_archive(data):
            raise ValueError(
                f"--data {data} is no folder, zip, tar, .csv or .parquet, and no .npz of MedMNIST; {LAYOUTS}"
            )
        source = _find_top(unpack(data, unpack_into))
    if source.is_dir():
        source = next((source / name for name in MANIFEST_NAMES if (source / name).is_file()), source)
    skipped: list[str] = []
    root, read = (source, read_folder) if source.is_dir() else (source.parent, read_table)
    rows = list_rows(source) if is_npz(source) else read(source, skipped=skipped if skip_bad_images else None)
    _check_unique(rows)
    if patient_from is not None:
        rows = _find_patients(rows, root, patient_from)
    classes = _find_classes(rows, data)
    numbers = {name: number for number, name in enumerate(classes)}
    return Manifest(
        name=_slug(data),
        slices=tuple(
            Slice(path=row.path, label=numbers[row.label], patient=row.patient, split=row.split) for row in rows
        ),
        classes=classes,
        positive=_choose_positive(classes, positive),
        positive_was_guessed=positive is None and len(classes) == 2,
        skipped=tuple(skipped),
    )


def _find_top(folder: Path) -> Path:
    """The one folder at an archive's top that holds all the rest, where there is one."""
    folders, files = list_folder(folder)
    is_top = files or len(folders) != 1 or any((folder / name).is_file() for name in MANIFEST_NAMES)
    return folder if is_top else folders[0]


def _check_unique(rows: list[Row]) -> None:
    for path, count in Counter(row.path for row in rows).most_common(1):
        if count > 1:
            raise ValueError(f"{path} is listed {count} times; list each slice once")


def _find_patients(rows: list[Row], root: Path, pattern: str) -> list[Row]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"--patient-from {pattern!r} is no regular expression: {error}") from error
    found, unmatched = [], []
    for row in rows:
        match = compiled.search(row.path.relative_to(root).as_posix())
        patient = match and match[min(compiled.groups, 1)]
        if patient:
            found.append(replace(row, patient=patient))
        else:
            unmatched.append(row.path)
    if unmatched:
        raise ValueError(
            f"--patient-from {pattern!r} finds no patient in {unmatched[0]}, {len(unmatched)} of {len(rows)} "
            f"slices in all; it must match every path below {root}"
        )
    return found


def _find_classes(rows: list[Row], data: Path) -> tuple[str, ...]:
    classes = tuple(sorted({row.label for row in rows}))
    if len(classes) < 2:
        raise ValueError(f"{data} has the classes [{', '.join(classes)}]; it needs two or more; {LAYOUTS}")
    alike = defaultdict(list)
    for name in classes:
        alike[name.casefold()].append(name)
    for names in alike.values():
        if len(names) > 1:
            raise ValueError(f"the classes {' and '.join(names)} differ in case only; give them one spelling")
    return classes


def _choose_positive(classes: tuple[str, ...], positive: str | None) -> int:
    if positive is not None:
        if positive.strip() not in classes:
            raise ValueError(f"--positive {positive!r} is no class; known are {', '.join(classes)}")
        return classes.index(positive.strip())
    if len(classes) > 2:
        return 0
    return 0 if _sounds_negative(classes[1]) and not _sounds_negative(classes[0]) else 1


def _sounds_negative(name: str) -> bool:
    """Does a word of it say so: `normal`, `CT_NonCOVID`, `no-finding`, `0`?"""
    words = [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+", name)]
    return any(word in _NEGATIVE_WORDS or word.startswith("non") for word in words)


def _slug(data: Path) -> str:
    name = data.name
    if data.is_file():
        name = data.parent.name if name.lower() in MANIFEST_NAMES else re.sub(r"(\.tar)?\.\w+$", "", name)
    plain = unicodedata.normalize("NFKD", name.casefold()).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:60].strip("-") or "data"
