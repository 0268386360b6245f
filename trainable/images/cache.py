"""Slices decoded once per node: one file of grey pixels, named by its content, that every trial maps."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from trainable.images.checksums import is_whole, sums_file, write_sums
from trainable.images.decode import DECODER_VERSION, BadImageError, decode_slice, quiet

_log = logging.getLogger(__name__)
MAX_CHUNK = 32  # slices that a thread takes at once: to hand each over by itself costs up to a sixth


def build_cache(paths: Sequence[Path], *, hashes: Sequence[str], size: int, folder: Path, num_workers: int) -> Path:
    """Decode the files, in their order, into one .npy of uint8 (N, size, size), and return its path.

    `hashes` are the files' SHA-256 in hex: with the size and the decoder's version they are the cache's name,
    so that what is there already, and has its checksums, is never decoded again. Of several processes one builds and
    the others wait; what a killed one left behind is removed by the next. Decodes in `num_workers` threads, since
    Pillow and hashlib let go of the interpreter's lock. Raises BadImageError, ValueError for a file that has changed
    since it was hashed, and OSError.
    """
    if len(paths) != len(hashes) or not paths:
        raise ValueError(f"{len(paths)} paths and {len(hashes)} hashes came; there must be one hash per path")
    num_workers = max(1, num_workers)
    key = hashlib.sha256(json.dumps([DECODER_VERSION, size, *hashes]).encode()).hexdigest()[:24]
    target = folder / f"{key}-{size}px.npy"
    if is_whole(target, num_workers=num_workers):
        return target
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{target}.lock"):
        if is_whole(target, num_workers=num_workers):  # another process was faster
            return target
        if sums_file(target).is_file() and target.exists():
            _log.warning("the cache %s is damaged, and decoded again from the images", target)
        _remove_leftovers(folder, target)
        aside = Path(f"{target}.{os.getpid()}.partial")
        try:
            with aside.open("wb") as file:
                shape = (len(paths), size, size)
                header = {"descr": "|u1", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(file, header)
                length = min(MAX_CHUNK, -(-len(paths) // (4 * num_workers)))
                jobs = list(zip(paths, hashes, strict=True))
                chunks = [jobs[at : at + length] for at in range(0, len(jobs), length)]
                with quiet, ThreadPoolExecutor(num_workers) as threads:
                    for pixels in threads.map(partial(_decode_chunk, size=size), chunks):
                        file.writelines(pixels)
                file.flush()
                os.fsync(file.fileno())
            write_sums(aside, target, num_workers=num_workers)
            aside.replace(target)
        finally:
            aside.unlink(missing_ok=True)
    return target


def open_pixels(path: Path) -> np.ndarray:
    """The cache's pixels, uint8 (N, S, S), mapped: pages are shared by all readers, a write stays private."""
    return np.load(path, mmap_mode="c")


def check_hash(path: Path, content: bytes, expected: str) -> None:
    """Raises ValueError, naming the file, where its content is not that of the SHA-256 `expected`."""
    if hashlib.sha256(content).hexdigest() != expected:
        raise ValueError(
            f"{path} has changed since the search began; put the old file back or start a search under a new name"
        )


def _decode_chunk(chunk: Sequence[tuple[Path, str]], size: int) -> list[bytes]:
    return [_decode_checked(path, expected, size).tobytes() for path, expected in chunk]


def _decode_checked(path: Path, expected: str, size: int) -> np.ndarray:
    content = path.read_bytes()
    check_hash(path, content, expected)
    try:
        return decode_slice(content, size)
    except BadImageError as error:
        raise BadImageError(f"{path}: {error}") from error


def _remove_leftovers(folder: Path, target: Path) -> None:
    """Remove unfinished files of this cache, and of every other that nobody is building now."""
    for left in folder.glob("*.partial"):
        owner = left.name.rsplit(".", 2)[0]
        try:
            if owner == target.name:
                left.unlink(missing_ok=True)
            else:
                with FileLock(folder / f"{owner}.lock", timeout=0):
                    left.unlink(missing_ok=True)
        except Timeout:
            continue
