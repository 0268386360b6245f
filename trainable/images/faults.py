"""Errors of reading images."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path


class BadImageError(ValueError):
    """An image that cannot be used; the message names the file, what came and what must hold."""


class NotASliceError(BadImageError):
    """A file that is in order but holds no slice, such as a localizer or a report: to be left out and counted.

    `reason` is the message without the file's name.
    """

    def __init__(self, reason: str, *, name: str = "") -> None:
        super().__init__(f"{name}: {reason}" if name else reason)
        self.reason = reason


def count_left_out(errors: Iterable[NotASliceError]) -> list[str]:
    """A line for each reason why files hold no slice, with how many do, the most frequent first."""
    counts = Counter(error.reason for error in errors)
    return [f"{count} files are left out: {reason}" for reason, count in counts.most_common()]


def show_text(text: str) -> str:
    """Text of other sources on one line, with nothing in it that cannot be printed."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in " ".join(text.split()))


def write_name(path: Path) -> str:
    """A path as text that can be written as UTF-8: bytes of a name that are none are escaped."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def show_name(path: Path) -> str:
    """A path that can be printed on one line: as `write_name`, and control characters are escaped too."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in write_name(path))
