"""The table of DESIGN.md: which room may touch which library, and that imports run one way."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("search", "trainable", "mlflow_server")
FILES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
TRIAL_FILES = {"trainable/trial.py", "trainable/distributed.py", "trainable/node.py"}
MODEL_FILES = {"trainable/run_log.py", "trainable/classify.py", "trainable/export.py"}


def imported(path: Path, *, inside_functions: bool) -> Iterator[str]:
    """Names of the modules a file imports: at its top, or inside its functions. Types for mypy do not count."""

    def walk(node: ast.AST, in_function: bool) -> Iterator[str]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
            inside = in_function or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
            if inside == inside_functions:
                if isinstance(child, ast.Import):
                    yield from (alias.name for alias in child.names)
                elif isinstance(child, ast.ImportFrom) and child.module and not child.level:
                    yield child.module
            yield from walk(child, inside)

    return walk(ast.parse(path.read_text()), False)


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def forbidden(name: str) -> tuple[set[str], set[str]]:
    """Libraries that a file may import nowhere, and those it may import inside functions only."""
    if name.startswith("search/"):
        nowhere = {"torch", "torchvision", "PIL"}
        if name != "search/engine/searcher.py":
            nowhere |= {"optuna"}
        return (nowhere | {"mlflow"} if name == "search/engine/searcher.py" else nowhere), set()
    if name.startswith("mlflow_server/"):
        return {"trainable", "search", "ray", "optuna", "torch"}, set()
    if name in TRIAL_FILES:
        return {"optuna", "search", "mlflow"}, set()
    if name in MODEL_FILES:
        return {"ray", "optuna", "search"}, {"mlflow"}
    return {"ray", "optuna", "mlflow", "search"}, set()


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_file_touches_only_what_its_room_may(path: Path) -> None:
    nowhere, only_inside = forbidden(name_of(path))
    at_top = {module.split(".")[0] for module in imported(path, inside_functions=False)}
    inside = {module.split(".")[0] for module in imported(path, inside_functions=True)}
    assert not (at_top | inside) & nowhere
    assert not at_top & only_inside


@pytest.mark.parametrize("path", [p for p in FILES if name_of(p).startswith("search/")], ids=name_of)
def test_no_module_but_cli_imports_the_driver(path: Path) -> None:
    modules = {*imported(path, inside_functions=False), *imported(path, inside_functions=True)}
    if name_of(path) not in ("search/cli.py", "search/run.py"):
        assert not modules & {"search.cli", "search.run"}


@pytest.mark.parametrize("room", ROOMS)
def test_no_module_in_a_scripts_folder_bears_the_name_of_a_library(room: str) -> None:
    libraries = {
        "ray",
        "optuna",
        "mlflow",
        "torch",
        "torchvision",
        "numpy",
        "pandas",
        "PIL",
        "rich",
        "sklearn",
    }
    names = {path.stem for path in (ROOT / room).glob("*.py")} - {"__init__"}
    assert not names & (libraries | set(sys.stdlib_module_names))


def test_run_py_defines_nothing_that_is_pickled() -> None:
    tree = ast.parse((ROOT / "search/run.py").read_text())
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef | ast.Lambda)]
