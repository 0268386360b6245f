"""Sets of DICOM files: colour and frames, names, patients across studies, polarity and padding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.trainable.images.dicom_files import build, save
from tests.trainable.images.phantoms import draw_chest
from tests.trainable.images.series_files import as_seen, save_series
from tests.trainable.images.sets import fill
from tests.trainable.images.test_channels import SIZE, prepare
from tests.trainable.images.test_series_sets import prepare_rows
from trainable.images.cache import build_cache
from trainable.images.decode import BadImageError
from trainable.images.expand_series import choose_slices
from trainable.images.find_slices import find_slices
from trainable.images.mapped import open_pixels
from trainable.images.pixel_format import GREY, PixelFormat
from trainable.images.series import find_series
from trainable.images.slice_rule import SliceRule
from trainable.images.splits import read_splits


def test_colour_dicom_is_taken_in_colour_single_or_of_several_frames(tmp_path: Path) -> None:
    for number in range(8):
        shown = np.random.default_rng(number).integers(0, 256, (3, 40, 48, 3), dtype=np.uint8)
        for name, pixels in {"clip": shown, "still": shown[:1]}.items():
            dataset = build(pixels, bits=8, Rows=40, Columns=48, SamplesPerPixel=3, PhotometricInterpretation="RGB")
            dataset.PlanarConfiguration, dataset.NumberOfFrames = 0, len(pixels)
            dataset.PatientID, dataset.Modality = f"P{number}", "US"
            path = tmp_path / "data" / "ab"[number % 2] / f"P{number}" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(save(dataset))
    prepared = prepare(tmp_path / "data", tmp_path / "home", PixelFormat(colour=True))
    assert prepared.training.num_channels == 3 and len(read_splits(tmp_path / "home" / "splits.csv")) == 32
    assert not prepared.reading.warnings, prepared.reading.warnings
    for skip in (False, True):
        with pytest.raises(BadImageError, match=r"a DICOM file in RGB; .*32 of 32 files cannot be used"):
            prepare(tmp_path / "data", tmp_path / "grey", skip_bad_images=skip)


def test_a_name_like_that_of_a_slice_inside_a_file_is_refused(tmp_path: Path) -> None:
    fill(tmp_path, "a/1.png", "a/scan#frame3", "b/1.png")
    with pytest.raises(ValueError, match=r"a/scan#frame3 is named like a slice inside another file \(scan\)"):
        find_slices(tmp_path, unpack_into=tmp_path)


def test_one_persons_studies_are_one_patient_however_the_id_is_written(tmp_path: Path) -> None:
    for number in range(6):
        label = "ab"[number % 2]
        for study, patient in {"first": f"P{number}", "second": f" P0{number} "}.items():
            folder = tmp_path / label / f"{study}-{number}"
            save_series(folder, draw_chest(seed=number), patient=patient, uid=f"1.{len(study)}.{number}")
    found = find_slices(tmp_path, unpack_into=tmp_path, slice_rule=SliceRule(kind="middle"))
    assert found.patients.ids is not None and (len(found.patients.ids), len(set(found.patients.ids))) == (12, 6)


def test_the_polarity_of_hounsfield_units_is_their_own_and_padding_is_no_air_inside(tmp_path: Path) -> None:
    values = draw_chest(shape=(64, 64, 10))
    kinds = {"plain": {}, "inverted": {"PhotometricInterpretation": "MONOCHROME1"}}
    found = {}
    for kind, headers in kinds.items():
        paths = save_series(tmp_path / kind, values, **headers)
        file = build_cache(
            paths, hashes=prepare_rows(paths), size=SIZE, folder=tmp_path / "cache", num_workers=1, form=GREY
        )
        found[kind] = open_pixels(file)
    np.testing.assert_array_equal(found["plain"], found["inverted"])
    outside = np.hypot(*np.meshgrid(np.linspace(-1, 1, 64), np.linspace(-1, 1, 64), indexing="ij")) > 0.95
    for index, path in enumerate(save_series(tmp_path / "padded", values, patient="q")):
        stored = np.where(outside, -2000, as_seen(values, index))
        dataset = build(stored, signed=True, RescaleSlope=1, RescaleIntercept=0, PixelPaddingValue=-2000)
        dataset.SeriesInstanceUID, dataset.PatientID = "1.2.8", "q"
        dataset.ImagePositionPatient, dataset.ImageOrientationPatient = [0, 0, index * 5.0], [1, 0, 0, 0, 1, 0]
        path.write_bytes(save(dataset))
    (series,) = find_series(sorted((tmp_path / "padded").iterdir())).series
    chosen = choose_slices(series, SliceRule(kind="lung"))
    assert not isinstance(chosen, Exception) and [item.position_mm for item in chosen] == [15, 20, 25, 30, 35]
