"""A cache that is damaged is noticed and decoded again from the images."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from trainable.images import checksums
from trainable.images.cache import build_cache
from trainable.images.checksums import is_whole, sums_file, write_sums
from trainable.images.mapped import open_pixels


@pytest.fixture
def build(synthetic_folder: Path, tmp_path: Path) -> Callable[[], Path]:
    paths = sorted(synthetic_folder.glob("*/*/*.png"))[:12]
    hashes = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
    return lambda: build_cache(paths, hashes=hashes, size=32, folder=tmp_path, num_workers=2)


def invert(content: bytes) -> bytes:
    return content[:128] + bytes(255 - value for value in content[128:])


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "truncated": lambda content: content[:-1000],
    "empty": lambda content: b"",
    "inverted": invert,
    "one pixel changed": lambda content: content[:-1] + bytes([content[-1] ^ 1]),
    "zeros in the middle": lambda content: content[:4096] + b"\0" * 4096 + content[8192:],
    "its header changed": lambda content: content[:60] + b"9" + content[61:],
    "longer": lambda content: content + b"\0",
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_cache_is_decoded_again(
    kind: str, build: Callable[[], Path], caplog: pytest.LogCaptureFixture
) -> None:
    path = build()
    content = path.read_bytes()
    path.write_bytes(DAMAGE[kind](content))
    assert build() == path
    assert path.read_bytes() == content
    assert [str(path) in record.getMessage() for record in caplog.records] == [True]


def test_a_cache_that_is_whole_is_not_decoded_again(
    build: Callable[[], Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = build()
    monkeypatch.setattr("trainable.images.cache.decode_slice", None)
    assert build() == path and not caplog.records


@pytest.mark.parametrize("content", [None, "", "{", '{"blocks": [[1, 2]]}', "[]"])
def test_a_cache_without_right_sums_is_decoded_again(content: str | None, build: Callable[[], Path]) -> None:
    path = build()
    before = np.array(open_pixels(path))
    if content is None:
        sums_file(path).unlink()
    else:
        sums_file(path).write_text(content)
    assert not is_whole(path)
    assert build() == path and is_whole(path)
    np.testing.assert_array_equal(open_pixels(path), before)


def test_every_byte_of_every_block_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checksums, "BLOCK_BYTES", 1000)
    path, rng = tmp_path / "file", random.Random(0)
    for size in (0, 1, 999, 1000, 1001, 3500):
        content = rng.randbytes(size)
        path.write_bytes(content)
        write_sums(path, path)
        assert is_whole(path)
        for at in rng.sample(range(size), min(size, 20)):
            path.write_bytes(content[:at] + bytes([content[at] ^ 255]) + content[at + 1 :])
            assert not is_whole(path)
