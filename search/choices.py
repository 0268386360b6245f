"""What a user names by hand, checked before Ray starts and before an image is read; imports nothing heavy."""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from search.nets import KNOWN, read_own_net
from search.ranges import parse_range
from trainable.config import is_own_net
from trainable.files import check_regular_file, read_text_file
from trainable.recipes import RECIPES
from trainable.suggest import did_you_mean

if TYPE_CHECKING:
    from search.config import SearchConfig

NO_IMAGENET = ("small_cnn",)


def check_choices(config: SearchConfig) -> None:
    """Raise ValueError, one line, for what --arch, --range, --space, --recipes or --weights name and nobody has.

    The files that they name must be there, be regular files and, where they are Python, be Python. Neither a user's
    code is run nor are weights read here; that needs torch (`choose_nets`, `check_own_nets`).
    """
    for name in config.architectures:
        check_architecture(name)
    for name, text in config.ranges.items():
        parse_range(name, text)
    for name in config.recipes:
        if name not in RECIPES:
            raise ValueError(f"--recipes has {name!r}{did_you_mean(name, RECIPES)}; it must be of {', '.join(RECIPES)}")
    if config.space is not None:
        check_python_file(config.space, "--space", "space")
    check_weight_files(config.weights)


def check_architecture(name: str, option: str = "--arch") -> None:
    """Raise ValueError for an unknown name, and for an own model whose file or function is not there."""
    if is_own_net(name):
        read_own_net(name)
    elif name not in KNOWN:
        hint = did_you_mean(name, KNOWN)
        if name.endswith(".py") or "/" in name:
            hint = f"; a model of your own is FILE.py:FUNCTION, such as {name}:build"
        raise ValueError(
            f"{option} has {name!r}, an unknown architecture{hint}; it must be one of {', '.join(KNOWN)}, or your own "
            "model as FILE.py:FUNCTION"
        )


def check_weight_files(weights: Mapping[str, str]) -> None:
    """`weights` maps architectures to files, or "imagenet" to nothing."""
    for name, file in weights.items():
        if name == "imagenet":
            continue
        if not is_own_net(name):
            check_architecture(name, "--weights")
        check_regular_file(Path(file).expanduser(), f"--weights {name}")


def check_python_file(path: Path, option: str, function: str) -> str:
    """The text of a Python file that defines `function`; nothing of it is run. Raises ValueError with file and line."""
    text = read_text_file(path, option)
    tree = parse_python(text, path, option)
    names: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.ImportFrom | ast.Import):
            names |= {alias.asname or alias.name for alias in node.names}
    if function not in names:
        own = sorted(name for name in names if not name.startswith("_"))
        raise ValueError(
            f"{option} is {path}; it defines no function `{function}`{did_you_mean(function, own)}; it must define "
            f"`def {function}(trial)` returning a dict"
        )
    return text


def parse_python(text: str, path: Path, option: str) -> ast.Module:
    """Raises ValueError naming file and line of what is no Python."""
    try:
        return ast.parse(text, str(path))
    except SyntaxError as error:
        raise ValueError(f"{option} is {path}; {path}, line {error.lineno}: {error.msg}") from error
    except (RecursionError, MemoryError, ValueError) as error:
        raise ValueError(f"{option} is {path}; it cannot be read as Python ({type(error).__name__})") from error


def finite_number(
    option: str, value: float, *, low: float | None = None, high: float | None = None, whole: bool = False
) -> float:
    """`value`, where it is a finite number within `low` and `high`, both included; else ValueError naming `option`."""
    bounds = (
        f"lie between {low:g} and {high:g}"
        if low is not None and high is not None
        else f"be {low:g} or more"
        if low is not None
        else f"be {high:g} or less"
        if high is not None
        else "be a finite number"
    )
    too_low, too_high = low is not None and value < low, high is not None and value > high
    if isinstance(value, bool) or not math.isfinite(value) or too_low or too_high:
        raise ValueError(f"{option} is {value}; it must {bounds}")
    if whole and value != int(value):
        raise ValueError(f"{option} is {value}; it must be a whole number")
    return value
