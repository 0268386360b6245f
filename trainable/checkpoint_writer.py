"""A thread that writes a trial's checkpoints, so that training waits for a copy at most."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping
from typing import Any, Self

from trainable.checkpoint import CheckpointStore, Kind, as_json, copy_to_cpu, count_bytes
from trainable.storage import PATIENCE_S, Absence, StorageLostError, outlast

BUSY_SHARE = 0.02
"""Of a trial's time, that its thread may spend on writing what it goes on from."""


class CheckpointWriter:
    """Writes a trial's checkpoints from a thread of its own.

    Between two `newest` checkpoints lie at most `interval_s` seconds: fewer where writing one takes no more than
    `busy_share` of them, since what a lost worker has to repeat is what it trained in between. Of those that come in
    between the latest is kept, and written when its time has come, or by `close` or `hurry`. `best` is written as soon
    as possible.
    Where both together would take more than `max_bytes`, no `newest` is written: `best` is what a champion needs.
    `sizes` holds bytes by kind: those on disk, until then those of the tensors. While the storage is away the latest
    of each kind waits, and is tried again for `patience_s` seconds. An error of the thread is raised by the next call
    of any method: StorageLostError, or another RuntimeError.
    """

    def __init__(
        self,
        store: CheckpointStore,
        interval_s: float = 30.0,
        *,
        busy_share: float = BUSY_SHARE,
        max_bytes: float = math.inf,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self.store = store
        self.patience_s = patience_s
        self.sizes: dict[Kind, int] = {}
        self._interval_s = interval_s
        self._busy_share = busy_share
        self._max_bytes = max_bytes
        self._waiting: dict[Kind, tuple[dict[str, Any], dict[str, Any]]] = {}
        self._writing: Kind | None = None
        self._next_newest_at = time.monotonic()
        self._closed = False
        self._error: Exception | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="checkpoint-writer", daemon=True)
        self._thread.start()

    def load(self, kind: Kind) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """What the store holds (`CheckpointStore.load`); waited for where it is away. Raises StorageLostError."""
        return outlast(self.store.uri, lambda: self.store.load(kind), self.patience_s)

    def facts(self, kind: Kind) -> dict[str, Any] | None:
        """What the store holds says of itself (`CheckpointStore.facts`); else as `load`."""
        return outlast(self.store.uri, lambda: self.store.facts(kind), self.patience_s)

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
            self._interval_s = 0.0
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
        if isinstance(error, StorageLostError):
            raise error
        if error is not None:
            raise RuntimeError(f"a checkpoint could not be written to {self.store.uri}: {error}") from error

    def _run(self) -> None:
        absence = Absence(self.store.uri, self.patience_s)
        while (work := self._next()) is not None:
            kind, state, facts = work
            pause_s, began_s = 0.0, time.monotonic()
            try:
                self.sizes[kind] = self.store.save(kind, state, facts)
                absence.end()
                if kind == "newest" and self._busy_share:
                    soon_at = began_s + (time.monotonic() - began_s) / self._busy_share
                    self._next_newest_at = min(self._next_newest_at, soon_at)
            except OSError as error:
                try:
                    pause_s = absence.bear(error)
                except StorageLostError as lost:
                    self._error = lost
            except Exception as error:
                self._error = error
            with self._changed:
                self._writing = None
                if pause_s:
                    self._waiting.setdefault(kind, (state, facts))
                    self._next_newest_at = min(self._next_newest_at, time.monotonic())
                self._changed.notify_all()
            time.sleep(pause_s)

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
                    self._next_newest_at = time.monotonic() + self._interval_s
                    break
                if self._closed:
                    return None
                self._changed.wait(wait_s if "newest" in self._waiting else None)
            self._writing = kind
            return kind, *self._waiting.pop(kind)
