"""Errors of reading images."""

from __future__ import annotations

import os
from pathlib import Path


class BadImageError(ValueError):
    """An image that cannot be used; the message names the file, what came and what must hold."""


class NotASliceError(BadImageError):
    """A file that is in order but holds no slice, such as a localizer or a report: to be left out and counted."""


def show_text(text: str) -> str:
    """Text of other sources on one line, with nothing in it that cannot be printed."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in " ".join(text.split()))


def show_name(path: Path) -> str:
    """A path that can be printed and written as UTF-8: control characters and odd bytes are escaped."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
