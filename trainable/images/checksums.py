"""Whether a cache file is still what was written: all of it, by CRC-32 in blocks, once whenever it is opened anew.

Blocks of 64 MB are read by several threads, some 1 GB a second and core, and lie in the page cache afterwards, where
training wants them. Sampled blocks would be cheaper and miss what a bad disk does: a few sectors. The sums lie beside
the file, as NAME.sums.
"""

from __future__ import annotations

import json
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from trainable.files import write_atomically

BLOCK_BYTES = 64 * 2**20
_PIECE_BYTES = 2**20


def sums_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.sums")


def write_sums(path: Path, target: Path, *, num_workers: int = 2) -> None:
    """Write the sums of `path`, which is about to be renamed to `target`, beside the latter."""
    write_atomically(sums_file(target), json.dumps({"blocks": _sum_blocks(path, num_workers)}))


def is_whole(path: Path, *, num_workers: int = 2) -> bool:
    """Whether the file is there and has its sums. One without sums, of an older version, is not known to be whole."""
    try:
        return has_sums(path, sums_file(path).read_bytes(), num_workers=num_workers)
    except OSError:
        return False


def has_sums(path: Path, sums: bytes, *, num_workers: int = 2) -> bool:
    """Whether the file is there and has the sums that a sums file's content says."""
    try:
        return path.is_file() and json.loads(sums) == {"blocks": _sum_blocks(path, num_workers)}
    except (OSError, ValueError):
        return False


def _sum_blocks(path: Path, num_workers: int) -> list[list[int]]:
    """Length and CRC-32 of each block."""
    size = path.stat().st_size
    with ThreadPoolExecutor(max(1, num_workers)) as threads:
        return list(threads.map(lambda begin: _sum_block(path, begin), range(0, size, BLOCK_BYTES)))


def _sum_block(path: Path, begin: int) -> list[int]:
    length = crc = 0
    with path.open("rb") as file:
        file.seek(begin)
        while piece := file.read(min(_PIECE_BYTES, BLOCK_BYTES - length)):
            crc = zlib.crc32(piece, crc)
            length += len(piece)
    return [length, crc]
