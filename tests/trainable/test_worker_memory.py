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


def test_what_was_in_use_when_garbage_was_sought_is_found_when_memory_does_not_come_back() -> None:
    script = """
from trainable.worker_memory import GROWTH, SLACK_BYTES, WorkerMemory, read_resident_bytes

class Ring:
    def __init__(self):
        self.itself, self.block = self, b""

ring, memory = Ring(), WorkerMemory()
assert memory.comes_back()
num_bytes = int(read_resident_bytes() * (GROWTH - 1)) + 2 * SLACK_BYTES
ring.block = bytearray(num_bytes)
ring.block[::4096] = b"x" * len(ring.block[::4096])
del ring
assert memory.comes_back()
"""
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT)


def test_kept_memory_is_not_faulted_in_again() -> None:
    script = """
import resource, sys
import torch
from trainable.worker_memory import give_back, keep_freed_memory, read_resident_bytes

def count_faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        torch.ones(16 * 2**20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

PAGES = 64 * 2**20 // resource.getpagesize()
keep_freed_memory()
assert min(count_faults() for _ in range(8)) < PAGES / 2, "five times 64 MB from memory that was kept"
held = read_resident_bytes()
give_back()
assert held - read_resident_bytes() > 32 * 2**20
"""
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT)


def test_this_process_has_a_resident_size_and_holds_nothing_on_a_gpu() -> None:
    assert read_resident_bytes() > 2**20
    assert read_gpu_bytes() == 0
    assert SLACK_BYTES > 0
