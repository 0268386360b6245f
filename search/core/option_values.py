"""Values of options: each reader takes what a command line, a file or a keyword gives, or raises ValueError."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd]?)")
SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)b?")
BYTES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def whole(value: Any) -> int:
    """A whole number, from a number or its text. Raises ValueError for anything else."""
    number = real(value)
    if number != int(number):
        raise ValueError("it must be a whole number")
    return int(number)


def real(value: Any) -> float:
    """A finite number, from a number or its text. Raises ValueError for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
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
    """A text; a number is taken as it is written. Raises ValueError for anything else."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError("it must be a text")
    return str(value)


def path(value: Any) -> Path:
    """A path, absolute from here on: workers have another working directory. Raises ValueError for anything else."""
    if not isinstance(value, str | Path) or not str(value) or "\0" in str(value):
        raise ValueError("it must be a path")
    return Path(value).expanduser().absolute()


def names(value: Any) -> tuple[str, ...]:
    """`A,B,C` or a list. Raises ValueError for anything else."""
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list | tuple):
        raise ValueError("it must be names, separated by commas, or a list of them")
    return tuple(dict.fromkeys(part for part in (text(part).strip() for part in parts) if part))


def pairs(value: Any) -> dict[str, str]:
    """`NAME=VALUE`, several of them, or a mapping; a list of values is joined by commas. Raises ValueError."""
    if isinstance(value, Mapping):
        return {text(name): as_text(entry) for name, entry in value.items()}
    found = {}
    for entry in [value] if isinstance(value, str) else value:
        name, equals, content = str(entry).partition("=")
        if not (name.strip() and equals and content.strip()):
            raise ValueError(f"{entry!r} must be NAME=VALUE")
        found[name.strip()] = content.strip()
    return found


def as_text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def duration_s(value: Any) -> float:
    """Seconds as a number, or a text such as `90s`, `30m`, `2h`, `1d`. Raises ValueError for anything else."""
    return real(value) if isinstance(value, int | float) else parse_duration_s(text(value))


def size_bytes(value: Any) -> int:
    """Bytes as a number, or a text such as `500MB`, `20GB`. Raises ValueError for anything else."""
    return whole(value) if isinstance(value, int | float) else parse_bytes(text(value))


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
