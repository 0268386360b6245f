from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from pydicom import dcmread

from search.commands.inputs import Per, list_patients
from tests.trainable.images.phantoms import draw_chest, save_nifti
from tests.trainable.images.series_files import save_series
from trainable.images.patient_folders import find_patient_folder


def find(root: Path) -> tuple[dict[str, int], tuple[str, ...]]:
    """How many scans each patient has, by the name below `root`, and the lines."""
    found = list_patients([root])
    return {str(name.relative_to(root)): len(scans) for name, scans in found.patients}, found.lines


def draw(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (32, 32), 90).save(path)


def test_images_are_whose_the_folder_is_and_folders_above_join_nobody(tmp_path: Path) -> None:
    for name in ("covid/ann/0.png", "covid/ann/1.png", "covid/bob/0.png", "eve/0.png", "loose.png"):
        draw(tmp_path / name)
    patients, lines = find(tmp_path)
    assert patients == {".": 1, "covid/ann": 2, "covid/bob": 1, "eve": 1}
    assert lines == ("4, by folders (4)",)


def test_a_volume_directly_in_the_given_folder_is_a_patient_of_its_own(tmp_path: Path) -> None:
    for name in ("a.nii.gz", "b.nii.gz", "ann/1.nii.gz", "ann/2.nii.gz"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        save_nifti(tmp_path / name, draw_chest())
    assert find(tmp_path)[0] == {"a.nii.gz": 1, "b.nii.gz": 1, "ann": 2}


def test_a_header_joins_what_lies_in_several_folders_and_parts_what_lies_in_one(tmp_path: Path) -> None:
    values = draw_chest()
    save_series(tmp_path / "a" / "1", values, patient="7", uid="1.1")
    save_series(tmp_path / "b", values, patient="7", uid="1.2")
    save_series(tmp_path / "c", values, patient="8", uid="1.3")
    for number, path in enumerate(save_series(tmp_path / "aside", values, patient="9", uid="1.4")):
        path.rename(tmp_path / "c" / f"other-{number}")
    patients, lines = find(tmp_path)
    assert patients == {"a/1": 2, "c#1": 1, "c#2": 1}
    assert lines[0] == "3, by DICOM PatientID (3)"
    assert lines[1] == "1 PatientIDs are in several folders each: these are taken as one patient's"
    assert not any("7" in name for name in patients), "ids of people are not shown"


def test_an_id_that_stands_for_nobody_is_none(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_series(tmp_path / name, draw_chest(), patient="ANONYMOUS", uid=f"1.{ord(name)}")
    assert find(tmp_path) == ({"a": 1, "b": 1}, ("2, by folders (2)",))


@pytest.mark.parametrize(
    ("name", "patient"),
    [
        ("patient1/study1/series1", "patient1"),
        ("covid/P17/2020-01-31/axial", "covid/P17"),
        ("patient/study2/series1", "patient"),
        ("sub-01/ses-02", "sub-01"),
        ("LIDC-IDRI-0001/01-01-2000-NA-30178/3000566-192", "LIDC-IDRI-0001"),
        ("LIDC-IDRI-0001/1.3.6.1.4.1.1/1.3.6.1.4.1.2", "LIDC-IDRI-0001"),
        ("covid/1.3.6.1.4.1.1/1.3.6.1.4.1.2", "covid/1.3.6.1.4.1.1"),
        ("ann/study1/series1", "ann/study1"),
        ("CT-0/study_0001", "CT-0/study_0001"),
        ("2020/study1", "2020/study1"),
        ("hospital001/study1", "hospital001/study1"),
        ("cohort-2020/study1/series2", "cohort-2020/study1"),
        ("covid/ann", "covid/ann"),
        ("patients1/ann", "patients1/ann"),
    ],
)
def test_folders_below_a_patients_are_theirs_and_none_of_several_people_is(
    name: str, patient: str, tmp_path: Path
) -> None:
    (tmp_path / name).mkdir(parents=True)
    assert find_patient_folder(tmp_path / name, tmp_path) == tmp_path / patient


def test_folders_above_what_is_given_say_nothing_unless_that_is_a_part_of_a_patients(tmp_path: Path) -> None:
    given, elsewhere = tmp_path / "P1" / "exports", tmp_path / "P1" / "more" / "left"
    for folder in (given / "ann", elsewhere, tmp_path / "P1" / "study1" / "left"):
        folder.mkdir(parents=True)
    assert find_patient_folder(given / "ann", given) == given / "ann"
    assert find_patient_folder(elsewhere, given) == elsewhere, "the rest of a series, of another given folder"
    study = tmp_path / "P1" / "study1"
    assert find_patient_folder(study / "left", study) == tmp_path / "P1"


def test_patient_is_no_persons_folder_beside_control(tmp_path: Path) -> None:
    for name in ("patient/ann", "control/bob"):
        (tmp_path / name).mkdir(parents=True)
    assert find_patient_folder(tmp_path / "patient" / "ann", tmp_path) == tmp_path / "patient" / "ann"


@pytest.mark.parametrize("given", [["."], ["P1"], ["P1/study1", "P1/study2"], ["P1/study2/0.png", "P1/study1"]])
def test_one_patients_studies_are_one_row_whichever_folders_are_given(
    given: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw(tmp_path / "P1" / "study1" / "a" / "0.png")
    draw(tmp_path / "P1" / "study2" / "0.png")
    for root in (tmp_path, Path()):
        monkeypatch.chdir(tmp_path)
        found = list_patients([root / name for name in given])
        assert [(name.absolute(), len(scans)) for name, scans in found.patients] == [(tmp_path / "P1", 2)]
        assert found.lines == (
            "1, by folders (1)",
            "1 patients by their folders' names or their series are in several folders each: these are taken as one "
            "patient's",
        )


@pytest.mark.parametrize("given", [["."], ["left", "right"]])
def test_a_series_in_two_folders_of_nobody_known_is_one_patients(
    given: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    paths = save_series(tmp_path / "left", draw_chest(), patient=None, uid="1.4")
    (tmp_path / "right").mkdir()
    for path in sorted(paths)[::2]:
        path.rename(tmp_path / "right" / path.name)
    draw(tmp_path / "right" / "scout.png")
    found = list_patients([Path(name) for name in given])
    inside = given == ["."]  # directly in a given folder, an image is no part of what lies there
    assert [len(scans) for _, scans in found.patients] == ([2] if inside else [1, 1])
    assert len(list_patients([tmp_path / "left", Path("right")]).patients) == 2, "absolute and relative paths"


def test_series_of_one_study_are_one_patients_unless_its_uid_is_everybodys(tmp_path: Path) -> None:
    values = draw_chest()
    for name, uid in (("a", "1.1"), ("b", "1.2")):
        save_series(tmp_path / "ward" / name, values, patient="ANONYMOUS", uid=uid, StudyInstanceUID="1.9")
    patients, lines = find(tmp_path)
    assert patients == {"ward/a": 2}
    assert lines[0] == "1, by DICOM studies (1)"
    for name, uid in (("a", "1.3"), ("b", "1.3"), ("c", "1.4")):
        save_series(tmp_path / "all" / name, values, patient="", uid=uid, StudyInstanceUID="1.8")
    assert find(tmp_path / "all")[0] == {"a": 1, "b": 1, "c": 1}


def test_a_study_does_not_join_folders_named_like_several_people(tmp_path: Path) -> None:
    for name in ("patient1", "patient2"):
        save_series(tmp_path / name, draw_chest(), patient="", uid=f"1.{name[-1]}", StudyInstanceUID="1.9")
    assert find(tmp_path)[0] == {"patient1": 1, "patient2": 1}


def test_a_series_whose_slices_each_have_an_id_of_their_own_is_whose_its_folder_is(tmp_path: Path) -> None:
    for name in ("a", "b"):
        paths = save_series(tmp_path / "P1" / name, draw_chest(), uid=f"1.{ord(name)}")
        for number, path in enumerate(paths):
            dataset = dcmread(path)
            dataset.PatientID = f"{name}{number}"
            dataset.save_as(path)
    assert find(tmp_path)[0] == {"P1": 2}


def test_an_id_that_is_the_same_in_the_folders_of_several_people_is_not_used(tmp_path: Path) -> None:
    for name in ("patient1", "patient2"):
        save_series(tmp_path / name, draw_chest(), patient="CT_ANON_SET", uid=f"1.{name[-1]}")
    patients, lines = find(tmp_path)
    assert patients == {"patient1": 1, "patient2": 1}
    assert lines[1].startswith("the PatientID in the DICOM headers is the same in the folders of several people")


def test_ids_of_one_form_are_one_and_a_file_without_one_is_whose_its_folder_is(tmp_path: Path) -> None:
    save_series(tmp_path / "a", draw_chest(), patient="7", uid="1.1")
    save_series(tmp_path / "b", draw_chest(), patient="007", uid="1.2")
    save_series(tmp_path / "c", draw_chest(), patient="8", uid="1.3")
    draw(tmp_path / "a" / "photo.png")
    assert find(tmp_path)[0] == {"a": 3, "c": 1}


def test_a_tables_patients_join_folders_and_join_with_the_headers(tmp_path: Path) -> None:
    for name in ("a/0.png", "b/0.png", "c/0.png"):
        draw(tmp_path / name)
    save_series(tmp_path / "d", draw_chest(), patient="99", uid="1.1")
    save_series(tmp_path / "e", draw_chest(), patient="99", uid="1.2")
    (tmp_path / "who.csv").write_text("file;Patient ID\na/0.png;7\nb/0.png;007\nd;7\n")
    patients, lines = find(tmp_path)
    assert patients == {"a": 4, "c": 1}
    assert lines[0] == "2, by the column Patient ID of who.csv (1) and folders (1)"


def test_tables_of_two_folders_name_each_their_own_people(tmp_path: Path) -> None:
    for name in ("north", "south"):
        draw(tmp_path / name / "a" / "0.png")
        draw(tmp_path / name / "b" / "0.png")
        (tmp_path / name / "who.csv").write_text("file,patient\na/0.png,1\nb/0.png,1\n")
    found = list_patients([tmp_path / "north", tmp_path / "south"])
    assert [len(scans) for _, scans in found.patients] == [2, 2]


def test_tables_that_cannot_say_whose_files_are_end_nothing_and_are_told(tmp_path: Path) -> None:
    draw(tmp_path / "a" / "0.png")
    (tmp_path / "who.csv").write_text("file,patient\na/0.png,1\na/0.png ,2\n")
    assert "the table who.csv was not read" in find(tmp_path)[1][1]
    (tmp_path / "too.csv").write_text("file,patient\na/0.png,1\n")
    assert "2 tables name patients" in find(tmp_path)[1][1]
    (tmp_path / "manifest.csv").write_text("path,patient\na/0.png,1\n")
    assert find(tmp_path)[1] == ("1, by the column patient of manifest.csv (1)",)


def test_a_pattern_wins_over_all(tmp_path: Path) -> None:
    save_series(tmp_path / "ann-1", draw_chest(), patient="7", uid="1.1")
    save_series(tmp_path / "ann-2", draw_chest(), patient="8", uid="1.2")
    draw(tmp_path / "bob-1" / "0.png")
    found = list_patients([tmp_path], patient_from="^([a-z]+)-")
    assert [len(scans) for _, scans in found.patients] == [2, 1]
    assert found.lines[0] == "2, by --patient-from '^([a-z]+)-' (2)"
    with pytest.raises(ValueError, match="finds no patient in"):
        list_patients([tmp_path], patient_from="ann")
    with pytest.raises(ValueError, match="no regular expression"):
        list_patients([tmp_path], patient_from="(")
    with pytest.raises(ValueError, match="take --per patient"):
        Per(unit="slice", patient_from="ann")
