"""Checkpoints of one trial: tensors and readable facts, checksummed, on a local, shared or S3 folder."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import math
import os
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from pyarrow import fs

Kind = Literal["newest", "best"]
KINDS = ("newest", "best")

_OBJECT_STORES = ("s3", "gcs", "abfs")  # a put is atomic there, and a rename is a copy
_PLAIN = (type(None), bool, int, float, str, bytes)
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class _Record:
    """What KIND.json says: the file that holds the state, its SHA-256, and the caller's facts."""

    file: str
    sha256: str
    facts: dict[str, Any]
    saved_at: float  # Unix time, seconds
    previous: dict[str, Any] | None = None  # the record before this one, without its own `previous`


class CheckpointStore:
    """The checkpoints of one trial in one folder, at most one state of each kind: `newest` and `best`.

    `uri` is a local path or whatever `pyarrow.fs` understands (`s3://bucket/folder`). KIND-0007.pt holds the
    state, KIND.json the facts and the checksum. The JSON is written last and replaced in one step, and only
    then is the older state removed: a writer may be killed at any moment without harm.
    """

    def __init__(self, uri: str | Path) -> None:
        self.uri = str(uri)
        if "://" in self.uri:
            self._fs, self._folder = fs.FileSystem.from_uri(self.uri)
        else:
            self._fs, self._folder = fs.LocalFileSystem(), str(Path(uri).absolute())
        self._folder = self._folder.rstrip("/")
        self._renames = self._fs.type_name not in _OBJECT_STORES

    def save(self, kind: Kind, state: Mapping[str, Any], facts: Mapping[str, Any]) -> int:
        """Replace the checkpoint of this kind; when this returns, it is durable. Returns the state's size in bytes.

        `state` holds tensors, numbers, strings, None and dicts, lists and tuples of them, `facts` what JSON
        can hold; TypeError names the entry that is neither. A float may be NaN or infinite in both: Python's
        own JSON dialect carries it.
        """
        import torch  # here, so that a driver can delete checkpoints without it

        _check_kind(kind)
        old = self._read_record(kind)
        buffer = io.BytesIO()
        torch.save(copy_to_cpu(state, only_from_device=True), buffer)
        older = self._list_states(kind)
        number = 1 + max((int(name.split(".")[0].split("-")[1]) for name in older), default=0)
        record = _Record(
            file=f"{kind}-{number:04d}.pt",
            sha256=hashlib.sha256(buffer.getbuffer()).hexdigest(),
            facts=_as_json(facts),
            saved_at=time.time(),
            previous=asdict(old) | {"previous": None} if old else None,
        )
        self._write(record.file, buffer.getbuffer())
        self._write(f"{kind}.json", json.dumps(asdict(record), indent=1).encode())
        for name in older:
            self._fs.delete_file(f"{self._folder}/{name}")
        return buffer.getbuffer().nbytes

    def load(self, kind: Kind) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """State (tensors on the CPU) and facts of the newest valid checkpoint of this kind, or None.

        A file that is missing, damaged or holds anything but tensors and plain values is skipped, with a
        warning.
        """
        _check_kind(kind)
        record = self._read_record(kind)
        while record is not None:
            try:
                return self._read_state(record), record.facts
            except Exception as error:  # torch.load raises many types for a bad file
                _log.warning("checkpoint %s/%s is skipped: %s", self.uri, record.file, error)
            record = _Record(**record.previous) if record.previous else None
        return None

    def facts(self, kind: Kind) -> dict[str, Any] | None:
        """The facts saved last with this kind, without reading or checking its state; None without any."""
        _check_kind(kind)
        record = self._read_record(kind)
        return record.facts if record else None

    def delete(self, kind: Kind) -> None:
        """Remove the checkpoint of this kind, if there is one."""
        _check_kind(kind)
        for name in [f"{kind}.json", *self._list_states(kind)]:
            with contextlib.suppress(FileNotFoundError):
                self._fs.delete_file(f"{self._folder}/{name}")

    def _list_states(self, kind: Kind) -> list[str]:
        """Names of the state files of this kind, half-written ones of a killed writer included."""
        infos = self._fs.get_file_info(fs.FileSelector(self._folder, allow_not_found=True))
        return [info.base_name for info in infos if re.match(rf"{kind}-\d+\.pt", info.base_name)]

    def _read_record(self, kind: Kind) -> _Record | None:
        try:
            with self._fs.open_input_stream(f"{self._folder}/{kind}.json") as stream:
                return _Record(**json.loads(stream.read()))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError) as error:
            _log.warning("checkpoint %s/%s.json is skipped: %s", self.uri, kind, error)
            return None

    def _read_state(self, record: _Record) -> dict[str, Any]:
        import torch

        with self._fs.open_input_stream(f"{self._folder}/{record.file}") as stream:
            content = stream.read()
        if (found := hashlib.sha256(content).hexdigest()) != record.sha256:
            raise ValueError(
                f"its SHA-256 is {found[:12]}..., {record.sha256[:12]}... was written ({len(content)} bytes)"
            )
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)

    def _write(self, name: str, content: memoryview | bytes) -> None:
        target = f"{self._folder}/{name}"
        aside = f"{target}.part" if self._renames else target
        if self._renames:
            self._fs.create_dir(self._folder, recursive=True)
        with self._fs.open_output_stream(aside) as stream:
            stream.write(content)
        if isinstance(self._fs, fs.LocalFileSystem):
            with Path(aside).open("rb") as file:
                os.fsync(file.fileno())
        if self._renames:
            self._fs.move(aside, target)


class CheckpointWriter:
    """Writes a trial's checkpoints from a thread of its own, so that training waits for a copy at most.

    Between two `newest` checkpoints lie at least `min_interval_s` seconds; of those that come in between, the
    latest is kept and written when its time has come, or by `close`. `best` is written as soon as possible.
    Where both together would take more than `max_bytes`, no `newest` is written: `best` is what a champion needs.
    `sizes` holds the bytes on disk by kind. An error of the thread is raised, as RuntimeError, by the next call of
    any method.
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
        self._submit("best", state, facts)

    def hurry(self) -> None:
        """The node is about to go: what waits is written at once, and so is every `newest` from now on."""
        with self._changed:
            self._min_interval_s, self._next_newest_at = 0.0, time.monotonic()
            self._changed.notify_all()

    def wait_for_best(self) -> None:
        """Return when every `best` handed in is durable."""
        with self._changed:
            while self._error is None and ("best" in self._waiting or self._writing == "best"):
                self._changed.wait()
            self._raise_error()

    def close(self, *, write_waiting: bool = True) -> None:
        """Write what waits (or drop it) and end the thread. Safe to call twice."""
        with self._changed:
            if not write_waiting:
                self._waiting.clear()
            self._closed = True
            self._changed.notify_all()
        self._thread.join()
        self._raise_error()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _submit(self, kind: Kind, state: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        work = copy_to_cpu(state), _as_json(facts)
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


def copy_to_cpu(state: Mapping[str, Any], *, only_from_device: bool = False) -> dict[str, Any]:
    """A copy of nested dicts, lists and tuples, with tensors on the CPU, cloned unless `only_from_device`.

    Raises TypeError naming the first entry that `torch.load(weights_only=True)` would refuse.
    """

    import torch

    def copy(value: Any, where: str) -> Any:
        if isinstance(value, torch.Tensor):
            return value.detach().to("cpu", copy=not only_from_device)
        if isinstance(value, Mapping):
            return {copy(key, where): copy(entry, f"{where}.{key}") for key, entry in value.items()}
        if isinstance(value, np.generic):
            return value.item()
        if type(value) in (list, tuple):
            return type(value)(copy(entry, f"{where}.{i}") for i, entry in enumerate(value))
        if type(value) in _PLAIN:
            return value
        raise TypeError(
            f"{where} is a {type(value).__qualname__}; a checkpoint holds tensors, numbers, strings, None, "
            "dicts, lists and tuples only: convert it"
        )

    return copy(state, "state")


def count_bytes(state: Any) -> int:
    """What the tensors in nested dicts, lists and tuples take, without what else a file of them holds."""
    if isinstance(state, Mapping):
        return sum(map(count_bytes, state.values()))
    if isinstance(state, list | tuple):
        return sum(map(count_bytes, state))
    return getattr(state, "nbytes", 0)


def _as_json(facts: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return json.loads(json.dumps(dict(facts), default=_as_number))
    except TypeError as error:
        raise TypeError(f"facts of a checkpoint must be what JSON can hold: {error}") from error


def _as_number(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"a {type(value).__qualname__} came")


def _check_kind(kind: str) -> None:
    if kind not in KINDS:
        raise ValueError(f"kind of checkpoint is {kind!r}; it must be one of {', '.join(KINDS)}")
