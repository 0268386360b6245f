"""Grad-CAM overlays of classified images, beside the table or in a folder of their own."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from search.commands.answer_tables import Row
from trainable.images.faults import show_name, write_name

if TYPE_CHECKING:
    from trainable.answers import Answer

_OVERLAY_SUFFIX = ".cam.png"
_MAX_NAME_BYTES = 255  # of a file's name, on nearly every file system


def choose_overlay_folder(*tables: Path | None) -> Path:
    """Beside the first table that is written: `found.csv` has `found-explained/`; without any, `explained/` here."""
    table = next((table for table in tables if table), None)
    return table.with_name(f"{table.stem}-explained") if table else Path("explained")


def write_overlay(folder: Path, file: Path, answer: Answer, row: Row) -> str | None:
    """Write the overlay of one image; its path, or None for an image that is doubted: its answer means nothing.

    None too, with a line, where it cannot be written: the classes of other files are worth more than one overlay.
    """
    from trainable.explain import draw_overlay

    if answer.doubt or answer.image is None or answer.heat is None:
        return None
    path = folder / name_overlay(file.name)
    what = "what spoke for it" if answer.heat.any() else "Grad-CAM finds no place that spoke for it"
    overlay = draw_overlay(answer.image, answer.heat, f"{row['class']} {row['probability']:.2f}: {what}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        overlay.save(path)
    except OSError as error:
        print(f"ctsearch: no explanation of {show_name(file)} is written: {error}", file=sys.stderr)
        return None
    return write_name(path)


def name_overlay(name: str) -> str:
    """`NAME.cam.png`; of a name too long for that, its beginning and a hash of all of it."""
    if len(os.fsencode(name)) + len(_OVERLAY_SUFFIX) <= _MAX_NAME_BYTES:
        return f"{name}{_OVERLAY_SUFFIX}"
    digest = hashlib.sha256(os.fsencode(name)).hexdigest()[:12]
    begin = os.fsencode(name)[: _MAX_NAME_BYTES - len(_OVERLAY_SUFFIX) - len(digest) - 1]
    return f"{begin.decode('utf-8', 'ignore')}-{digest}{_OVERLAY_SUFFIX}"
