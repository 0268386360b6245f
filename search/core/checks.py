"""Checks of a Python file that a user gives: it is one, and defines what it must; nothing of it is run."""

from __future__ import annotations

import ast
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
