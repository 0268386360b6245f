"""DICOM files for tests, with any header changed."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid

ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"

# One row of tissue values in Hounsfield units, and what the lung window (-1350 to 150) makes of them by hand:
# 255 * (HU + 1350) / 1500, rounded and cut off at 0 and 255.
HU = np.tile(np.repeat([-1350, -1000, -600, -100, 0, 100, 150, 1000], 4), (24, 1)).astype(np.int32)
LUNG_GREYS = [0, 60, 128, 212, 230, 246, 255, 255]  # 59.5, 127.5, 212.5, 229.5 and 246.5 may be rounded either way


def build(stored: NDArray[Any], *, bits: int = 16, signed: bool = False, **headers: Any) -> Dataset:
    """A CT slice of `stored` values without a rescale; a header of None is taken away, "" left empty."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = headers.pop("SOPClassUID", CTImageStorage)
    dataset.SOPInstanceUID = generate_uid()
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.Modality = "CT"
    dataset.PatientID = "a patient"
    dataset.Rows, dataset.Columns = stored.shape[-2:]
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated = 8 * stored.dtype.itemsize if stored.dtype.itemsize < 4 else 16
    dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = bits, bits - 1, int(signed)
    kind = f"{'i' if signed else 'u'}{dataset.BitsAllocated // 8}"
    dataset.PixelData = stored.astype(f"<{kind}", casting="unsafe").tobytes()
    for name, value in headers.items():
        if value is None:
            if name in dataset:
                delattr(dataset, name)
        else:
            setattr(dataset, name, None if isinstance(value, str) and value == "" else value)
    return dataset


def save(dataset: Dataset, *, implicit: bool = False) -> bytes:
    """The file's bytes; `implicit` writes without value representations."""
    if implicit:
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def pack(dataset: Dataset, frame: bytes, syntax: UID) -> Dataset:
    """The same file with compressed pixels."""
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PixelData = encapsulate([frame])
    dataset["PixelData"].VR = "OB"
    return dataset


def item(**values: Any) -> Dataset:
    """An item of a sequence."""
    dataset = Dataset()
    for name, value in values.items():
        setattr(dataset, name, value)
    return dataset
