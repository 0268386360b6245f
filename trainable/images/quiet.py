"""Silence for parsers, which warn of what is an error here or of no use to anybody."""

from __future__ import annotations

import threading
import warnings


class Quiet:
    """No warnings from parsers while anybody is inside: what cannot be used is an error.

    Filters are the process's, and setting them costs a third of decoding a small image: the first one in sets them,
    the last one out sets them back. Who decodes many images goes in once around them all.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._num_inside = 0
        self._filters = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            self._num_inside += 1
            if self._num_inside == 1:
                self._filters = warnings.catch_warnings()
                self._filters.__enter__()
                warnings.simplefilter("ignore")

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._num_inside -= 1
            if self._num_inside == 0:
                self._filters.__exit__(None, None, None)


quiet = Quiet()
