from __future__ import annotations

from pathlib import Path

from PIL import Image

from search.commands.inputs import list_patients
from tests.trainable.images.phantoms import draw_chest, save_nifti
from tests.trainable.images.series_files import save_series


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
