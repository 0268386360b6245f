"""Proof that a warm worker's memory came back after a trial, on the host and on the GPU."""

from __future__ import annotations

import ctypes
import gc
import math
import os
import sys
from pathlib import Path

GROWTH = 1.5
SLACK_BYTES = 256 * 2**20
GPU_SLACK_BYTES = 16 * 2**20


# Parameters of mallopt(3), by their numbers in glibc's malloc.h.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3


class WorkerMemory:
    """Compares what a process holds between trials with what it held after its first."""

    def __init__(self) -> None:
        self.first_bytes: int | None = None

    def comes_back(self) -> bool:
        """Give back what is free, then judge: at most half as much again as after the first trial, and an empty GPU.

        A quarter of a gigabyte is granted on top, so that models of different sizes do not count as a leak. What is
        left is not looked through for garbage again (15 to 45 ms a trial) before memory seems not to come back.
        """
        if self._gives_back():
            return True
        gc.unfreeze()
        return self._gives_back()

    def _gives_back(self) -> bool:
        give_back()
        gc.freeze()
        held = read_resident_bytes()
        if self.first_bytes is None:
            self.first_bytes = held
        return held <= GROWTH * self.first_bytes + SLACK_BYTES and read_gpu_bytes() <= GPU_SLACK_BYTES


def give_back() -> None:
    """Drop garbage, and let allocators return what they keep for reuse."""
    gc.collect()
    if (torch := sys.modules.get("torch")) is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)


def keep_freed_memory() -> None:
    """Let this process keep what it frees, until `give_back`: for one that trains.

    glibc gives a step's large tensors back to the kernel and faults them in again at every step, unless told to keep
    them (mallopt(3)): up to half of a training process's time on a CPU (benchmarks/LOG.md). Elsewhere nothing is done.
    """
    if sys.platform == "linux" and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)) is not None:
        mallopt(M_MMAP_THRESHOLD, 10**9)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(M_TOP_PAD, 64 * 2**20)


def read_resident_bytes() -> int:
    """Resident memory of this process; 0 where the system does not tell (proc(5))."""
    file = Path("/proc/self/statm")
    return int(file.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if file.exists() else 0


def read_free_bytes() -> float:
    """Memory that this machine, or the container it is in, has free; infinite where the system does not tell."""
    file = Path("/proc/meminfo")
    if not file.exists():
        return math.inf
    free = next(
        int(line.split()[1]) * 1024 for line in file.read_text().splitlines() if line.startswith("MemAvailable")
    )
    group = Path("/sys/fs/cgroup")  # cgroup v2; its page cache counts as used and is as good as free
    limit = group / "memory.max"
    if limit.exists() and (most := limit.read_text().strip()).isdecimal():
        cached = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())["inactive_file"]
        free = min(free, int(most) - int((group / "memory.current").read_text()) + int(cached))
    return free


def read_gpu_bytes() -> int:
    """What this process's tensors hold on its GPUs."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return 0
    return sum(torch.cuda.memory_allocated(index) for index in range(torch.cuda.device_count()))
