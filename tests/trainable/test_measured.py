"""What is measured once: read ever after, measured anew where it is damaged, and by one process at a time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from trainable.config import StepPlan
from trainable.measured import remember

CHILD = """
import sys, time
from pathlib import Path
from trainable.measured import remember

def measure():
    with Path(sys.argv[2]).open("a") as file:
        file.write("measured\\n")
    time.sleep(0.5)
    return 7

print(remember(Path(sys.argv[1]), "key", measure, show=int, read=int))
"""


def ask(file: Path | None, found: int, key: str = "a") -> int:
    return remember(file, key, lambda: found, show=int, read=int)


def test_it_is_measured_once_for_each_key_and_each_time_without_a_file(tmp_path: Path) -> None:
    file = tmp_path / "node" / "measured.json"
    assert [ask(file, 1), ask(file, 2), ask(file, 3, "b"), ask(file, 4, "b")] == [1, 1, 3, 3]
    assert json.loads(file.read_text()) == {"a": 1, "b": 3}
    assert [ask(None, 1), ask(None, 2)] == [1, 2]


@pytest.mark.parametrize("content", ["", '{"a": 1', "[1]", "[" * 100_000, "\xff\xfe"])
def test_a_damaged_file_is_measured_anew(content: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "measured.json"
    file.write_bytes(content.encode("latin-1"))
    assert [ask(file, 5), ask(file, 6)] == [5, 5]
    assert caplog.text.count(f"{file} is damaged") == 1


@pytest.mark.parametrize("entry", [None, [], {"precision": "fp7"}, {"speed": 3}, "fp32"])
def test_a_damaged_entry_is_measured_anew_and_the_others_stay(entry: object, tmp_path: Path) -> None:
    file = tmp_path / "measured.json"
    file.write_text(json.dumps({"a": entry, "b": {"precision": "bf16", "memory_format": "channels_last"}}))

    def plan(key: str) -> StepPlan:
        return remember(file, key, StepPlan, show=vars, read=lambda known: StepPlan(**known))

    assert plan("a") == StepPlan()
    assert plan("b").precision == "bf16"
    assert json.loads(file.read_text())["a"] == vars(StepPlan())


def test_of_two_processes_one_measures_and_the_other_waits_for_it(tmp_path: Path) -> None:
    command = [sys.executable, "-c", CHILD, str(tmp_path / "measured.json"), str(tmp_path / "times")]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate(timeout=600)[0].strip() for process in running] == ["7", "7"]
    assert (tmp_path / "times").read_text() == "measured\n"
