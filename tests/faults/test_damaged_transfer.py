"""Pixels that come to a node damaged, or lie there damaged, are never trained on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray

from search.engine.cluster import Cluster
from trainable.images.checksums import is_whole, write_sums
from trainable.node import FileServer, bring_pixels


class BadDisk(FileServer):
    """One byte is another in the first `num_bad` files that it hands out."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.num_bad = 0

    def go_bad(self, num_bad: int) -> None:
        self.num_bad = num_bad

    def read(self, offset: int) -> bytes:
        content = super().read(offset)
        if offset or not self.num_bad:
            return content
        self.num_bad -= 1
        return content[:-1] + bytes([content[-1] ^ 1])


@pytest.fixture
def pixels(tmp_path: Path) -> Path:
    path = tmp_path / "abc-32px.npy"
    np.save(path, np.random.default_rng(0).integers(0, 256, (20, 32, 32), dtype=np.uint8))
    write_sums(path, path)
    return path


def test_what_comes_damaged_is_fetched_again_and_what_lies_damaged_is_replaced(
    cluster: Cluster, pixels: Path, tmp_path: Path
) -> None:
    server: Any = ray.remote(BadDisk).options(num_cpus=0).remote(str(pixels))
    node, content = tmp_path / "node", pixels.read_bytes()

    ray.get(server.go_bad.remote(1))
    target = Path(bring_pixels(str(pixels), node, server))
    assert target.parent == node and target.read_bytes() == content and is_whole(target)

    spoil: list[Callable[[bytes], bytes]] = [
        lambda whole: whole[:-1000],
        lambda whole: whole[:200] + bytes(255 - value for value in whole[200:]),
        lambda whole: b"",
    ]
    for damage in spoil:
        target.write_bytes(damage(content))
        assert Path(bring_pixels(str(pixels), node, server)).read_bytes() == content

    target.unlink()
    ray.get(server.go_bad.remote(2))
    with pytest.raises(OSError, match=r"abc-32px.npy was fetched twice from .* and came damaged both times") as caught:
        bring_pixels(str(pixels), node, server)
    assert "\n" not in str(caught.value)
    assert not target.exists() and not list(node.glob("*.partial"))
    ray.kill(server)
