"""Options: what a field of the configuration is called, how its text is read, and what is said of it.

A field carries its option as metadata; the command line, `--config` files and keywords of the Python API are derived
from it, so that all three take the same values under the same names.
"""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from typing import Any

DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd]?)")
SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)b?")
BYTES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class OptionError(ValueError):
    """A value that cannot be: `text` says what came, what must hold and what to do. `field` names it in Python."""

    def __init__(self, field: str, text: str) -> None:
        super().__init__(f"{field} {text}")
        self.field = field
        self.text = text


@dataclass(frozen=True, kw_only=True)
class Option:
    """`flag` is the option's name on the command line, `keyword` elsewhere. `read` makes the value of a text, a number,
    a list or a mapping. `is_flag` options take no value; `repeats` ones are given several times. `shortcuts` are flags
    of their own for one entry of a mapping.
    """

    flag: str
    help: str
    metavar: str | None = None
    read: Callable[[Any], Any] = lambda value: value
    choices: tuple[str, ...] | None = None
    is_flag: bool = False
    repeats: bool = False
    shortcuts: Mapping[str, tuple[str, str, str]] | None = None

    @property
    def keyword(self) -> str:
        return self.flag.removeprefix("--").replace("-", "_")


def option(
    flag: str, help: str, *, default: Any = None, factory: Callable[[], Any] | None = None, **others: Any
) -> Any:
    """A field of a group of options."""
    metadata = {"option": Option(flag=flag, help=help, **others)}
    if factory is not None:
        return field(default_factory=factory, metadata=metadata)
    return field(default=default, metadata=metadata)


def list_options(group: type) -> list[tuple[str, Option]]:
    """The fields that a group adds to those that it inherits, each with its option."""
    inherited = {name for base in group.__mro__[1:] for name in getattr(base, "__annotations__", {})}
    known: Iterable[Field[Any]] = fields(group)
    return [(f.name, f.metadata["option"]) for f in known if f.name not in inherited and "option" in f.metadata]


def add_arguments(parser: Any, options: Iterable[tuple[str, Option]], only: Sequence[str] | None = None) -> None:
    """Add options to a parser, or a group of one; `only` names the fields that are wanted. None means not given."""
    for name, entry in options:
        if only is not None and name not in only:
            continue
        if entry.is_flag:
            parser.add_argument(entry.flag, dest=name, action="store_true", default=None, help=entry.help)
            continue
        shown = {"metavar": entry.metavar} if entry.metavar else {}
        action = {"action": "append"} if entry.repeats else {}
        parser.add_argument(entry.flag, dest=name, choices=entry.choices, help=entry.help, **shown, **action)
        for flag, (key, metavar, text) in (entry.shortcuts or {}).items():
            parser.add_argument(flag, dest=f"{name}.{key}", metavar=metavar, help=text)


def read_arguments(args: argparse.Namespace, known: Mapping[str, Option]) -> dict[str, Any]:
    """What was given on a command line, by the names of the fields. Raises OptionError."""
    given = {name: value for name, value in vars(args).items() if value is not None}
    taken = {name: given[name] for name in known if name in given}
    for name, entry in known.items():
        for key, *_ in (entry.shortcuts or {}).values():
            if f"{name}.{key}" in given:
                taken[name] = [*taken.get(name, ()), f"{key}={given[f'{name}.{key}']}"]
    return {name: read_value(name, known[name], value) for name, value in taken.items()}


def read_keywords(given: Mapping[str, Any], known: Mapping[str, Option]) -> dict[str, Any]:
    """What was given by keyword (the flag's name or the field's), by the names of the fields.

    Raises OptionError for a value that cannot be, TypeError for a keyword that is not known, naming near ones.
    """
    from difflib import get_close_matches

    names = {entry.keyword: name for name, entry in known.items()} | {name: name for name in known}
    shortcuts = {
        flag.removeprefix("--").replace("-", "_"): (name, key)
        for name, entry in known.items()
        for flag, (key, *_) in (entry.shortcuts or {}).items()
    }
    taken: dict[str, Any] = {}
    for keyword, value in given.items():
        if keyword in shortcuts:
            name, key = shortcuts[keyword]
            taken[name] = {**taken.get(name, {}), key: _as_text(value)}
        elif keyword in names:
            name = names[keyword]
            read = None if value is None else read_value(name, known[name], value)
            taken[name] = {**taken[name], **read} if isinstance(taken.get(name), dict) and read else read
        else:
            near = get_close_matches(keyword, [*names, *shortcuts], n=3)
            hint = f"did you mean {' or '.join(near)}?" if near else f"known are {', '.join(sorted(names))}"
            raise TypeError(f"there is no option {keyword!r}; {hint}")
    return {name: value for name, value in taken.items() if value is not None}


def to_arguments(given: Mapping[str, Any], known: Mapping[str, Option]) -> list[str]:
    """Keywords as arguments of a command line, their values as they are: paths may be another machine's.

    Raises TypeError for a keyword that is not known.
    """
    names = {entry.keyword: entry for entry in known.values()} | dict(known)
    shortcuts = {flag.removeprefix("--") for entry in known.values() for flag in entry.shortcuts or ()}
    arguments: list[str] = []
    for keyword, value in given.items():
        if keyword in shortcuts:
            arguments += [f"--{keyword}", str(value)]
            continue
        if keyword not in names:
            raise TypeError(f"there is no option {keyword!r}; known are {', '.join(sorted(names))}")
        entry = names[keyword]
        if entry.is_flag:
            arguments += [entry.flag] if value else []
        elif isinstance(value, Mapping):
            for name, content in value.items():
                arguments += [entry.flag, f"{name}={_as_text(content)}"]
        elif value is not None:
            arguments += [entry.flag, _as_text(value)]
    return arguments


def read_value(name: str, entry: Option, value: Any) -> Any:
    """One value. Raises OptionError for one that cannot be read."""
    try:
        return entry.read(value)
    except OptionError:
        raise
    except (ValueError, TypeError) as error:
        raise OptionError(name, f"is {value!r}; {error}") from None


def show_value(value: Any) -> Any:
    """A value as a `--config` file holds it."""
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple):
        return list(value)
    return dict(value) if isinstance(value, Mapping) else value


def defaults(group: type) -> Iterator[tuple[str, Any]]:
    """The default of every field."""
    for entry in fields(group):
        made = entry.default if entry.default is not MISSING else entry.default_factory
        yield entry.name, made() if entry.default is MISSING and callable(made) else made


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
        return {text(name): _as_text(entry) for name, entry in value.items()}
    found = {}
    for entry in [value] if isinstance(value, str) else value:
        name, equals, content = str(entry).partition("=")
        if not (name.strip() and equals and content.strip()):
            raise ValueError(f"{entry!r} must be NAME=VALUE")
        found[name.strip()] = content.strip()
    return found


def _as_text(value: Any) -> str:
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
