"""The house in numbers: how long functions are, how many parameters they take, and where rules about values stand.

python tests/test_house.py        prints the longest of each
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAX_LINES, MAX_PARAMETERS = 80, 8
PARSER = {"search/command_parser.py:build_parser"}
SAYS_OUTCOMES = {
    *("search/core/decisions.py", "search/core/board.py", "search/core/stopping.py", "search/core/curve_file.py"),
}
"""The pure protocol of rules, and its files, which know no class of a worker's."""


MAX_FILE_LINES = 300
ROOMS = ("search", "trainable", "mlflow_server", "benchmarks", "docs", "examples", "tests")


@dataclass(frozen=True)
class Function:
    """A function or method of the house."""

    name: str
    num_lines: int
    num_parameters: int


def list_functions(room: str) -> Iterator[Function]:
    for path in sorted((ROOT / room).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                given = node.args
                names = [entry.arg for entry in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
                own = [name for name in names if name not in ("self", "cls")]
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                yield Function(f"{path.relative_to(ROOT).as_posix()}:{node.name}", lines, len(own))


FUNCTIONS = list(list_functions("search"))


def test_no_function_of_the_driver_is_longer_than_a_screen() -> None:
    assert [f for f in FUNCTIONS if f.num_lines > MAX_LINES and f.name not in PARSER] == []


def test_no_function_of_the_driver_takes_more_parameters_than_one_can_remember() -> None:
    assert [f for f in FUNCTIONS if f.num_parameters > MAX_PARAMETERS] == []


@pytest.mark.parametrize("name", ["search", "conduct"])
def test_the_flow_of_a_search_is_read_in_one_screen(name: str) -> None:
    (found,) = (f for f in FUNCTIONS if f.name == f"search/session.py:{name}")
    assert found.num_lines <= 45


def test_outcomes_and_directions_are_named_in_one_place() -> None:
    """The four outcomes are texts in `trainable/report.py` and in the pure protocol of rules, nowhere else."""
    quoted = re.compile(r'"(completed|stopped|interrupted)"')
    files = [path for path in (ROOT / "search").rglob("*.py") if quoted.search(path.read_text())]
    assert {path.relative_to(ROOT).as_posix() for path in files} <= SAYS_OUTCOMES


def test_no_file_is_longer_than_can_be_read_at_once() -> None:
    files = [ROOT / "ctsearch.py", *(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))]
    long = {path.relative_to(ROOT).as_posix() for path in files if len(path.read_text().splitlines()) > MAX_FILE_LINES}
    assert long == set(), "cut these by subject"


if __name__ == "__main__":
    for title, key in (("lines", "num_lines"), ("parameters", "num_parameters")):
        print(title)
        for function in sorted(FUNCTIONS, key=lambda f: -getattr(f, key))[:10]:
            print(f"  {getattr(function, key):4d}  {function.name}")
