from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset

from tests.trainable.images.dicom_files import ENHANCED_CT, HU, build, item, save
from trainable.images.decode import BadImageError, decode
from trainable.images.dicom import parse
from trainable.images.dicom_headers import HEADERS
from trainable.images.scales import Scale
from trainable.images.series import Series, decode_series, find_series
from trainable.images.windows import parse_windows

AXIAL = [1, 0, 0, 0, 1, 0]
CORONAL = [1, 0, 0, 0, 0, -1]


def _slice(depth: float | None, **headers: Any) -> bytes:
    """An axial slice whose values name its depth, in Hounsfield units."""
    place: dict[str, Any] = {"SeriesInstanceUID": "1.2.3"}
    if depth is not None:
        place |= {"ImagePositionPatient": [-100, -100, depth], "ImageOrientationPatient": AXIAL}
    stored = np.full((16, 20), round(depth or 0) + 400, np.int32)
    return save(build(stored, RescaleSlope=1, RescaleIntercept=-1000, **(place | headers)))


def _write(folder: Path, files: Sequence[bytes]) -> list[Path]:
    """Files whose names are in no order of their content."""
    names = np.random.default_rng(0).permutation(len(files))
    paths = [folder / f"IM{name}" for name in names]
    for path, content in zip(paths, files, strict=True):
        path.write_bytes(content)
    return paths


def _one(paths: Sequence[Path]) -> Series:
    found = find_series(paths)
    assert not found.bad
    (series,) = found.series
    return series


def _depths(series: Series) -> list[float | None]:
    return [item.position_mm for item in series.slices]


def test_slices_are_sorted_by_position_and_not_by_name_or_number(tmp_path: Path) -> None:
    depths = [30.0, 0.0, 10.0, 20.0, -10.0]
    paths = _write(tmp_path, [_slice(depth, InstanceNumber=index) for index, depth in enumerate(depths)])
    series = _one(paths)
    assert _depths(series) == sorted(depths)
    assert (series.uid, series.patient, series.spacing_mm, series.notes) == ("1.2.3", "a patient", 10.0, ())
    pixels, scales = decode_series(series)
    assert pixels.shape == (5, 16, 20)
    assert [int(grey) for grey in np.diff(pixels[:, 0, 0].astype(int))] == [2, 1, 2, 2]  # 1.7 a slice
    assert scales == {Scale.HOUNSFIELD: 5}
    small, _ = decode_series(series, size=16, windows=parse_windows("lung,bone"))
    assert small.shape == (5, 16, 16, 2)


def test_oblique_slices_are_sorted_along_their_own_normal(tmp_path: Path) -> None:
    turn = np.radians(30)
    orientation = [float(value) for value in (np.cos(turn), 0, np.sin(turn), 0, 1, 0)]
    normal = np.cross(orientation[:3], orientation[3:])
    files = [
        _slice(None, ImagePositionPatient=[float(v) for v in step * normal], ImageOrientationPatient=orientation)
        for step in (9, 3, 6, 0)
    ]
    series = _one(_write(tmp_path, files))
    assert np.allclose([depth for depth in _depths(series) if depth is not None], [0, 3, 6, 9])
    assert series.notes == ()


def test_series_are_told_apart_and_a_missing_id_is_the_folders(tmp_path: Path) -> None:
    (other := tmp_path / "other").mkdir()
    paths = _write(tmp_path, [_slice(depth, SeriesInstanceUID=uid) for uid in ("1.1", "1.2") for depth in (0, 5, 10)])
    paths += _write(other, [_slice(depth, SeriesInstanceUID=None) for depth in (0, 5)])
    found = find_series(paths)
    assert sorted(len(series.slices) for series in found.series) == [2, 3, 3]
    assert {series.uid for series in found.series} == {"1.1", "1.2", f"folder {other}"}


def test_localizers_reports_and_other_files_are_left_out_and_counted(tmp_path: Path) -> None:
    files = [_slice(depth) for depth in (0, 5, 10)]
    files += [_slice(0, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])] * 2
    files += [save(build(HU, Modality="SR", PixelData=None)), b"notes"]
    files += [_slice(None, ImagePositionPatient=[0, 0, 0], ImageOrientationPatient=CORONAL)]  # a scout without a mark
    paths = _write(tmp_path, files)
    (damaged := tmp_path / "damaged").write_bytes(_slice(15)[:200])
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    found = find_series([*paths, damaged, tmp_path / "gone"])
    (series,) = found.series
    assert len(series.slices) == 3
    assert sum(found.left_out.values()) + len(found.bad) == 7
    assert sum(count for reason, count in found.left_out.items() if reason.startswith("a localizer")) == 2
    assert any("another direction" in note for note in series.notes)
    assert any("gone" in line for line in found.bad)


@pytest.mark.parametrize(
    ("depths", "note"),
    [
        ([0, 5, 10, 20, 25], "1 slices are missing (spacing 5.00 mm, gaps after 10.0 mm)"),
        ([0, 5, 10, 30, 35, 40, 55], "5 slices are missing (spacing 5.00 mm, gaps after 10.0, 40.0 mm)"),
        ([0, 5, 10, 10, 15], "1 slices lie at the place of another one"),
        ([0, 5, 11, 15, 20], "slices lie unevenly, 4.00 to 6.00 mm apart"),
    ],
)
def test_missing_repeated_and_uneven_slices_are_told(depths: Sequence[float], note: str, tmp_path: Path) -> None:
    series = _one(_write(tmp_path, [_slice(depth) for depth in depths]))
    assert len(series.slices) == len(depths)
    assert any(found.startswith(note) for found in series.notes), series.notes


def test_a_tilted_gantry_is_told(tmp_path: Path) -> None:
    shift = float(np.tan(np.radians(12)))
    files = [_slice(depth, ImagePositionPatient=[0, shift * depth, depth]) for depth in (0, 5, 10, 15)]
    assert _one(_write(tmp_path, files)).notes == (
        "the gantry was tilted by 12.0 degrees: slices are shifted against each other",
    )


def test_without_positions_numbers_count_and_then_names(tmp_path: Path) -> None:
    paths = _write(tmp_path, [_slice(None, InstanceNumber=number) for number in (3, 1, 2)])
    series = _one(paths)
    assert [item.path for item in series.slices] == [paths[1], paths[2], paths[0]]
    assert series.notes == ("some slices have no position in their headers: sorted by InstanceNumber",)
    for number in range(3, 12):
        (tmp_path / f"IM{number}").write_bytes(_slice(None))
    series = _one(sorted(tmp_path.iterdir()))
    assert [item.path.name for item in series.slices] == [f"IM{number}" for number in range(12)]
    assert series.notes[-1].endswith("sorted by name")


def test_slices_of_another_size_are_left_out_and_told(tmp_path: Path) -> None:
    files = [_slice(depth) for depth in (0, 5, 10)]
    files.append(
        save(build(HU, SeriesInstanceUID="1.2.3", ImagePositionPatient=[0, 0, 15], ImageOrientationPatient=AXIAL))
    )
    found = find_series(_write(tmp_path, files))
    assert len(found.series[0].slices) == 3
    assert found.series[0].notes == ("1 slices are of another size than 20 x 16 and are left out",)
    assert list(found.left_out.values()) == [1]


def _enhanced(depths: Sequence[float]) -> Dataset:
    stored = np.stack([np.full((16, 20), 1000 + round(depth)) for depth in depths])
    frames = [
        item(
            PlanePositionSequence=[item(ImagePositionPatient=[0, 0, depth])],
            PixelValueTransformationSequence=[item(RescaleSlope=1, RescaleIntercept=-2000 + index, RescaleType="HU")],
        )
        for index, depth in enumerate(depths)
    ]
    shared = item(PlaneOrientationSequence=[item(ImageOrientationPatient=AXIAL)])
    return build(
        stored,
        SOPClassUID=ENHANCED_CT,
        NumberOfFrames=len(depths),
        SharedFunctionalGroupsSequence=[shared],
        PerFrameFunctionalGroupsSequence=frames,
        SeriesInstanceUID="1.2.9",
    )


@pytest.mark.parametrize("implicit", [False, True])
def test_an_enhanced_ct_becomes_its_frames_each_by_its_own_scale_and_place(implicit: bool, tmp_path: Path) -> None:
    (path := tmp_path / "enhanced").write_bytes(save(_enhanced([100, 0, 200, 300]), implicit=implicit))
    series = _one([path])
    assert [(item.frame, item.position_mm) for item in series.slices] == [(1, 0.0), (0, 100.0), (2, 200.0), (3, 300.0)]
    pixels, scales = decode_series(series)
    hounsfield = np.array([-999, -900, -798, -697])
    assert np.abs(pixels[:, 0, 0] - 255 * (hounsfield + 1350) / 1500).max() <= 1
    assert scales == {Scale.HOUNSFIELD: 4}
    np.testing.assert_array_equal(decode(path, frame=2), pixels[2])
    with pytest.raises(BadImageError, match="frame 4 of a DICOM file; it has 4, counted from 0"):
        decode(path, frame=4)


def test_frames_without_places_keep_their_order(tmp_path: Path) -> None:
    stored = np.stack([np.full((16, 20), value) for value in (5, 3, 9)])
    (path := tmp_path / "frames").write_bytes(
        save(build(stored, NumberOfFrames=3, RescaleSlope=100, RescaleIntercept=-1350, RescaleType="HU"))
    )
    series = _one([path])
    assert [item.frame for item in series.slices] == [0, 1, 2]
    assert np.abs(decode_series(series)[0][:, 0, 0] - np.array([85, 51, 153])).max() <= 1


def test_only_the_headers_that_are_needed_are_read() -> None:
    data = _slice(
        3, PatientName="A^Person", PatientBirthDate="19500101", StudyDescription="secret", AccessionNumber="7"
    )
    known = {keyword for keywords in HEADERS.values() for keyword in keywords}
    read = {element.keyword for element in parse(data).dataset}
    assert read <= known and "PatientID" in read


@pytest.mark.parametrize(
    ("whole", "damaged"),
    [(b"IS\x02\x003 ", b"IS\x02\x00x "), (b"\\777.0", b"\\nan  "), (b"\\777.0", b"\\7,7,0")],
    ids=["number", "position NaN", "position in words"],
)
def test_a_damaged_header_of_place_leaves_the_slice_in_its_series(whole: bytes, damaged: bytes, tmp_path: Path) -> None:
    """It is sorted as well as the rest allows, and not taken out of the volume."""
    paths = [tmp_path / f"{9 - index}.dcm" for index in range(5)]
    for index, path in enumerate(paths):
        headers: dict[str, Any] = {"RescaleSlope": 1, "RescaleIntercept": -2000, "SeriesInstanceUID": "1.2.3"}
        headers["ImagePositionPatient"] = [0, 0, 777.0 if index == 2 and b"777" in whole else index * 5.0]
        dataset = build(HU + 2000, InstanceNumber=index + 1, ImageOrientationPatient=[1, 0, 0, 0, 1, 0], **headers)
        data = save(dataset)
        path.write_bytes(data.replace(whole, damaged) if index == 2 else data)
        assert index != 2 or data.count(whole) == 1
    (series,) = find_series(paths).series
    assert [item.path for item in series.slices] == paths
