"""Kinds of DICOM files: which hold a slice or another image to classify, and which are left out, with the reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainable.images.dicom_headers import as_list, is_secondary_capture, read_word
from trainable.images.dicom_scale import read_rescale

if TYPE_CHECKING:
    import pydicom

_NO_IMAGES = {  # by modality (PS3.3, C.7.3.1.1.1)
    "SR": "a report",
    "DOC": "a document",
    "KO": "a selection of other files",
    "PR": "a presentation of other files",
    "RTSTRUCT": "contours of radiotherapy",
    "RTPLAN": "a plan of radiotherapy",
    "RTDOSE": "a dose grid of radiotherapy",
    "RTRECORD": "a record of radiotherapy",
    "RTIMAGE": "a control image of radiotherapy",
    "SEG": "a segmentation",
    "REG": "a registration",
    "ECG": "a waveform",
    "HD": "a waveform",
    "FID": "fiducials",
    "PLAN": "a plan",
}
_VOLUMETRIC = ("CT", "MR", "PT")
_DICOMDIR = "1.2.840.10008.1.3.10"


def find_reason_to_leave_out(dataset: pydicom.Dataset) -> str | None:
    """Why a file is none to classify: a report, contours, a localizer, a screenshot; None where it may be one."""
    modality = read_word(dataset, "Modality")
    if modality in _NO_IMAGES:
        return f"{_NO_IMAGES[modality]} (Modality {modality}), not an image"
    image_type = [str(word).strip().upper() for word in as_list(dataset.get("ImageType"))]
    if any(word in ("LOCALIZER", "SCOUT", "TOPOGRAM") for word in image_type):
        return "a localizer (its ImageType says so), not a slice"
    if is_secondary_capture(dataset):
        drawn = any("SCREEN" in word or "DOSE" in word for word in image_type)
        if drawn or (modality in _VOLUMETRIC and not read_rescale(dataset, 0).is_hounsfield):
            return "a secondary capture (a screenshot or a report), not a slice as it was scanned"
    if str(dataset.get("SOPClassUID") or "") == _DICOMDIR:
        return "a DICOMDIR, the table of contents of other files"
    return None
