from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import MPEG2MPML, CTImageStorage, ExplicitVRLittleEndian, RLELossless, generate_uid

from trainable.images.decode import BadImageError, decode_grey, decode_slice, read_slice
from trainable.images.dicom import is_dicom

if TYPE_CHECKING:
    from pathlib import Path

AIR, LUNG, WATER, BONE = -1000, -600, 0, 1000


def _dataset(hounsfield: np.ndarray, **changes: Any) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = CTImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = generate_uid()
    dataset.Modality = "CT"
    dataset.PatientID = "a patient"
    dataset.Rows, dataset.Columns = hounsfield.shape
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 1
    dataset.RescaleSlope, dataset.RescaleIntercept = 2, -1024
    dataset.PixelData = ((hounsfield + 1024) // 2).astype("<i2").tobytes()
    for name, value in changes.items():
        if value is None:
            delattr(dataset, name)
        else:
            setattr(dataset, name, value)
    return dataset


def _save(dataset: Dataset) -> bytes:
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def _tissues() -> np.ndarray:
    return np.repeat([[AIR, LUNG, WATER, BONE]], 8, axis=1).repeat(24, axis=0)


def test_hounsfield_units_go_through_the_lung_window() -> None:
    grey = np.asarray(decode_grey(_save(_dataset(_tissues()))))
    assert grey.shape == (24, 32)
    assert grey[0, ::8].tolist() == [60, 128, 230, 255]  # 255 * (HU + 1350) / 1500


def test_hounsfield_units_keep_their_polarity_in_monochrome1() -> None:
    grey = np.asarray(decode_grey(_save(_dataset(_tissues(), PhotometricInterpretation="MONOCHROME1"))))
    assert grey[0, ::8].tolist() == [60, 128, 230, 255]


def test_monochrome1_is_inverted_without_hounsfield_units() -> None:
    grey = np.asarray(decode_grey(_save(_dataset(_tissues(), PhotometricInterpretation="MONOCHROME1", Modality="MR"))))
    assert grey[0, [0, 31]].tolist() == [255, 0]


@pytest.mark.parametrize("changes", [{"RescaleIntercept": None, "RescaleSlope": None}, {"Modality": "PT"}])
def test_without_hounsfield_units_its_own_range_counts(changes: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "x.dcm"
    path.write_bytes(_save(_dataset(_tissues(), **changes)))
    assert np.asarray(decode_grey(path))[0, [0, 31]].tolist() == [0, 255]
    assert read_slice(path, 32)[0].mode == "MONOCHROME2"


def test_dicom_is_known_by_content_and_its_facts_are_read(tmp_path: Path) -> None:
    path = tmp_path / "slice 1%.png"
    path.write_bytes(_save(_dataset(_tissues())))
    facts = read_slice(path, 32)[0]
    assert (facts.format, facts.mode, facts.width, facts.height) == ("DICOM", "HU", 32, 24)
    assert facts.patient == "a patient"
    assert is_dicom(path.read_bytes()) and not is_dicom(b"DICM")
    np.testing.assert_array_equal(decode_slice(path, 16), decode_slice(path.read_bytes(), 16))


@pytest.mark.parametrize("patient", [None, "", "  "])
def test_a_slice_without_a_patient_has_none(patient: str | None, tmp_path: Path) -> None:
    path = tmp_path / "x.dcm"
    path.write_bytes(_save(_dataset(_tissues(), PatientID=patient)))
    assert read_slice(path, 32)[0].patient is None


def test_run_length_encoding_is_decoded() -> None:
    dataset = _dataset(_tissues())
    plain = _save(dataset)
    dataset.compress(RLELossless)
    np.testing.assert_array_equal(np.asarray(decode_grey(_save(dataset))), np.asarray(decode_grey(plain)))


def test_a_syntax_that_nothing_decodes_is_an_error_that_says_so(tmp_path: Path) -> None:
    dataset = _dataset(_tissues(), PixelData=encapsulate([b"a video"]))
    dataset["PixelData"].VR = "OB"
    dataset.file_meta.TransferSyntaxUID = MPEG2MPML
    path = tmp_path / "packed.dcm"
    path.write_bytes(_save(dataset))
    with pytest.raises(BadImageError, match=r"packed\.dcm.*compressed as MPEG2.*decompress it first"):
        decode_grey(path)


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"NumberOfFrames": 3}, "3 frames"),
        ({"PixelData": None}, "without pixel data"),
        (
            {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0},
            "must be grey",
        ),
        ({"Rows": 20_000, "Columns": 20_000}, "at most 64 megapixels"),
        ({"Rows": 15}, "at least 16"),
        ({"Rows": 48}, "pixel data"),
        ({"Rows": None}, "Rows"),
    ],
)
def test_what_is_not_one_grey_slice_is_an_error_that_names_it(
    changes: dict[str, Any], rule: str, tmp_path: Path
) -> None:
    path = tmp_path / "odd.dcm"
    path.write_bytes(_save(_dataset(_tissues(), **changes)))
    with pytest.raises(BadImageError, match=rf"odd\.dcm: (?s:.*){rule}"):
        read_slice(path, 32)[0]


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_truncated_dicom_is_an_error(share: float) -> None:
    whole = _save(_dataset(_tissues()))
    with pytest.raises(BadImageError):
        decode_grey(whole[: int(len(whole) * share)])


def test_odd_header_values_do_not_warn() -> None:
    with pydicom.config.disable_value_validation():
        dataset = _dataset(_tissues(), PatientBirthDate="not a date", StudyInstanceUID="1.02.x")
        data = _save(dataset)
    assert decode_grey(data).size == (32, 24)
