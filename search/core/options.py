"""Options: what a field of the configuration is called, how its text is read, and what is said of it.

A field carries its option as metadata; the command line, `--config` files and keywords of the Python API are derived
from it, so that all three take the same values under the same names.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from typing import Any

from search.core.option_values import as_text


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


class Once(argparse.Action):
    """An option that is given once: of two values one would be lost without a word."""

    def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, flag: str | None = None) -> None:
        before = getattr(namespace, self.dest)
        if before not in (None, values):
            raise argparse.ArgumentError(self, f"given twice, as {before!r} and as {values!r}: give it once")
        setattr(namespace, self.dest, values)


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
        action: Any = "append" if entry.repeats else Once
        parser.add_argument(entry.flag, dest=name, choices=entry.choices, help=entry.help, action=action, **shown)
        for flag, (key, metavar, text) in (entry.shortcuts or {}).items():
            parser.add_argument(flag, dest=f"{name}.{key}", metavar=metavar, help=text, action=Once)


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

    Raises OptionError for a value that cannot be, or that is given under two names; TypeError for a keyword that is not
    known, naming near ones.
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
        if keyword not in names and keyword not in shortcuts:
            near = get_close_matches(keyword, [*names, *shortcuts], n=3)
            hint = f"did you mean {' or '.join(near)}?" if near else f"known are {', '.join(sorted(names))}"
            raise TypeError(f"there is no option {keyword!r}; {hint}")
        if value is None:
            continue
        name, key = shortcuts.get(keyword, (names.get(keyword, ""), ""))
        read = {key: as_text(value)} if key else read_value(name, known[name], value)
        if name in taken and not (isinstance(read, dict) and not read.keys() & taken[name].keys()):
            raise OptionError(name, f"is given twice: as {show_value(taken[name])!r} and, by {keyword}, as {read!r}")
        taken[name] = {**taken[name], **read} if name in taken else read
    return taken


def to_arguments(given: Mapping[str, Any], known: Mapping[str, Option]) -> list[str]:
    """Keywords as arguments of a command line, their values as they are: paths may be another machine's.

    Raises TypeError for a keyword that is not known.
    """
    names = {entry.keyword: entry for entry in known.values()} | dict(known)
    shortcuts = {flag.removeprefix("--") for entry in known.values() for flag in entry.shortcuts or ()}
    arguments: list[str] = []
    for keyword, value in given.items():
        if keyword not in names and keyword not in shortcuts:
            raise TypeError(f"there is no option {keyword!r}; known are {', '.join(sorted(names))}")
        if value is None:
            continue
        entry = None if keyword in shortcuts else names[keyword]
        flag, repeats = (entry.flag, entry.repeats) if entry else (f"--{keyword}", False)
        if entry is not None and entry.is_flag:
            arguments += [flag] if read_value(keyword, entry, value) else []
        elif isinstance(value, Mapping):
            for name, content in value.items():
                arguments += [flag, f"{name}={as_text(content)}"]
        else:
            for text in map(as_text, value if repeats and isinstance(value, list | tuple) else [value]):
                arguments += [f"{flag}={text}"] if text.startswith("-") else [flag, text]
    return arguments


def read_value(name: str, entry: Option, value: Any) -> Any:
    """One value. Raises OptionError for one that cannot be read."""
    try:
        return entry.read(value)
    except OptionError:
        raise
    except (ValueError, TypeError) as error:
        shown = str(value) if isinstance(value, Path) else value
        raise OptionError(name, f"is {shown!r}; {error}") from None


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


def require(field: str, value: Any, holds: bool, what: str) -> None:
    """Raises OptionError, which says `what` a value must be, where it does not hold."""
    if not holds:
        raise OptionError(field, f"is {value!r}; it must be {what}")


def require_choice(field: str, value: str, known: tuple[str, ...]) -> None:
    """Raises OptionError for a value that is not among those known."""
    require(field, value, value in known, f"one of {', '.join(known)}")


def require_positive(group: object, *fields: str) -> None:
    """Raises OptionError for the first of the fields that is neither None nor above 0."""
    for name in fields:
        value = getattr(group, name)
        require(name, value, value is None or value > 0, "above 0")
