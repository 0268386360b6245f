"""A driver that dies without a word: a process beside it says what died first, and how to go on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DRIVER = """
import subprocess, sys
from search.engine.last_word import LastWord
part = subprocess.Popen(["sleep", "300"], stdin=-3, stdout=-3, stderr=-3)  # nowhere
word = LastWord("first", {"raylet": part.pid})
print(part.pid, flush=True)
sys.stdin.readline()
word.close()
word.close()
part.kill()
"""


@pytest.mark.parametrize("killed", ["the driver", "a part, then the driver", "nothing"])
def test_what_died_first_is_said_once_and_nothing_where_all_is_well(killed: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", DRIVER],
        cwd=ROOT,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as driver:
        assert driver.stdout is not None
        part = int(driver.stdout.readline())
        try:
            if killed.startswith("a part"):
                os.kill(part, signal.SIGKILL)
            if killed != "nothing":
                driver.kill()
            output = driver.communicate("done\n", timeout=300)[0]
        finally:
            if killed == "the driver":
                os.kill(part, signal.SIGKILL)
    shown = {
        "the driver": f"ctsearch: the search on this machine (process {driver.pid}) has died",
        "a part, then the driver": f"ctsearch: Ray's raylet on this machine (process {part}) has died",
        "nothing": "",
    }[killed]
    assert output.startswith(shown) and output.count("\n") == bool(shown), output
    assert output.endswith("ctsearch search --resume first\n") or not shown
