"""Tables of the tests: rows as text, and what was read of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.trainable.images.sets import fill, read
from trainable.images.manifest import Manifest

NAMES = [f"images/{n}.png" for n in range(6)]


LABELS = ["a", "b"] * 3


Cells = Sequence[tuple[Any, ...]]


def plain(*extra: Sequence[object]) -> list[tuple[Any, ...]]:
    return list(zip(NAMES, LABELS, *extra, strict=True))


def write(rows: Cells, header: str = "path,label", *, sep: str = ",", end: str = "\n") -> str:
    return end.join([header, *(sep.join(map(str, row)) for row in rows)]) + end


def read_text(
    tmp_path: Path, text: str, *names: str, name: str = "m.csv", encoding: str = "utf-8", folder: bool = False
) -> Manifest:
    root = fill(tmp_path / "x", *(names or NAMES))
    (root / name).write_bytes(text.encode(encoding))
    return read(root if folder else root / name)


def pairs(manifest: Manifest) -> list[tuple[str, str]]:
    return [(item.name, manifest.classes[item.label]) for item in manifest.slices]
