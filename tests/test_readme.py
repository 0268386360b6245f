"""What the README promises: its two commands, and one true line for every file."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def test_every_source_file_has_its_line() -> None:
    rooms = ("search", "trainable", "mlflow_server", "benchmarks")
    files = {
        path.relative_to(ROOT).as_posix()
        for room in rooms
        for path in (ROOT / room).rglob("*.py")
        if path.name != "__init__.py"
    }
    listed = set(re.findall(r"^\| `([a-z_/0-9]+\.py)` \|", README, re.MULTILINE))
    assert listed == files


def test_each_command_is_one_line_that_makes_its_own_environment() -> None:
    commands = [line for line in README.splitlines() if line.startswith("python3 -m venv .venv && ")]
    assert len(commands) == 2
    assert commands[0].endswith("pip install -c constraints.txt -e . && python search/run.py")
    assert commands[1].endswith("python -m pytest")


def test_constraints_name_versions_and_no_addresses() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[A-Za-z0-9_.!+-]+", line) for line in lines if not line.startswith("#"))
