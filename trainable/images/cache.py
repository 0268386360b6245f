"""Images decoded once per node: one file of their pixels, named by its content, that every trial maps."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from trainable.images.checksums import is_whole, sums_file, write_sums
from trainable.images.decode import DECODER_VERSION, BadImageError, decode_slice, quiet
from trainable.images.medmnist import is_npz
from trainable.images.members import cut_runs, read_members, split_member
from trainable.images.neighbours import Plan, decode_plans, hash_neighbours, plan_slices
from trainable.images.pixel_format import GREY, PixelFormat

_log = logging.getLogger(__name__)
MAX_CHUNK = 32  # slices that a thread takes at once: to hand each over by itself costs up to a sixth


def build_cache(
    paths: Sequence[Path],
    *,
    hashes: Sequence[str],
    size: int,
    folder: Path,
    num_workers: int,
    form: PixelFormat = GREY,
) -> Path:
    """Decode the images, in their order, into one .npy of uint8, and return its path.

    Its shape is (N, size, size) for one channel, else (N, size, size, C); of a DICOM slice with neighbours these are
    found in its folder. `paths` are files, and images inside one
    (`members.name_member`). `hashes` are their SHA-256 in hex: with the size, the format and the decoder's version
    they are the cache's name, so that what is there already, and has its checksums, is never decoded again. Of several
    processes one builds and the others wait; what a killed one left behind is removed by the next. Decodes in
    `num_workers` threads, since Pillow and hashlib let go of the interpreter's lock. Raises BadImageError, ValueError
    for a file that has changed since it was hashed, and OSError.
    """
    if len(paths) != len(hashes) or not paths:
        raise ValueError(f"{len(paths)} paths and {len(hashes)} hashes came; there must be one hash per path")
    num_workers = max(1, num_workers)
    known = dict(zip(paths, hashes, strict=True))
    plans = plan_slices([path for path in known if split_member(path) is None], form, num_workers=num_workers)
    known |= hash_neighbours(plans, known)
    what = [DECODER_VERSION, size, *([form.to_dict()] if form != GREY else []), *hashes]
    what += [[(known[item.path], item.frame) for item in plan] for plan in plans.values()]
    key = hashlib.sha256(json.dumps(what).encode()).hexdigest()[:24]
    target = folder / f"{key}-{size}px{f'-{form.num_channels}ch' if form.num_channels > 1 else ''}.npy"
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
                shape = (len(paths), size, size, *([form.num_channels] if form.num_channels > 1 else []))
                header = {"descr": "|u1", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(file, header)
                length = min(MAX_CHUNK, -(-len(paths) // (4 * num_workers)))
                jobs = list(zip(paths, hashes, strict=True))
                chunks = [jobs[run] for run in cut_runs(paths, length)]
                with quiet, ThreadPoolExecutor(num_workers) as threads:
                    decode = partial(_decode_chunk, size=size, form=form, plans=plans, known=known)
                    for pixels in threads.map(decode, chunks):
                        file.writelines(pixels)
                file.flush()
                os.fsync(file.fileno())
            write_sums(aside, target, num_workers=num_workers)
            aside.replace(target)
        finally:
            aside.unlink(missing_ok=True)
    return target


def decode_pixels(source: Path | bytes, size: int, form: PixelFormat) -> np.ndarray:
    """One file as the cache holds it: uint8 (size, size), or (size, size, C). Raises BadImageError and OSError."""
    if form.neighbours:
        raise BadImageError("an image by itself has no neighbours; those are a volume's slices")
    if form == GREY:
        return decode_slice(source, size)
    return decode_slice(source, size, windows=form.windows, colour=form.colour)


def check_hash(path: Path, content: bytes, expected: str) -> None:
    """Raises ValueError, naming the file, where its content is not that of the SHA-256 `expected`."""
    _compare(path, hashlib.sha256(content).hexdigest(), expected)


def _compare(path: Path, found: str, expected: str) -> None:
    if found != expected:
        raise ValueError(
            f"{path} has changed since the search began; put the old file back or start a search under a new name"
        )


def _decode_chunk(
    chunk: Sequence[tuple[Path, str]],
    size: int,
    form: PixelFormat,
    plans: Mapping[Path, Plan],
    known: Mapping[Path, str],
) -> Iterable[bytes]:
    if plans and all(path in plans for path, _ in chunk):
        slices = decode_plans(
            [plans[path] for path, _ in chunk], size, form, lambda path, content: check_hash(path, content, known[path])
        )
        return [pixels.tobytes() for pixels in slices]
    if (member := split_member(chunk[0][0])) is None:
        return [_decode_checked(path, expected, size, form).tobytes() for path, expected in chunk]
    pixels = _read_checked(member[0], chunk, size, form)
    return pixels if is_npz(member[0]) else list(pixels)  # of a large .npz one image at a time, as it is written


def _read_checked(container: Path, chunk: Sequence[tuple[Path, str]], size: int, form: PixelFormat) -> Iterator[bytes]:
    numbers = [member[1] for path, _ in chunk if (member := split_member(path)) is not None]
    for (path, expected), (facts, pixels) in zip(chunk, read_members(container, numbers, size, form), strict=True):
        _compare(path, facts.sha256, expected)
        yield pixels.tobytes()


def _decode_checked(path: Path, expected: str, size: int, form: PixelFormat) -> np.ndarray:
    content = path.read_bytes()
    check_hash(path, content, expected)
    try:
        return decode_pixels(content, size, form)
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
