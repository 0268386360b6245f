"""Labels and patients of tables: one form where they mean the same, refused where they say nothing or too much."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.trainable.images.sets import listed
from tests.trainable.images.tables import LABELS, NAMES, plain, read_text, write


@pytest.mark.parametrize(
    ("forms", "name"),
    [
        (["1", "1.0", "01"], "1"),
        (["x y", "x\u00a0y", " x  y "], "x y"),
        (["caf\u00e9", "cafe\u0301", "caf\u00e9\u200b"], "caf\u00e9"),
        (["non-covid", "non\u2013covid", "non\u2010covid"], "non-covid"),
        (["1", "\uff11", "1."], "1"),
    ],
)
def test_labels_that_differ_in_form_only_are_one_class(forms: list[str], name: str, tmp_path: Path) -> None:
    labels = [forms[n // 2] if n % 2 == 0 else "b" for n in range(6)]
    manifest = read_text(tmp_path, write(list(zip(NAMES, labels, strict=True))))
    assert manifest.classes == tuple(sorted([name, "b"]))


@pytest.mark.parametrize("other", ["COVID", "Co-vid", "co vid", "co_vid", "covid."])
def test_labels_that_differ_in_case_or_separators_are_refused(other: str, tmp_path: Path) -> None:
    labels = ["covid", other, "x"] * 2
    with pytest.raises(ValueError, match="differ in case only, or in spaces and dashes"):
        read_text(tmp_path, write(list(zip(NAMES, labels, strict=True))))


@pytest.mark.parametrize("text", ["nan", "NaN", "NA", "N/A", "null", "<NA>", "#N/A", "-", "?", "\u00a0"])
def test_a_stand_in_for_no_label_is_no_class(text: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"row 7 has (no label|the label .*stands for a missing value).*1 of 6 rows"):
        read_text(tmp_path, write(list(zip(NAMES, [*LABELS[:5], text], strict=True))))


@pytest.mark.parametrize("text", ["a|c", "a;c", "a, c", "a/c", "a + c", "c & a", "a and c", "['a', 'c']", "c|d", "a|a"])
def test_several_labels_in_one_field_are_refused(text: str, tmp_path: Path) -> None:
    rows = list(zip(NAMES, [*LABELS[:5], text], strict=True))
    with pytest.raises(ValueError, match=r"row 7 has several labels in one field .*keep one label a row"):
        read_text(tmp_path, write(rows, "path\tlabel", sep="\t"))


@pytest.mark.parametrize(
    "labels", [["1.5", "15", "2"], ["1-2", "12", "1_2"], ["HER2+", "HER2-", "HER2"], ["CT-1", "CT-11", "CT-10"]]
)
def test_labels_that_differ_in_more_than_form_are_classes_of_their_own(labels: list[str], tmp_path: Path) -> None:
    manifest = read_text(tmp_path, write(list(zip(NAMES, labels * 2, strict=True))))
    assert manifest.classes == tuple(sorted(labels))


def test_patients_that_differ_in_more_than_form_are_people_of_their_own(tmp_path: Path) -> None:
    patients = ["1-2", "12", "1.2", "P1", "P10", "P1-0"]
    manifest = read_text(tmp_path, write(plain(patients), "path,label,patient"))
    assert [item.patient for item in manifest.slices] == patients


@pytest.mark.parametrize("text", ["HER2+", "T-1", "lung and heart", "w/o finding"])
def test_a_sign_inside_a_label_makes_it_no_list(text: str, tmp_path: Path) -> None:
    assert text in read_text(tmp_path, write(list(zip(NAMES, [*LABELS[:5], text], strict=True)))).classes


@pytest.mark.parametrize(
    "forms",
    [
        ["7", "7.0", " 7"],
        ["007", "7", "7."],
        ["p7", "P7", "p7\u00a0"],
        ["p7", "P-07", "p 007"],
        ["Patient_1", "patient 1", "PATIENT-01"],
        ["caf\u00e9", "cafe\u0301", "CAF\u00c9"],
    ],
)
def test_patients_that_differ_in_form_only_are_one_person(forms: list[str], tmp_path: Path) -> None:
    manifest = read_text(tmp_path, write(plain([*forms, "x", "y", "z"]), "path,label,patient"))
    assert len({item.patient for item in manifest.slices}) == 4
    assert all(item.patient == manifest.slices[0].patient for item in manifest.slices[:3])


@pytest.mark.parametrize("text", ["", "nan", "None", "NULL", "N/A", " "])
def test_a_stand_in_for_no_patient_is_nobody(text: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"2 of 6 rows of .* have no patient"):
        read_text(tmp_path, write(plain(["p0", "p1", "p2", "p3", text, text]), "path,label,patient"))


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_a_series_or_a_volume_is_one_patients_where_no_column_says(ending: str, tmp_path: Path) -> None:
    series = [(f"s{n}", label) for n, label in enumerate(LABELS)]
    files = [f"s{n}/{k}.dcm" for n in range(6) for k in range(2)]
    assert len({item.patient for item in read_text(tmp_path / "s", write(series), *files).slices}) == 6
    volumes = [(f"v/{n}{ending}", label) for n, label in enumerate(LABELS)]
    found = read_text(tmp_path / "v", write(volumes), *(name for name, _ in volumes))
    assert len({item.patient for item in found.slices}) == 6


def test_a_table_of_patients_stands_for_their_folders(tmp_path: Path) -> None:
    files = [f"dicom/R01-{n}/study/series/{k}.dcm" for n in range(6) for k in range(2)]
    rows = [(f"R01-{n}", label) for n, label in enumerate(LABELS)]
    manifest = read_text(tmp_path, write(rows, "PatientID,diagnosis"), *files, name="clinical.csv", folder=True)
    assert listed(manifest) == {name: (LABELS[int(name[10])], name.split("/")[1], None) for name in files}
