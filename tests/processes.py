"""What runs on this machine, read without starting a process."""

from __future__ import annotations

import psutil


def command_lines() -> list[str]:
    """The command line of each process; one that has ended and waits to be collected has none."""
    return [" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])]
