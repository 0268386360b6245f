"""A thread that writes a trial's checkpoints, so that training waits for a copy at most."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping
from typing import Any, Self

from trainable.checkpoint import CheckpointStore, Kind, as_json, copy_to_cpu, count_bytes


class CheckpointWriter:
    """Writes a trial's checkpoints from a thread of its own.

    Between two `newest` checkpoints lie at least `min_interval_s` seconds; of those that come in between, the
    latest is kept and written when its time has come, or by `close` or `hurry`. `best` is written as soon as possible.
    Where both together would take more than `max_bytes`, no `newest` is written: `best` is what a champion needs.
    `sizes` holds bytes by kind: those on disk, until then those of the tensors. An error of the thread is raised, as
    RuntimeError, by the next call of any method.
    """

    def __init__(self, store: CheckpointStore, min_interval_s: float = 30.0, *, max_bytes: float = math.inf) -> None:
        self.store = store
        self.sizes: dict[Kind, int] = {}
        self._min_interval_s = min_interval_s
        self._max_bytes = max_bytes
        self._waiting: dict[Kind, tuple[dict[str, Any], dict[str, Any]]] = {}
        self._writing: Kind | None = None
        self._next_newest_at = time.monotonic()
        self._closed = False
        self._error: Exception | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="checkpoint-writer", daemon=True)
        self._thread.start()

    def write_newest(self, state: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        """Take a copy of `state`, to be written as `newest` in its time, if there is room for it."""
        if count_bytes(state) + self.sizes.get("best", 0) <= self._max_bytes:
            self._submit("newest", state, facts)

    def write_best(self, state: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        """Take a copy of `state`, to be written as `best` at once."""
        self.sizes["best"] = count_bytes(state)
        self._submit("best", state, facts)

    def hurry(self) -> None:
        """The node is about to go: write the `newest` that waits at once, and from now on each as it comes."""
        with self._changed:
            self._min_interval_s = 0.0
            self._next_newest_at = time.monotonic()
            self._changed.notify_all()

    def wait_for_best(self) -> None:
        """Return when every `best` handed in is durable."""
        with self._changed:
            while self._error is None and ("best" in self._waiting or self._writing == "best"):
                self._changed.wait()
            self._raise_error()

    def close(self, *, keep_newest: bool = True) -> None:
        """Write what waits and end the thread; a waiting `newest` is dropped where nobody will go on from it.

        Safe to call twice.
        """
        with self._changed:
            if not keep_newest:
                self._waiting.pop("newest", None)
            self._closed = True
            self._changed.notify_all()
        self._thread.join()
        self._raise_error()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _submit(self, kind: Kind, state: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        work = copy_to_cpu(state), as_json(facts)
        with self._changed:
            self._raise_error()
            if self._closed:
                raise RuntimeError(f"a checkpoint came for {self.store.uri} after its writer was closed")
            self._waiting[kind] = work
            self._changed.notify_all()

    def _raise_error(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise RuntimeError(f"a checkpoint could not be written to {self.store.uri}: {error}") from error

    def _run(self) -> None:
        while (work := self._next()) is not None:
            kind, state, facts = work
            try:
                self.sizes[kind] = self.store.save(kind, state, facts)
            except Exception as error:
                self._error = error
            with self._changed:
                self._writing = None
                self._changed.notify_all()

    def _next(self) -> tuple[Kind, dict[str, Any], dict[str, Any]] | None:
        """Wait for the next thing to write; None when closed and all is written."""
        with self._changed:
            while True:
                wait_s = self._next_newest_at - time.monotonic()
                if "best" in self._waiting:
                    kind: Kind = "best"
                    break
                if "newest" in self._waiting and (wait_s <= 0 or self._closed):
                    kind = "newest"
                    self._next_newest_at = time.monotonic() + self._min_interval_s
                    break
                if self._closed:
                    return None
                self._changed.wait(wait_s if "newest" in self._waiting else None)
            self._writing = kind
            return kind, *self._waiting.pop(kind)
