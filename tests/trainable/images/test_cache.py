"""The cache: decoded once, whole or absent, whoever builds it and whoever dies."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from trainable.images.cache import build_cache
from trainable.images.decode import decode_slice
from trainable.images.mapped import open_pixels

ROOT = Path(__file__).resolve().parents[3]

# Builds the cache of the files after the first two arguments; waits at the third image where told to.
BUILDER = """
import hashlib, sys, time
from pathlib import Path
from trainable.images import cache
folder, mode, *names = sys.argv[1:]
paths = [Path(name) for name in names]
decode, num_decoded = cache.decode_slice, 0
def counted(content, size):
    global num_decoded
    num_decoded += 1
    if mode == "hang" and num_decoded == 3:
        print("in the middle", flush=True)
        time.sleep(600)
    return decode(content, size)
cache.decode_slice = counted
hashes = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
if mode == "wait":
    print("ready", flush=True)
    sys.stdin.readline()
print(cache.build_cache(paths, hashes=hashes, size=48, folder=Path(folder), num_workers=1))
print(num_decoded)
"""


@pytest.fixture
def paths(synthetic_folder: Path) -> list[Path]:
    return sorted(synthetic_folder.glob("*/*/*.png"))[:40]


def hash_all(paths: list[Path]) -> list[str]:
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]


def build(paths: list[Path], folder: Path, size: int = 48, num_workers: int = 2) -> Path:
    return build_cache(paths, hashes=hash_all(paths), size=size, folder=folder, num_workers=num_workers)


def start_builder(folder: Path, mode: str, paths: list[Path]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", BUILDER, str(folder), mode, *map(str, paths)],
        cwd=ROOT,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


def test_holds_every_slice_as_the_decoder_gives_it(paths: list[Path], tmp_path: Path) -> None:
    pixels = open_pixels(build(paths, tmp_path))
    assert pixels.shape == (40, 48, 48) and pixels.dtype == np.uint8
    for row, path in zip(pixels, paths, strict=True):
        np.testing.assert_array_equal(row, decode_slice(path, 48))


def test_is_not_decoded_again(paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = build(paths, tmp_path)
    monkeypatch.setattr("trainable.images.cache.decode_slice", None)
    assert build(paths, tmp_path) == first


def test_size_order_and_content_each_give_another_file(paths: list[Path], tmp_path: Path) -> None:
    names = {
        build(paths, tmp_path),
        build(paths, tmp_path, size=32),
        build(paths[::-1], tmp_path),
        build(paths[1:], tmp_path),
    }
    assert len(names) == 4


def test_a_write_stays_private(paths: list[Path], tmp_path: Path) -> None:
    path = build(paths, tmp_path)
    before = np.array(open_pixels(path))
    open_pixels(path)[:] = 7
    np.testing.assert_array_equal(open_pixels(path), before)


def test_a_file_changed_since_it_was_hashed_is_an_error_and_leaves_nothing(paths: list[Path], tmp_path: Path) -> None:
    hashes = hash_all(paths)
    hashes[5] = "0" * 64
    with pytest.raises(ValueError, match=rf"{paths[5].name} has changed"):
        build_cache(paths, hashes=hashes, size=48, folder=tmp_path, num_workers=2)
    assert not [*tmp_path.glob("*.npy"), *tmp_path.glob("*.partial")]


def test_hashes_must_fit_the_paths(paths: list[Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="one hash per path"):
        build_cache(paths, hashes=["a"], size=48, folder=tmp_path, num_workers=1)


def test_of_two_processes_one_decodes(paths: list[Path], tmp_path: Path) -> None:
    builders = [start_builder(tmp_path, "wait", paths) for _ in range(2)]
    for builder in builders:
        assert builder.stdout and builder.stdout.readline() == "ready\n"
    outputs = []
    for builder in builders:
        assert builder.stdin
        builder.stdin.write("go\n")
        builder.stdin.flush()
    for builder in builders:
        outputs.append(builder.communicate(timeout=300)[0].split())
    assert outputs[0][0] == outputs[1][0]
    assert sorted(int(output[1]) for output in outputs) == [0, 40]


def test_a_builder_killed_in_the_middle_is_harmless(paths: list[Path], tmp_path: Path) -> None:
    builder = start_builder(tmp_path, "hang", paths)
    assert builder.stdout and builder.stdout.readline() == "in the middle\n"
    assert list(tmp_path.glob("*.partial")) and not list(tmp_path.glob("*.npy"))
    os.kill(builder.pid, signal.SIGKILL)
    builder.communicate(timeout=300)
    other = build(paths[:4], tmp_path)  # another cache's builder cleans up too
    assert not list(tmp_path.glob("*.partial"))
    pixels = open_pixels(build(paths, tmp_path))
    np.testing.assert_array_equal(pixels[:4], open_pixels(other))


def test_the_unfinished_file_of_a_living_builder_is_left_alone(paths: list[Path], tmp_path: Path) -> None:
    builder = start_builder(tmp_path, "hang", paths)
    try:
        assert builder.stdout and builder.stdout.readline() == "in the middle\n"
        build(paths[:4], tmp_path)
        assert len(list(tmp_path.glob("*.partial"))) == 1
    finally:
        builder.kill()
        builder.communicate(timeout=300)
