from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from trainable.worker_memory import SLACK_BYTES, read_gpu_bytes, read_resident_bytes

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
import sys
from trainable.worker_memory import GROWTH, SLACK_BYTES, WorkerMemory, read_resident_bytes

memory = WorkerMemory()
assert memory.comes_back()
num_bytes = int(read_resident_bytes() * (GROWTH - 1)) + 2 * SLACK_BYTES
for _ in range(3):
    block = bytearray(num_bytes)
    block[::4096] = b"x" * len(block[::4096])
    assert not memory.comes_back(), "what is still held must be seen"
    del block
    assert memory.comes_back(), "what was freed must count as given back"
"""


def test_memory_that_is_held_is_seen_and_memory_that_is_freed_comes_back() -> None:
    subprocess.run([sys.executable, "-c", SCRIPT], check=True, cwd=ROOT)


def test_this_process_has_a_resident_size_and_holds_nothing_on_a_gpu() -> None:
    assert read_resident_bytes() > 2**20
    assert read_gpu_bytes() == 0
    assert SLACK_BYTES > 0
