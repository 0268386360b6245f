"""Limits of what is decoded, and the one way in which an image file is read."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

MAX_FILE_BYTES = 2**31
MAX_PIXELS = 64_000_000
MIN_SIDE_PX = 16
MAX_ASPECT_RATIO = 20

_KINDS = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"}


@contextmanager
def open_file(path: Path) -> Iterator[BinaryIO]:
    """A regular file, open to read. Raises ValueError for anything else (a pipe would never end), and OSError."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise ValueError(f"{_KINDS.get(stat.S_IFMT(status.st_mode), 'a device')}, not a file")
    with open(descriptor, "rb") as file:  # noqa: PTH123 - a pipe must be opened without waiting for its writer
        yield file


def read_file(path: Path) -> bytes:
    """The content of a regular file of at most `MAX_FILE_BYTES`. Raises ValueError for others, and OSError."""
    with open_file(path) as file:
        num_bytes = os.fstat(file.fileno()).st_size
        if num_bytes > MAX_FILE_BYTES:
            raise ValueError(f"a file of {num_bytes} bytes; at most {MAX_FILE_BYTES // 2**30} GiB are read")
        return file.read()


def check_dimensions(width: int, height: int) -> None:
    """Raises ValueError for an image, in pixels, that is too large, too small or too long to be one."""
    if width * height > MAX_PIXELS:
        raise ValueError(f"{width} x {height} pixels; at most {MAX_PIXELS // 10**6} megapixels are decoded")
    if min(width, height) < MIN_SIDE_PX:
        raise ValueError(f"{width} x {height} pixels; each side must have at least {MIN_SIDE_PX}")
    if max(width, height) > MAX_ASPECT_RATIO * min(width, height):
        raise ValueError(f"{width} x {height} pixels; the sides' ratio may be at most {MAX_ASPECT_RATIO}")
