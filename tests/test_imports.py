"""The table of DESIGN.md: which room may touch which library, and that imports run one way."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("search", "trainable", "mlflow_server")
FILES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
TRIAL_FILES = {"trainable/trial.py", "trainable/distributed.py", "trainable/node.py"}
MODEL_FILES = {
    "trainable/run_log.py",
    "trainable/retry_queue.py",
    "trainable/classifier.py",
    "trainable/classify.py",
    "trainable/export.py",
}


@cache
def imported(path: Path, *, inside_functions: bool) -> frozenset[str]:
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

    return frozenset(walk(ast.parse(path.read_text()), False))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


LIBRARIES = {"ray", "optuna", "mlflow", "rich"}
PIXELS = {"torch", "torchvision", "PIL"}
OPTUNA_FILES = {
    f"search/engine/{name}.py" for name in ("study", "study_file", "draft", "sampling", "quick_tpe", "space_probe")
}
MAY_TOUCH = {
    "search/core": set[str](),
    "search/page": set[str](),
    "search/preparation": {"ray"},
    "search/engine": {"ray", "rich"},
    "search/observers": {"mlflow", "rich"},
    "search/champion": {"mlflow", "rich"},
    "search/commands": {"ray", "mlflow", "rich"},
    "search": LIBRARIES - {"optuna"},
}
"""The libraries of a search's rooms; optuna is known to these files alone."""
ROOMS_TOUCH = {
    "search/core": set[str](),
    "search/engine": {"core"},
    "search/page": {"core"},
    "search/observers": {"core"},
    "search/champion": {"core", "page"},
    "search/preparation": {"core", "engine"},
}
"""The rooms that a room may import from, beside its own; the others may import from all."""


def room_of(name: str) -> str:
    return name.rpartition("/")[0]


def forbidden(name: str) -> tuple[set[str], set[str]]:
    """Libraries that a file may import nowhere, and those it may import inside functions only."""
    if name.startswith("search/"):
        may = MAY_TOUCH[room_of(name)] | ({"optuna"} if name in OPTUNA_FILES else set())
        return (LIBRARIES | PIXELS) - may, set()
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


@pytest.mark.parametrize("path", [p for p in FILES if room_of(name_of(p)) in ROOMS_TOUCH], ids=name_of)
def test_a_room_of_search_imports_only_from_the_rooms_below_it(path: Path) -> None:
    own = room_of(name_of(path)).removeprefix("search/")
    modules = {*imported(path, inside_functions=False), *imported(path, inside_functions=True)}
    rooms = {module.split(".")[1] for module in modules if module.startswith("search.")}
    assert rooms <= ROOMS_TOUCH[f"search/{own}"] | {own}


@pytest.mark.parametrize("path", [p for p in FILES if name_of(p).startswith("search/")], ids=name_of)
def test_no_module_imports_the_command_line_or_the_script_door(path: Path) -> None:
    modules = {*imported(path, inside_functions=False), *imported(path, inside_functions=True)}
    if name_of(path) != "search/run.py":
        assert not modules & {"search.cli", "search.run"}


def test_imports_run_one_way_without_a_circle() -> None:
    imports = {
        name_of(path).removesuffix(".py").replace("/", "."): imported(path, inside_functions=False) for path in FILES
    }
    seen: set[str] = set()

    def visit(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, f"a circle: {' -> '.join((*way, module))}"
        if module not in seen:
            for other in sorted(imports.get(module, ())):
                visit(other, (*way, module))
            seen.add(module)

    for module in sorted(imports):
        visit(module, ())


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
