"""Files of tensors, read without running what they hold and without taking more memory than they have on the disk."""

from __future__ import annotations

import warnings
import zipfile
from typing import IO, Any

import torch


def load_tensors(file: IO[bytes]) -> Any:
    """What `torch.save` wrote, tensors on the CPU; nothing else of the file is run. Raises nearly every type."""
    _refuse_packed(file)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of old formats
        return torch.load(file, map_location="cpu", weights_only=True)


def _refuse_packed(file: IO[bytes]) -> None:
    """Raise ValueError for an archive whose members unpack to more than it holds: torch.save packs nothing, and a few
    megabytes of zeros could fill the memory."""
    num_bytes = file.seek(0, 2)
    file.seek(0)
    if not zipfile.is_zipfile(file):
        file.seek(0)
        return
    with zipfile.ZipFile(file) as archive:
        if sum(member.file_size for member in archive.infolist()) > num_bytes:
            raise ValueError("its members are packed; torch.save packs none")
    file.seek(0)
