"""The quick tier looks into every room, and starts no service."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.tiers import NOT_QUICK, is_quick, put_quick_files_last

ROOMS = (
    *("search/core", "search/preparation", "search/observers", "search/engine", "search/champion", "search/commands"),
    *("trainable", "trainable/images", "mlflow_server", "cluster", "faults", "examples"),
)


def item(name: str, *fixtures: str, slow: bool = False) -> Any:
    mark = pytest.mark.slow.mark if slow else None
    return SimpleNamespace(
        nodeid=f"tests/{name}",
        path=name.partition("::")[0],
        fixturenames=fixtures,
        get_closest_marker=lambda _: mark,
    )


def test_what_is_slow_starts_a_service_or_is_listed_is_not_quick() -> None:
    assert is_quick(item("search/core/test_space.py::test_a", "tmp_path"))
    assert not is_quick(item("search/core/test_space.py::test_a", "tmp_path", "mlflow_server"))
    assert not is_quick(item("search/core/test_space.py::test_a", slow=True))
    assert not is_quick(item(f"{NOT_QUICK[0]}::test_a"))


def test_files_of_quick_tests_alone_come_last_and_files_stay_whole() -> None:
    quick, mixed, also_mixed = item("b.py::test_a"), item("c.py::test_a"), item("c.py::test_b", slow=True)
    items = [item("a.py::test_a"), quick, mixed, also_mixed, item("d.py::test_a", "cluster")]
    put_quick_files_last(items)
    assert [found.path for found in items] == ["c.py", "c.py", "d.py", "a.py", "b.py"]
    assert items[0] is mixed


def test_what_is_listed_as_not_quick_is_there() -> None:
    for name in NOT_QUICK:
        file, _, function = name.partition("::")
        path = ROOT / "tests" / file
        assert path.exists(), name
        assert f"def {function}" in path.read_text(), name


@pytest.mark.slow
def test_every_room_has_quick_tests() -> None:
    command = [sys.executable, "-m", "pytest", "-m", "quick", "--collect-only", "-q", "-p", "no:cacheprovider"]
    output = subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout
    folders = {line.partition("::")[0].rpartition("/")[0] for line in output.splitlines() if "::" in line}
    assert {f"tests/{room}" for room in ROOMS} <= folders
