"""Sets that went wrong for their users, written by shared/cases/make_cases.py: what its table says must hold."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests import needs
from tests.conftest import ROOT
from trainable.images.audit_data import audit_data
from trainable.images.explain_data import explain_data
from trainable.images.prepare import PreparedData, prepare_data
from trainable.images.splits import read_splits

CASES = ROOT.parent / "shared" / "cases"


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What a case must be read as: slices by class, patients, slices of given splits, and what must be said."""

    counts: dict[str, int]
    patients: int | None = None
    splits: dict[str, int] = field(default_factory=dict)
    says: tuple[str, ...] = ()


HALVES = {"COVID": 6, "Normal": 6}

TAKEN = {
    "split_folders_train_val_test": Taken(
        counts={"COVID": 18, "NonCOVID": 18},
        splits={"train": 12, "val": 12, "test": 12},
        says=("layout +SPLIT/CLASS/slice", "splits +test is test, train is train, val is val"),
    ),
    "split_folders_Train_Valid_with_capital_and_data_suffix": Taken(
        counts={"COVID": 10, "NonCOVID": 10}, splits={"test": 10}, says=("Train Data is train",)
    ),
    "split_folders_training_set_three_classes": Taken(
        counts={"COVID": 10, "Normal": 10, "Pneumonia": 10}, splits={"test": 15}, says=("test_set is test",)
    ),
    "class_then_split": Taken(
        counts={"COVID": 12, "NonCOVID": 12},
        splits={"train": 8, "val": 8, "test": 8},
        says=("layout +CLASS/SPLIT/slice",),
    ),
    "one_top_folder_in_a_folder": Taken(
        counts={"COVID": 6, "NonCOVID": 6}, says=("the folder archive inside holds all the rest",)
    ),
    "two_zips_in_a_folder_covid_ct": Taken(counts={"CT_COVID": 6, "CT_NonCOVID": 6}),
    "images_folder_and_labels_csv": Taken(counts=HALVES, says=(r"the table .*labels\.csv", "filename is the path")),
    "manifest_csv_beside_class_folders_lists_half": Taken(
        counts={"COVID": 6, "NonCOVID": 6}, says=(r"the table .*manifest\.csv", "12 of 24 files .* are left out")
    ),
    "same_patient_names_in_each_class": Taken(
        counts={"Covid": 12, "Healthy": 12, "Others": 12}, patients=18, says=("warning .*18 in all.*--patient-from",)
    ),
    "folder_per_study_same_PatientID_in_dicom": Taken(
        counts={"COVID": 12, "Normal": 12},
        patients=12,
        says=("patients +12, from DICOM PatientID", "warning .*24 patients by name and 12 by DICOM PatientID disagree"),
    ),
    "dicom_all_PatientID_anonymous": Taken(
        counts=HALVES, says=("PatientID in the DICOM headers is the same in all files",)
    ),
    "deep_tcia_tree": Taken(
        counts={"COVID": 4, "Normal": 4},
        patients=8,
        says=(r"layout +CLASS/PATIENT/\.\.\./slice", "8, from the folders"),
    ),
    "all_black_slices": Taken(counts={"COVID": 8, "NonCOVID": 8}),  # 4 are blank: see below
    "mac_icon_file": Taken(counts={"COVID": 6, "NonCOVID": 6}),
    "csv_semicolon": Taken(counts=HALVES, says=("semicolon-separated",)),
    "csv_windows_backslashes": Taken(counts=HALVES, says=("backslashes in its paths separate folders",)),
    "csv_patient_id_column": Taken(counts=HALVES, patients=12, says=("patient_id is the patient",)),
    "csv_set_column": Taken(
        counts={"COVID": 12, "Normal": 12}, splits={"train": 12, "val": 6, "test": 6}, says=("set is the split",)
    ),
    "csv_field_too_long": Taken(counts=HALVES, says=("columns not read: report",)),
    "csv_float_and_int_labels_mixed": Taken(counts={"0": 6, "1": 6}, says=(r"the labels 0, 0\.0 are one class, 0",)),
    "csv_label_nbsp": Taken(counts={"Normal": 6, "viral pneumonia": 6}),
    "csv_patient_float_text_mixed": Taken(
        counts={"COVID": 20, "Normal": 20}, patients=10, says=("10 patients are written in several forms",)
    ),
    "csv_path_nfc_disk_nfd": Taken(counts={"A": 6, "B": 6}),
}

REFUSED = {
    "xlsx_as_data": r"labels\.xlsx is a spreadsheet.*save it as CSV",
    "csv_label_twice": r"the columns label and Label, each of which may be the label",
    "csv_label_nan_text": r"row 11 has the label 'nan'.*stands for a missing value.*3 of 12 rows",
    "csv_multilabel_pipe": r"row 3 has several labels in one field \(COVID\|Effusion;.*keep one label a row",
    "csv_unclosed_quote_in_patient": r"m\.csv, row 17 has a quote that opens a field and does not close it",
}

# Read as what they are, before any image is decoded: what else must hold of these is tested where that is done.
READ_ONLY = {
    "nifti_volumes": Taken(  # its files are cut behind the header: what becomes of whole ones is in test_channels.py
        counts={"CT-0": 4, "CT-1": 4}, patients=8, says=("layout +CLASS/volume",)
    ),
}


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    needs.shared(CASES)
    folder = tmp_path_factory.mktemp("cases")
    subprocess.run([sys.executable, CASES / "make_cases.py", folder], check=True, capture_output=True)
    return folder


def find_data(cases: Path, name: str) -> Path:
    return Path((cases / f"{name}.data.txt").read_text().removesuffix("\n"))


def prepare(data: Path, home: Path) -> PreparedData:
    return prepare_data(data, cache_dir=home / "cache", splits_file=home / "splits.csv", image_size=32, seed=0)


def check_said(taken: Taken, lines: list[str]) -> None:
    assert lines[0] == "Read as:" and all(line.isprintable() for line in lines)
    for said in taken.says:
        assert any(re.search(said, line) for line in lines), (said, lines)


def test_every_set_of_the_table_is_tested(cases: Path) -> None:
    _, _, rest = (CASES / "README.md").read_text().partition("\n## Sets")
    table, _, _ = rest.partition("\n## ")
    first_cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("|")][2:]
    named = {name.strip() for cell in first_cells for name in cell.split(",")}
    written = {path.name.removesuffix(".data.txt") for path in cases.glob("*.data.txt")}
    tested = TAKEN.keys() | REFUSED.keys() | READ_ONLY.keys()
    assert named == written == tested


@pytest.mark.parametrize("name", TAKEN)
def test_it_is_taken_for_what_it_is_and_that_is_said(name: str, cases: Path, tmp_path: Path) -> None:
    taken = TAKEN[name]
    data = find_data(cases, name)
    prepared = prepare(data, tmp_path)
    rows = read_splits(tmp_path / "splits.csv")
    assert Counter(row.label for row in rows) == taken.counts
    assert prepared.audit.num_patients == taken.patients
    counts = Counter(row.split for row in rows)
    assert {split: counts[split] for split in taken.splits} == taken.splits
    assert len({(row.group, row.split) for row in rows}) == len({row.group for row in rows})
    check_said(taken, prepared.reading.lines())
    explained = explain_data(data, unpack_into=tmp_path / "unpacked")
    assert explained[: explained.index("First slices:")] == prepared.reading.lines()


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_in_one_line(name: str, cases: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=REFUSED[name]) as caught:
        prepare(find_data(cases, name), tmp_path)
    assert str(caught.value).isprintable()


def test_blank_slices_are_counted_and_named_and_a_class_of_nothing_else_is_an_error(
    cases: Path, tmp_path: Path
) -> None:
    data = find_data(cases, "all_black_slices")
    said = "4 of 16 slices are blank: one grey level and nothing else (COVID/blank0.png, "
    assert sum(said in line for line in prepare(data, tmp_path).audit.lines()) == 1
    assert sum(said in line for line in audit_data(data, cache_dir=tmp_path).lines()) == 1
    for path in (data / "COVID").glob("COV*.png"):
        path.unlink()
    with pytest.raises(ValueError, match=r"every slice of class COVID is blank .*remove the class"):
        prepare(data, tmp_path / "again")


def test_volumes_that_are_cut_are_refused_in_one_line(cases: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"study_0000\.nii\.gz: its header is not .*8 of 8 volumes cannot be used"):
        prepare(find_data(cases, "nifti_volumes"), tmp_path)


@pytest.mark.parametrize("name", READ_ONLY)
def test_it_is_read_for_what_it_is(name: str, cases: Path, tmp_path: Path) -> None:
    lines = explain_data(find_data(cases, name), unpack_into=tmp_path)
    shown = ", ".join(f"{label} {count}" for label, count in READ_ONLY[name].counts.items())
    assert f"  classes   {shown}" in lines
    assert any(line.startswith(f"  patients  {READ_ONLY[name].patients or 'unknown'}") for line in lines)
    check_said(READ_ONLY[name], lines)
