"""A search space of the user's own file: loaded, tried along every branch, and its values brought into form.

What is surely meant is cast: `32.0` for a whole number, a NumPy scalar, the text "1e-3" for a number. What is not is
one line with file and line: "False" for a boolean would be true.
"""

from __future__ import annotations

import ast
import json
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import fields
from pathlib import Path
from types import ModuleType
from typing import Any

from search.core.checks import check_python_file, parse_python
from trainable.config import CPU_ARCHITECTURES, GPU_ARCHITECTURES, TrialConfig, is_own_model, is_timm
from trainable.suggest import did_you_mean
from trainable.time_limit import time_limit

Configuration = dict[str, Any]

KINDS: Mapping[str, str] = {entry.name: str(entry.type) for entry in fields(TrialConfig)}
ARCHITECTURES = CPU_ARCHITECTURES + GPU_ARCHITECTURES
LOAD_S, DRAW_S = 60.0, 10.0
"""How long a user's file may take: to be run, where it may import much, and for a draw, which takes milliseconds."""
PLAIN = (bool, int, float, str, type(None))
"""What the values of a configuration may be."""
_NUMBERS = ("int", "float")


class SpaceError(ValueError):
    """A space of the user's own failed as it was run, or gave what is no configuration."""


class _PlainTrial:
    """A trial as a user's space sees it: choices that are NumPy's become Python's, and what no journal keeps is refused
    at the first draw."""

    def __init__(self, trial: Any) -> None:
        self._trial = trial

    def __getattr__(self, name: str) -> Any:
        return getattr(self._trial, name)

    def suggest_categorical(self, name: str, choices: Iterable[Any]) -> Any:
        if isinstance(choices, Set):
            raise ValueError(f"{name} has its choices in a set, which another process orders otherwise; give a list")
        plain = [as_plain(choice) for choice in choices]
        for choice in plain:
            try:
                json.dumps(choice)
            except (TypeError, ValueError):
                raise ValueError(
                    f"{name} has the choice {choice!r}, a {type(choice).__name__}; choices must be numbers, texts, "
                    "True, False, None or lists of them: give names, and look up by them what they stand for"
                ) from None
        return self._trial.suggest_categorical(name, plain)


class OwnSpace:
    """The function `space` of a user's file; what it raises becomes a ValueError with file and line.

    `shown` is the path that the user knows it by.
    """

    def __init__(self, function: Callable[[Any], Any], file: Path, source: str, shown: Path | None = None) -> None:
        self.function = function
        self.file = file
        self.source = source
        self.shown = shown or file

    def __call__(self, trial: Any) -> Configuration | None:
        try:
            with time_limit(DRAW_S):
                drawn = self.function(_PlainTrial(trial))
        except (Exception, SystemExit) as error:
            raise SpaceError(self.explain(error)) from error
        if drawn is not None and not isinstance(drawn, dict):
            raise SpaceError(
                f"{self.place('return')}the space returned {type(drawn).__name__}; it must return a dict, or nothing"
            )
        return drawn

    def explain(self, error: BaseException) -> str:
        """One line: where in the user's file it happened, and what."""
        return f"--space {explain_in_file(error, self.file, self.shown)}"

    def place(self, name: str) -> str:
        """Such as "--space my_space.py, line 7: " where `name` stands in the file, as text or as an argument."""
        number = find_line(self.source, name)
        return f"--space {self.shown}, line {number}: " if number else f"--space {self.shown}: "


def load_own_space(file: Path, *, shown: Path | None = None) -> OwnSpace:
    """Run a user's file and take its function `space`. Raises ValueError, with file and line, where that fails."""
    source = check_python_file(file, "--space", "space")
    shown = shown or file
    module = ModuleType("ctsearch_user_space")
    module.__file__, module.__package__ = str(file), ""
    sys.modules[module.__name__] = module  # dataclasses look a class's module up there
    try:
        with time_limit(LOAD_S):
            exec(compile(parse_python(source, file, "--space"), str(file), "exec"), module.__dict__)
    except (Exception, SystemExit) as error:
        raise ValueError(f"--space {explain_in_file(error, file, shown)}{_explain_import(error, shown)}") from error
    space = getattr(module, "space", None)
    if not callable(space):
        raise ValueError(
            f"--space is {shown}; its `space` is a {type(space).__name__} and must be `def space(trial)` returning a "
            "dict"
        )
    return OwnSpace(space, file, source, shown)


def settle(drawn: Mapping[str, Any]) -> Configuration:
    """The values of a configuration in their form. Raises ValueError naming the hyperparameter and what it must be.

    Names that no trial knows are left as they are; `TrialConfig.from_params` refuses them.
    """
    return {name: _settle_value(name, value) for name, value in drawn.items()}


def as_plain(value: Any) -> Any:
    """A scalar of NumPy as Python's; everything else as it is."""
    is_scalar = type(value).__module__.partition(".")[0] == "numpy" and getattr(value, "ndim", 1) == 0
    return value.item() if is_scalar else value


def _settle_value(name: str, value: Any) -> Any:
    if not isinstance(name, str):
        raise ValueError(f"the configuration has the key {name!r}; keys are names of hyperparameters")
    value = as_plain(value)
    kind = KINDS.get(name)
    if kind == "bool":
        if not isinstance(value, bool):
            raise ValueError(f"{name} is {value!r}; it must be True or False, without quotes")
    elif kind in _NUMBERS:
        value = _settle_number(name, value, whole=kind == "int")
    elif kind == "str":
        if not isinstance(value, str):
            raise ValueError(f"{name} is {value!r}; it must be a text")
        value = str(value)
    return value


def _settle_number(name: str, value: Any, *, whole: bool) -> float:
    wanted = "a whole number" if whole else "a number"
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"{name} is {value!r}; it must be {wanted}")
    try:
        number = value if whole and isinstance(value, int) else float(value)
    except (ValueError, OverflowError):
        raise ValueError(f"{name} is {value!r}; it must be {wanted}") from None
    if number != number or number in (float("inf"), float("-inf")):
        raise ValueError(f"{name} is {value!r}; it must be {wanted}")
    if not whole:
        return float(number)
    if number != int(number):
        raise ValueError(f"{name} is {value!r}; it must be a whole number (trial.suggest_int draws them)")
    return int(number)


def check_draw(space: OwnSpace, drawn: Configuration | None, params: Mapping[str, Any]) -> Configuration:
    """The configuration of one draw. Raises ValueError with the line where the value in question stands."""
    given = dict(params) if drawn is None else drawn
    known = {*KINDS}
    for name in given:
        if name not in known:
            raise ValueError(
                f"{space.place(str(name))}unknown hyperparameter {name}{did_you_mean(str(name), known)}; a space may "
                f"draw: {', '.join(sorted(known))}"
            )
    if "architecture" not in given:
        raise ValueError(f"{space.place('return')}the configuration has no architecture; it must name one")
    if isinstance(name := given["architecture"], str):
        _check_architecture(space, name)
    for name, value in given.items():
        try:
            TrialConfig.from_params({"architecture": ""} | settle({name: value}))
        except ValueError as error:
            raise ValueError(f"{space.place(str(name))}{error}") from error
    return settle(given)


def _check_architecture(space: OwnSpace, name: str) -> None:
    """Raise ValueError for what no trial could build."""
    if is_own_model(name):
        raise ValueError(
            f"{space.place(name)}architecture is {name!r}; a model of your own goes by --arch, with which its file "
            "travels, and cannot be named in a space"
        )
    if is_timm(name):
        from trainable.timm_models import check_timm_name

        try:
            check_timm_name(name)
        except ValueError as error:
            raise ValueError(f"{space.place(name)}{error}") from error
    elif name not in ARCHITECTURES:
        raise ValueError(
            f"{space.place(name)}architecture is {name!r}{did_you_mean(name, ARCHITECTURES)}; it must be one of "
            f"{', '.join(ARCHITECTURES)}, or timm:NAME"
        )


def explain_in_file(error: BaseException, file: Path, shown: Path) -> str:
    """Such as "my_space.py, line 7: KeyError: 'x'": the deepest place in the user's own file."""
    if isinstance(error, SyntaxError) and error.filename == str(file):
        return f"{shown}, line {error.lineno}: {error.msg}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
    words = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    what = f"{type(error).__name__}: {words}" if words else type(error).__name__
    return f"{shown}, line {frames[-1].lineno}: {what}" if frames else f"{shown}: {what}"


def find_line(source: str, name: str) -> int | None:
    """The first line where `name` stands as a text or as a keyword; "return" means the statement."""
    for node in ast.walk(ast.parse(source)):
        is_text = isinstance(node, ast.Constant) and node.value == name
        is_keyword = isinstance(node, ast.keyword) and node.arg == name
        if is_text or is_keyword or (name == "return" and isinstance(node, ast.Return)):
            return getattr(node, "lineno", None)
    return None


def _explain_import(error: BaseException, shown: Path) -> str:
    name = getattr(error, "name", None)
    if not isinstance(error, ImportError) or not name:
        return ""
    top = name.partition(".")[0]
    if not ((shown.parent / f"{top}.py").exists() or (shown.parent / top).is_dir()):
        return ""
    return f"; {top} lies beside {shown.name}, which travels alone: put what it needs into the same file"
