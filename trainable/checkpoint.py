"""Checkpoints of one trial: tensors and readable facts, checksummed, on a local, shared or S3 folder."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import logging
import os
import re
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pyarrow import fs

from trainable.files import check_regular_file

Kind = Literal["newest", "best"]
KINDS = ("newest", "best")

_OBJECT_STORES = ("s3", "gcs", "abfs")  # a put is atomic there, and a rename is a copy
_OF_ONE_FILE = (errno.ENOENT, errno.EIO)
"""What reading a file raises where it is missing or its place on the disk is bad; else it is the storage's fault."""
MOST_RECORD_BYTES = 64 * 2**20
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
    checksum: str = ""  # of all the rest, by `_hash_record`; older versions wrote none
    num_bytes: int | None = None  # of the file; likewise

    @classmethod
    def read(cls, content: bytes, kind: str) -> _Record:
        """Raises ValueError or TypeError for what is damaged, or another program's."""
        record = cls(**json.loads(content))
        if not (isinstance(record.facts, dict) and isinstance(record.sha256, str)):
            raise ValueError("its facts are no JSON object")
        if not (record.num_bytes is None or isinstance(record.num_bytes, int)):
            raise ValueError(f"its num_bytes are {record.num_bytes!r}")
        if not (isinstance(record.file, str) and re.fullmatch(rf"{kind}-\d+\.pt", record.file)):
            raise ValueError(f"it names the file {record.file!r}, which is none of this kind")
        if record.checksum and record.checksum != _hash_record(record):
            raise ValueError("its checksum does not fit")
        return record


class CheckpointStore:
    """The checkpoints of one trial in one folder, at most one state of each kind: `newest` and `best`.

    `uri` is a local path or whatever `pyarrow.fs` understands (`s3://bucket/folder`). KIND-0007.pt holds the
    state, KIND.json the facts and the checksum, KIND.good.json the same once more, for when that is damaged. The JSON
    is written last and replaced in one step, and only then is the older state removed: a writer may be killed at any
    moment without harm.

    With `needs_parent` the folder above must exist, else every call raises FileNotFoundError: it is missing where a
    storage is not mounted, and what was written there would be lost, or hidden later.
    """

    def __init__(self, uri: str | Path, *, needs_parent: bool = False) -> None:
        self.uri = str(uri)
        if "://" in self.uri:
            self._fs, self._folder = fs.FileSystem.from_uri(self.uri)
        else:
            self._fs, self._folder = fs.LocalFileSystem(), str(Path(uri).absolute())
        self._folder = self._folder.rstrip("/")
        self._renames = self._fs.type_name not in _OBJECT_STORES
        self._needs_parent = needs_parent and self._renames

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
            facts=as_json(facts),
            saved_at=time.time(),
            previous=asdict(old) | {"previous": None} if old else None,
            num_bytes=buffer.getbuffer().nbytes,
        )
        content = json.dumps(asdict(replace(record, checksum=_hash_record(record))), indent=1).encode()
        self._write(record.file, buffer.getbuffer())
        self._write(f"{kind}.json", content)
        self._write(f"{kind}.good.json", content, flushes=False)  # the record itself is on the disk by now
        for name in older:
            self._fs.delete_file(f"{self._folder}/{name}")
        return buffer.getbuffer().nbytes

    def load(self, kind: Kind) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """State (tensors on the CPU) and facts of the newest valid checkpoint of this kind, or None.

        A file that is missing, damaged or holds anything but tensors and plain values is skipped, with a
        warning. Raises OSError where the storage is away.
        """
        _check_kind(kind)
        record = self._read_record(kind)
        while record is not None:
            try:
                return self._read_state(record), record.facts
            except Exception as error:
                if isinstance(error, OSError) and error.errno not in _OF_ONE_FILE:
                    raise  # torch.load raises many types for a bad file
                _log.warning("checkpoint %s/%s is skipped: %s", self.uri, record.file, error)
            record = _read_previous(record)
        return None

    def facts(self, kind: Kind) -> dict[str, Any] | None:
        """The facts saved last with this kind, without reading or checking its state; None without any."""
        _check_kind(kind)
        record = self._read_record(kind)
        return record.facts if record else None

    def delete(self, kind: Kind) -> None:
        """Remove the checkpoint of this kind, if there is one."""
        _check_kind(kind)
        for name in [f"{kind}.json", f"{kind}.good.json", *self._list_states(kind)]:
            with contextlib.suppress(FileNotFoundError):
                self._fs.delete_file(f"{self._folder}/{name}")

    def _list_states(self, kind: Kind) -> list[str]:
        """Names of the state files of this kind, half-written ones of a killed writer included."""
        infos = self._fs.get_file_info(fs.FileSelector(self._folder, allow_not_found=True))
        return [info.base_name for info in infos if re.match(rf"{kind}-\d+\.pt", info.base_name)]

    def _read_record(self, kind: Kind) -> _Record | None:
        """The record of this kind, or its copy where it is damaged; None without any."""
        if self._needs_parent:
            self._check_parent()
        for name in (f"{kind}.json", f"{kind}.good.json"):
            try:
                return _Record.read(self._read(name, MOST_RECORD_BYTES), kind)
            except FileNotFoundError:
                continue
            except (ValueError, TypeError, RecursionError) as error:
                _log.warning("checkpoint %s/%s is skipped: %s", self.uri, name, error)
        return None

    def _check_parent(self) -> None:
        parent = self._folder.rpartition("/")[0]
        if self._fs.get_file_info(parent).type != fs.FileType.Directory:
            raise FileNotFoundError(errno.ENOENT, "the folder of the trials is not there", parent)

    def _read_state(self, record: _Record) -> dict[str, Any]:
        from trainable.tensor_file import load_tensors

        content = self._read(record.file, record.num_bytes)
        if (found := hashlib.sha256(content).hexdigest()) != record.sha256:
            raise ValueError(
                f"its SHA-256 is {found[:12]}..., {record.sha256[:12]}... was written ({len(content)} bytes)"
            )
        state = load_tensors(io.BytesIO(content))
        if not isinstance(state, dict):
            raise ValueError(f"it holds a {type(state).__name__} and no dict")
        return state

    def _read(self, name: str, most_bytes: int | None = None) -> bytes:
        """Raises FileNotFoundError, and ValueError for a pipe or a device, which would never end, or a longer file."""
        path = f"{self._folder}/{name}"
        if isinstance(self._fs, fs.LocalFileSystem) and os.path.lexists(path):
            check_regular_file(Path(path), "the checkpoint")
        with self._fs.open_input_stream(path) as stream:
            content = stream.read(most_bytes)
            if most_bytes is not None and stream.read(1):
                raise ValueError(f"it has more than {most_bytes} bytes")
            return content

    def _write(self, name: str, content: memoryview | bytes, *, flushes: bool = True) -> None:
        target = f"{self._folder}/{name}"
        aside = f"{target}.part" if self._renames else target
        if self._renames:
            self._fs.create_dir(self._folder, recursive=True)
        with self._fs.open_output_stream(aside) as stream:
            stream.write(content)
        if flushes and isinstance(self._fs, fs.LocalFileSystem):
            with Path(aside).open("rb") as file:
                os.fsync(file.fileno())
        if self._renames:
            self._fs.move(aside, target)


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


def as_json(facts: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return json.loads(json.dumps(dict(facts), default=_as_number))
    except TypeError as error:
        raise TypeError(f"facts of a checkpoint must be what JSON can hold: {error}") from error


def _as_number(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"a {type(value).__qualname__} came")


def _hash_record(record: _Record) -> str:
    plain = {name: entry for name, entry in asdict(record).items() if name != "checksum"}
    if record.num_bytes is None:
        del plain["num_bytes"]  # of an older version, which did not count it
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def _read_previous(record: _Record) -> _Record | None:
    try:
        return _Record(**record.previous) if record.previous else None
    except TypeError:
        return None


def _check_kind(kind: str) -> None:
    if kind not in KINDS:
        raise ValueError(f"kind of checkpoint is {kind!r}; it must be one of {', '.join(KINDS)}")
