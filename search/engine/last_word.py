"""LastWord: a small process that outlives a driver which ends without a word, and says what died and how to go on.

Ray ends the process that it runs in where its head or its raylet is gone, from its own threads and at once; the kernel
does so where memory ends. Nothing in that process can speak then. Run as a script this file needs the standard library
alone: it holds a few MB.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

LOOK_S = 0.2
ADVICE = (
    "has died, killed by somebody or for want of memory; nothing that was reported is lost: go on with "
    "ctsearch search --resume"
)


class LastWord:
    """Watches this process and `parts` of it (process ids by name) until `close`.

    It learns of this process's death by the end of a pipe that nothing else holds.
    """

    def __init__(self, name: str, parts: Mapping[str, int]) -> None:
        watched = [f"{pid}:{what}" for what, pid in parts.items()]
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, name, str(os.getpid()), *watched],
            stdin=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C and a closed terminal are not meant for it
        )

    def close(self) -> None:
        """Nothing is left to be said. Safe to call twice."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            try:
                self._process.stdin.write(b".")
                self._process.stdin.close()
            except BrokenPipeError:  # it has ended, for whatever reason
                pass
            self._process.wait()


def describe_death(name: str, what: str, pid: int) -> str:
    """The line for a part of Ray, or for the driver itself, that has died."""
    return f"{what} on this machine (process {pid}) {ADVICE} {name}"


def is_gone(pid: int) -> bool:
    """Whether a process has ended, be it that nobody has waited for it."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return True
    return state in "ZX"


def watch(name: str, driver: int, parts: Mapping[str, int]) -> None:
    """Wait for the driver's word, or for its death; then say of what."""
    first: list[str] = []  # on a busy machine one look may find several
    while True:
        first = first or [what for what, pid in parts.items() if is_gone(pid)]
        if not select.select([sys.stdin], [], [], LOOK_S)[0]:
            continue
        if os.read(sys.stdin.fileno(), 1):
            return
        first = first or [what for what, pid in parts.items() if is_gone(pid)]
        what, pid = (f"Ray's {' and '.join(first)}", parts[first[0]]) if first else ("the search", driver)
        print(f"ctsearch: {describe_death(name, what, pid)}", flush=True)
        return


def main() -> None:
    name, driver, *watched = sys.argv[1:]
    parts = {what: int(pid) for pid, _, what in (part.partition(":") for part in watched)}
    try:
        watch(name, int(driver), parts)
    except OSError:  # nobody reads any more
        sys.exit(1)


if __name__ == "__main__":
    main()
