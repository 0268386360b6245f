"""Series whose slices lie in several folders, and slices that are there twice."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import UID, generate_uid

from search.commands.inputs import list_scans
from tests.trainable.images.phantoms import draw_chest
from tests.trainable.images.series_files import save_series
from tests.trainable.images.test_channels import SIZE, prepare
from trainable.images.cache import build_cache
from trainable.images.expand_series import COPY
from trainable.images.find_slices import FoundSlices, find_slices
from trainable.images.mapped import open_pixels
from trainable.images.pixel_format import PixelFormat
from trainable.images.read_many import read_all
from trainable.images.scans import Scan
from trainable.images.series import find_series
from trainable.images.slice_rule import SliceRule


def part(paths: list[Path], *folders: Path, every: bool = False) -> None:
    """Move a series' files into folders: one stretch after the other, or by turns."""
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    length = -(-len(paths) // len(folders))
    for index, path in enumerate(paths):
        path.rename(folders[index % len(folders) if every else index // length] / path.name)


def save_set(root: Path, *, patient: str = "P{}", num_patients: int = 6) -> None:
    """CLASS/PATIENT/study/part1 and part2: each a half of one series."""
    for number in range(num_patients):
        study = root / "ab"[number % 2] / f"P{number}" / "study"
        paths = save_series(study / "all", draw_chest(seed=number), patient=patient.format(number), uid=f"1.2.{number}")
        part(paths, study / "part1", study / "part2", every=number % 3 == 0)
        (study / "all").rmdir()


def find(root: Path, rule: str = "all") -> FoundSlices:
    return find_slices(root, unpack_into=root.parent / "unpacked", slice_rule=SliceRule.parse(rule))


@pytest.mark.parametrize("patient", ["P{}", "ANONYMOUS", ""])
def test_a_series_in_two_folders_is_one_sorted_by_position(patient: str, tmp_path: Path) -> None:
    save_set(tmp_path / "set", patient=patient)
    found = find(tmp_path / "set", "middle")
    assert len(found.manifest.slices) == 6, "a middle for each series, not for each folder"
    depths = [dcmread(item.path).ImagePositionPatient[2] for item in found.manifest.slices]
    assert set(depths) <= {20.0, 25.0}
    assert found.patients.ids is not None and len(set(found.patients.ids)) == 6
    assert any("6 lie in several folders (12 in all), and were put together" in line for line in found.reading.lines())


def test_folders_of_a_media_export_are_one_patients_where_a_series_joins_them(tmp_path: Path) -> None:
    """IMG001/ and IMG002/ stand where patients' folders are looked for, and headers name nobody."""
    for number in range(6):
        root = tmp_path / "set" / "ab"[number % 2]
        paths = save_series(root / "all", draw_chest(seed=number), patient="", uid=f"1.2.{number}")
        part(paths, root / f"IMG{2 * number:03}", root / f"IMG{2 * number + 1:03}")
        (root / "all").rmdir()
    found = find(tmp_path / "set")
    assert found.patients.ids is not None and len(set(found.patients.ids)) == 6
    assert any("6 of 6 volumes have slices of several patients by name" in line for line in found.reading.warnings)


def test_series_of_one_uid_at_the_same_places_stay_apart_and_are_told(tmp_path: Path) -> None:
    for number in range(4):
        save_series(tmp_path / "set" / "ab"[number % 2] / f"P{number}", draw_chest(seed=number), patient="same")
    found = find(tmp_path / "set", "middle")
    assert len(found.manifest.slices) == 4
    assert any("1 DICOM SeriesInstanceUIDs stand in several folders" in line for line in found.oddities)


def test_uids_made_alike_do_not_join_patients_that_lie_at_other_places(tmp_path: Path) -> None:
    for number in range(4):
        paths = save_series(tmp_path / "set" / "ab"[number % 2] / f"P{number}", draw_chest(seed=number), patient="")
        for path in paths:
            dataset = dcmread(path)
            dataset.ImagePositionPatient = [0, 0, float(dataset.ImagePositionPatient[2]) + 111.3 * number]
            dataset.save_as(path)
    found = find(tmp_path / "set")
    assert found.patients.ids is not None and len(set(found.patients.ids)) == 4
    assert any("do not follow each other" in line for line in found.oddities)


def test_a_copy_of_a_slice_in_another_folder_is_left_out_and_counted(tmp_path: Path) -> None:
    save_set(tmp_path / "set")
    study = tmp_path / "set" / "a" / "P0" / "study"
    for path in sorted((study / "part1").iterdir())[:3]:
        dataset = dcmread(path)
        dataset.InstitutionName = "written by another system"  # the same slice, and not the same bytes
        dataset.save_as(study / "part2" / f"copy-{path.name}")
    found = find(tmp_path / "set")
    assert len(found.manifest.slices) == 60
    assert any(f"3 files are left out: {COPY}" in line for line in found.reading.lines())
    assert len(find(tmp_path / "set", "middle").manifest.slices) == 6


def test_a_copy_of_a_slice_under_another_label_is_an_error_as_before(tmp_path: Path) -> None:
    save_set(tmp_path / "set")
    shutil.copytree(tmp_path / "set" / "a" / "P0", tmp_path / "set" / "b" / "P0")
    with pytest.raises(ValueError, match="are identical files of two classes"):
        prepare(tmp_path / "set", tmp_path / "home")


@pytest.mark.parametrize("what", ["classes", "splits"])
def test_a_series_that_is_torn_is_told_whatever_the_rule(what: str, tmp_path: Path) -> None:
    for number in range(4):
        label = "ab"[number % 2]
        first, second = ("a", "b") if what == "classes" else (f"train/{label}", f"test/{label}")
        paths = save_series(tmp_path / "all", draw_chest(seed=number), patient=f"P{number}", uid=f"1.2.{number}")
        part(paths, tmp_path / "set" / first / f"P{number}", tmp_path / "set" / second / f"P{number}")
    found = find(tmp_path / "set", "middle")
    assert any(f"4 of 4 DICOM series have slices in several {what}" in line for line in found.oddities)
    if what == "splits":
        with pytest.raises(ValueError, match="4 patients are in two splits"):
            prepare(tmp_path / "set", tmp_path / "home")


def test_files_of_one_uid_for_all_slices_are_no_copies(tmp_path: Path) -> None:
    paths = save_series(tmp_path, draw_chest())
    for path in paths:
        dataset = dcmread(path)
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = UID("1.2.3.4")
        dataset.save_as(path)
    assert not find_series(paths).copies
    for path in paths:
        dataset = dcmread(path)
        del dataset.ImagePositionPatient
        dataset.save_as(path)
    assert not find_series(paths).copies, "their pixels differ"


def test_parts_without_positions_are_joined_by_their_numbers(tmp_path: Path) -> None:
    paths = save_series(tmp_path / "all", draw_chest())
    for number, path in enumerate(paths):
        dataset = dcmread(path)
        del dataset.ImagePositionPatient
        dataset.InstanceNumber = number
        dataset.save_as(path)
    part(paths, tmp_path / "1", tmp_path / "2")
    (series,) = find_series(path for path in tmp_path.rglob("IM*") if path.is_file()).series
    assert series.is_volume and [item.path.name for item in series.slices] == [path.name for path in paths]


def test_a_series_across_its_rest_stays_a_series_of_its_own(tmp_path: Path) -> None:
    paths = save_series(tmp_path / "axial", draw_chest())
    part(paths, tmp_path / "1", tmp_path / "2")
    for path in save_series(tmp_path / "3", draw_chest()):
        dataset = dcmread(path)
        depth = float(dataset.ImagePositionPatient[2])
        dataset.ImagePositionPatient, dataset.ImageOrientationPatient = [0, depth, 0], [1, 0, 0, 0, 0, -1]
        dataset.SOPInstanceUID = generate_uid()
        dataset.save_as(path)
    found = find_series(path for path in tmp_path.rglob("IM*") if path.is_file())
    assert sorted(len(series.slices) for series in found.series) == [10, 10]


def test_neighbours_are_found_across_folders_also_for_some_slices_alone(tmp_path: Path) -> None:
    form = PixelFormat(neighbours=1)
    whole = save_series(tmp_path / "whole", draw_chest())
    paths = save_series(tmp_path / "parted" / "all", draw_chest())
    part(paths, tmp_path / "parted" / "1", tmp_path / "parted" / "2")
    (tmp_path / "parted" / "all").rmdir()
    chosen = tmp_path / "parted" / "1" / paths[4].name  # its neighbour is the first of the other folder
    others = save_series(tmp_path / "parted" / "other", draw_chest(seed=1), uid="1.2.4")
    found = []
    for some in ([whole[4]], [chosen, others[4]]):
        hashes = list(map(str, read_all(some, SIZE, 1, lambda path, facts, pixels: facts.sha256)))
        file = build_cache(some, hashes=hashes, size=SIZE, folder=tmp_path / "c", num_workers=1, form=form)
        found.append(open_pixels(file)[0])
    np.testing.assert_array_equal(*found)


def test_classified_folders_have_a_row_for_a_series_that_lies_in_two(tmp_path: Path) -> None:
    study = tmp_path / "study"
    part(save_series(tmp_path / "all", draw_chest()), study / "1", study / "2")
    shutil.copy(next((study / "1").iterdir()), study / "2" / "copy")
    for given in ([study], [study / "1", study / "2", study / "1"]):
        check_scans(list_scans(given), study)


def check_scans(scans: list[Scan], study: Path) -> None:
    (volume,) = (scan for scan in scans if scan.is_volume)
    assert volume.path == study and volume.series is not None and len(volume.series.slices) == 10
    (refused,) = (scan for scan in scans if scan.refusal is not None)
    assert refused.path.name == "copy" and COPY in str(refused.refusal)
