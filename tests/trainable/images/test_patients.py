"""Patients by DICOM headers, folders and columns: joined where they agree, told where they do not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from tests.trainable.images.sets import fill, read
from trainable.images.dicom_ids import DicomIds, read_dicom_ids
from trainable.images.patients import Patients, find_patients


def write_header(path: Path, values: Mapping[str, Any], *, preamble: bool = True) -> Path:
    """A DICOM file without pixels."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = CTImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = generate_uid()
    for name, value in values.items():
        setattr(dataset, name, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    if not preamble:
        path.write_bytes(path.read_bytes()[132:])
    return path


def find(root: Path, headers: dict[str, dict[str, str]], **options: Any) -> tuple[dict[str, str | None], Patients]:
    """The patient of each file, by its name below `root`, and all that was found."""
    for name, values in headers.items():
        write_header(root / name, values)
    manifest = read(root, **options)
    found = find_patients(manifest, manifest.slices, read_dicom_ids([s.path for s in manifest.slices], 2))
    ids = found.ids if found.ids is not None else [None] * len(manifest.slices)
    return {item.name: patient for item, patient in zip(manifest.slices, ids, strict=True)}, found


def groups(ids: dict[str, str | None]) -> set[frozenset[str]]:
    """Which files lie together, whatever their patient is called."""
    return {frozenset(name for name, other in ids.items() if other == patient) for patient in ids.values()}


# -- headers


def test_ids_are_read_with_and_without_preamble_and_whatever_the_name(tmp_path: Path) -> None:
    values = {"PatientID": " P^7 ", "StudyInstanceUID": "1.2.3", "SeriesInstanceUID": "1.2.4"}
    ids = DicomIds(patient="P^7", study="1.2.3", series="1.2.4")
    paths = [write_header(tmp_path / name, values) for name in ("IM0001", "a.png")]
    paths += [write_header(tmp_path / "b.dcm", values, preamble=False), write_header(tmp_path / "c.dcm", {})]
    assert list(read_dicom_ids(paths, 2).values()) == [ids] * 3 + [DicomIds(patient="", study="", series="")]


@pytest.mark.parametrize("content", [b"", b"x" * 500, b"\x08\x00" + b"\xff" * 300, bytes(128) + b"DICM" + b"\x02" * 50])
def test_what_is_no_dicom_or_a_damaged_one_has_no_ids_and_ends_nothing(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(content)
    found = read_dicom_ids([tmp_path / "x", tmp_path / "gone", tmp_path])
    assert not any(ids.patient or ids.study or ids.series for ids in found.values())


# -- headers and folders


def test_one_patient_id_in_several_folders_is_one_person_and_it_warns(tmp_path: Path) -> None:
    headers = {
        f"{label}/{label}-study{2 * person + study}/1.dcm": {"PatientID": f"{label}-{person}"}
        for label in ("a", "b")
        for person in range(6)
        for study in range(2)
    }
    ids, found = find(tmp_path / "x", headers)
    assert len(groups(ids)) == 12 and all(ids[name] == headers[name]["PatientID"] for name in headers)
    (warning,) = found.warnings
    assert "24 patients by name and 12 by DICOM PatientID disagree" in warning and "--patient-from" in warning


def test_folders_and_patient_ids_that_agree_warn_of_nothing(tmp_path: Path) -> None:
    headers = {
        f"{label}/{label}{n}/{k}.dcm": {"PatientID": f"{label}-{n}"} for label in "ab" for n in (1, 2) for k in "xy"
    }
    ids, found = find(tmp_path / "x", headers)
    assert len(groups(ids)) == 4 and found.warnings == () and found.source == "DICOM PatientID"


def test_patient_ids_that_differ_in_form_only_are_one_person(tmp_path: Path) -> None:
    forms = ["007", "7", "p1", "P1"]
    headers = {f"a/{n}.dcm": {"PatientID": form} for n, form in enumerate(forms)} | {"b/9.dcm": {"PatientID": "9"}}
    ids, found = find(tmp_path / "x", headers)
    assert len(groups(ids)) == 3 and "2 DICOM PatientIDs are written in several forms" in found.warnings[0]


@pytest.mark.parametrize("patient", ["ANONYMOUS", "anon", "Anonymized", "000000", "case-1", "NoID", "XXXX", "unknown"])
def test_an_id_that_all_files_share_is_told_and_folders_stand_in(patient: str, tmp_path: Path) -> None:
    headers = {f"{label}/{label}{n}/1.dcm": {"PatientID": patient} for label in "ab" for n in range(3)}
    ids, found = find(tmp_path / "x", headers)
    assert ids == {name: name.split("/")[1] for name in headers}
    (warning,) = found.warnings
    assert "PatientID in the DICOM headers is the same in all files" in warning and patient not in warning


def test_an_id_that_all_files_of_a_class_share_is_not_used(tmp_path: Path) -> None:
    headers = {f"{label}/{label}{n}/1.dcm": {"PatientID": f"anon {label}"} for label in "ab" for n in range(3)}
    ids, found = find(tmp_path / "x", headers)
    assert len(groups(ids)) == 6 and "the same in all files of a class" in found.warnings[0]


@pytest.mark.parametrize(("study", "series", "count"), [(True, True, 6), (False, True, 12), (False, False, None)])
def test_studies_else_series_stand_in_where_nobody_is_known(
    study: bool, series: bool, count: int | None, tmp_path: Path
) -> None:
    headers = {
        f"{label}/{n}-{k}": {"PatientID": "ANONYMOUS"}
        | ({"StudyInstanceUID": f"1.2.1{label == 'a':d}{n}"} if study else {})
        | ({"SeriesInstanceUID": f"1.3.1{label == 'a':d}{n}.{k}"} if series else {})
        for label in "ab"
        for n in range(3)
        for k in range(2)
    }
    ids, found = find(tmp_path / "x", headers)
    assert (found.ids is None) if count is None else len(groups(ids)) == count
    assert ("stand in" in found.warnings[-1]) is (count is not None)


def test_an_id_that_differs_in_every_file_is_not_used(tmp_path: Path) -> None:
    names = [f"{label}/{label}{n}/{k}.dcm" for label in "ab" for n in range(3) for k in range(2)]
    ids, found = find(tmp_path / "x", {name: {"PatientID": f"hash{number}"} for number, name in enumerate(names)})
    assert len(groups(ids)) == 6 and "differs in all 12 files" in found.warnings[0]


def test_files_of_one_study_are_one_patients_whatever_their_ids_say(tmp_path: Path) -> None:
    headers = {
        f"{label}/{n}{k}.dcm": {
            "PatientID": f"{label}{n}{k if n else ''}",
            "StudyInstanceUID": f"1.2.{label == 'a':d}.{n}",
        }
        for label in "ab"
        for n in range(3)
        for k in "xy"
    }
    ids, found = find(tmp_path / "x", headers)
    assert len(groups(ids)) == 6 and "files of one DICOM study have several PatientIDs" in found.warnings[0]


def test_a_placeholder_in_some_files_gives_way_to_their_folders(tmp_path: Path) -> None:
    headers = {f"{label}/{label}{n}/1.dcm": {"PatientID": f"{label}-{n}"} for label in "ab" for n in range(3)}
    headers["a/a7/1.dcm"] = headers["a/a8/1.dcm"] = {"PatientID": "ANONYMOUS"}
    ids, found = find(tmp_path / "x", headers)
    assert len(groups(ids)) == 8 and "2 of 8 DICOM files have a PatientID that stands for nobody" in found.warnings[0]


def test_an_ordinary_image_beside_dicom_files_is_of_their_patient(tmp_path: Path) -> None:
    fill(tmp_path / "x", "a/1/thumb.png", "b/9/only.png")
    headers = {"a/1/1.dcm": {"PatientID": "p"}, "a/2/1.dcm": {"PatientID": "q"}, "b/3/1.dcm": {"PatientID": "r"}}
    ids, _ = find(tmp_path / "x", headers)
    assert ids["a/1/thumb.png"] == "p" and len(groups(ids)) == 4


def test_class_folders_that_bear_patient_ids_are_refused(tmp_path: Path) -> None:
    headers = {f"MRI-{name}/{k}.dcm": {"PatientID": f"MRI-{name}"} for name in "uvw" for k in range(2)}
    with pytest.raises(ValueError, match=r"class folders \(MRI-u, MRI-v, MRI-w\) bear the PatientIDs"):
        find(tmp_path / "x", headers)


# -- headers, columns and patterns


def test_a_column_and_patient_ids_are_joined_and_it_warns(tmp_path: Path) -> None:
    fill(tmp_path / "x")
    columns = ["s1", "s2", "s3", "s3", "s4", "s5"]
    patient_ids = ["p1", "p1", "p2", "p3", "p4", "p5"]
    lines = [f"{n}.dcm,{'ab'[n % 2]},{name}" for n, name in enumerate(columns)]
    (tmp_path / "x" / "manifest.csv").write_text("\n".join(["path,label,patient", *lines]))
    ids, found = find(tmp_path / "x", {f"{n}.dcm": {"PatientID": patient} for n, patient in enumerate(patient_ids)})
    assert groups(ids) == {
        frozenset({"0.dcm", "1.dcm"}),
        frozenset({"2.dcm", "3.dcm"}),
        frozenset({"4.dcm"}),
        frozenset({"5.dcm"}),
    }
    assert "1 PatientIDs lie under several names, 1 names hold several PatientIDs" in found.warnings[0]


def test_a_pattern_of_the_users_wins_and_it_warns_where_headers_disagree(tmp_path: Path) -> None:
    headers = {f"{label}/{label}{n}/1.dcm": {"PatientID": f"{label}-{n // 2}"} for label in "ab" for n in range(4)}
    ids, found = find(tmp_path / "x", headers, patient_from="[^/]+/([^/]+)")
    assert len(groups(ids)) == 8 and "--patient-from was followed" in found.warnings[0]


def test_no_patient_is_named_in_what_is_shown(tmp_path: Path) -> None:
    headers = {f"{label}/st{label}{n}/1.dcm": {"PatientID": f"Doe^{label}{n // 2}"} for label in "ab" for n in range(4)}
    _, found = find(tmp_path / "x", headers)
    manifest = read(tmp_path / "x")
    assert not any("Doe" in line for line in manifest.read_as(found).lines())


def test_patients_that_differ_in_a_side_only_are_warned_of(tmp_path: Path) -> None:
    names = ["glaucoma/1_left/0.png", "glaucoma/1_right/0.png", "normal/2 OD/0.png", "normal/3 OD/0.png"]
    _, found = find(fill(tmp_path / "x", *names), {})
    (warning,) = found.warnings
    assert "1 patients differ from another only in a word for a side" in warning and "1_left" not in warning
    assert found.ids is not None and len(set(found.ids)) == 4
    _, told = find(tmp_path / "x", {}, patient_from=r"/(\d+)")
    assert told.warnings == () and told.ids == ("1", "1", "2", "3")
    _, others = find(fill(tmp_path / "y", "a/Lee/0.png", "a/Bright/0.png", "b/Ler/0.png", "b/P1/0.png"), {})
    assert others.warnings == ()
