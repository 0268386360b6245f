"""LastingOutput: a search's lines, which a closed terminal or a reader that has gone cannot make fail"""

from __future__ import annotations

import errno
import os
import termios
from typing import Any, TextIO

STREAMS = (1, 2)
GONE = (errno.EIO, errno.EPIPE)
"""What the kernel answers to writes into a closed terminal and into a pipe that nobody reads (`| head`)."""


class LastingOutput:
    """Stands in for `stream`, such as `sys.stdout`: once nobody can read it any more, what is written goes nowhere.

    A search outlives who looks at it; whether it shall end is said by signals.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError as error:
            self._drop(error)
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._drop(error)

    def _drop(self, error: OSError) -> None:
        if error.errno not in GONE:
            raise error
        gone = self._stream.fileno()
        for number in {gone, *(other for other in STREAMS if is_same(gone, other))}:
            send_nowhere(number)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def drop_closed_terminal() -> bool:
    """Standard output and errors that are a closed terminal go nowhere: also what others write there fails no more.

    Whether there was one.
    """
    was_closed = False
    for number in STREAMS:
        try:
            termios.tcgetattr(number)
        except termios.error as error:
            if error.args[0] in GONE:
                send_nowhere(number)
                was_closed = True
    return was_closed


def send_nowhere(number: int) -> None:
    """What is written to this file descriptor is thrown away from now on."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, number)
    os.close(nowhere)


def is_same(one: int, other: int) -> bool:
    """Whether two file descriptors are the same file."""
    try:
        return os.path.sameopenfile(one, other)
    except OSError:
        return False
