"""Checks of what a user gives: a number that is one, a Python file that is one; nothing of it is run."""

from __future__ import annotations

import ast
import math
from pathlib import Path

from trainable.files import read_text_file
from trainable.suggest import did_you_mean


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
