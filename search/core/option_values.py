"""Values of options: each reader takes what a command line, a file or a keyword gives, or raises ValueError."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from numbers import Real
from pathlib import Path
from typing import Any

DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd]?)")
SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)b?")
BYTES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
SCHEMES = ("s3", "gs", "gcs", "abfs", "abfss", "hdfs", "viewfs", "file")
"""Of the object stores and file systems that a storage may be (pyarrow.fs)."""


def whole(value: Any) -> int:
    """A whole number, from a number or its text. Raises ValueError for anything else."""
    number = real(value)
    if number != int(number):
        raise ValueError("it must be a whole number")
    return int(number)


def real(value: Any) -> float:
    """A finite number, from a number (NumPy's too) or its text. Raises ValueError for anything else."""
    if isinstance(value, bool) or not isinstance(value, Real | str):
        raise ValueError("it must be a number")
    try:
        number = float(value)
    except (ValueError, OverflowError):
        raise ValueError("it must be a number") from None
    if not math.isfinite(number) or abs(number) > 1e15:
        raise ValueError("it must be a finite number of a sensible size")
    return number


def truth(value: Any) -> bool:
    """True or false, not a text of it. Raises ValueError for anything else."""
    if not isinstance(value, bool):
        raise ValueError("it must be true or false")
    return value


def text(value: Any) -> str:
    """A text; a number is taken as it is written. Raises ValueError for anything else, and for an empty one."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError("it must be a text")
    if not str(value).strip():
        raise ValueError("it must not be empty: give a text, or leave the option out")
    return str(value)


def path(value: Any) -> Path:
    """A path, absolute from here on: workers have another working directory. Raises ValueError for anything else."""
    if not isinstance(value, str | Path) or not str(value) or "\0" in str(value):
        raise ValueError("it must be a path")
    try:
        return Path(value).expanduser().absolute()
    except RuntimeError:  # "~ana"
        raise ValueError("it names the home of a user whom this machine does not know") from None


def place(value: Any) -> str:
    """A folder, absolute from here on, or the URI of an object store. Raises ValueError for anything else."""
    given = str(value) if isinstance(value, Path) else text(value)
    scheme, colon, rest = given.partition(":")
    if colon and rest.startswith("//"):
        if scheme not in SCHEMES:
            raise ValueError(f"a storage's URI begins with one of {', '.join(SCHEMES)}, as in s3://bucket/folder")
        return given
    if colon and scheme in SCHEMES:
        raise ValueError(f"it must be a folder, or a URI with two slashes, such as {scheme}://bucket/folder")
    return str(path(given))


def names(value: Any) -> tuple[str, ...]:
    """`A,B,C` or a list. Raises ValueError for anything else, and for a text without any."""
    parts = [part for part in value.split(",") if part.strip()] if isinstance(value, str) else value
    if not isinstance(parts, list | tuple) or (isinstance(value, str) and not parts):
        raise ValueError("it must be names, separated by commas, or a list of them")
    return tuple(dict.fromkeys(text(part).strip() for part in parts))


def pairs(value: Any) -> dict[str, str]:
    """`NAME=VALUE`, several of them, or a mapping; a list of values is joined by commas. Raises ValueError, also where
    a name stands twice with different values."""
    if isinstance(value, Mapping):
        if empty := [name for name, entry in value.items() if entry is None]:
            raise ValueError(f"{empty[0]} has no value")
        return {text(name): as_text(entry) for name, entry in value.items()}
    if not isinstance(value, str | list | tuple):
        raise ValueError("it must be NAME=VALUE, a list of them, or a mapping")
    found: dict[str, str] = {}
    for entry in [value] if isinstance(value, str) else value:
        name, equals, content = (part.strip() for part in str(entry).partition("="))
        if not (name and equals and content):
            raise ValueError(f"{entry!r} must be NAME=VALUE")
        if found.setdefault(name, content) != content:
            raise ValueError(f"{name} is given twice: as {found[name]!r} and as {content!r}")
    return found


def paths(value: Any) -> dict[str, str]:
    """`NAME=PATH` pairs, as `pairs`, their paths absolute. Raises ValueError."""
    return {name: str(path(file)) for name, file in pairs(value).items()}


def as_text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def duration_s(value: Any) -> float:
    """Seconds as a number, or a text such as `90s`, `30m`, `2h`, `1d`. Raises ValueError for anything else."""
    return real(value) if isinstance(value, Real) else parse_duration_s(text(value))


def size_bytes(value: Any) -> int:
    """Bytes as a number, or a text such as `500MB`, `20GB`. Raises ValueError for anything else."""
    return whole(value) if isinstance(value, Real) else parse_bytes(text(value))


def parse_duration_s(text: str) -> float:
    """`90`, `90s`, `30m`, `2h` or `1d` in seconds. Raises ValueError for anything else."""
    found = DURATION.fullmatch(text.strip().lower())
    if not found or not 0 < float(found[1]) < 1e12:
        raise ValueError(f"a duration is {text!r}; it must be a positive number with s, m, h or d, such as 30m")
    return float(found[1]) * SECONDS[found[2]]


def parse_bytes(text: str) -> int:
    """`500MB`, `20GB` or `1.5TB` in bytes. Raises ValueError for anything else."""
    found = SIZE.fullmatch(text.strip().lower())
    if not found or not 0 < float(found[1]) < 1e12:
        raise ValueError(f"a size is {text!r}; it must be a positive number with MB, GB or TB, such as 20GB")
    return int(float(found[1]) * BYTES[found[2]])
