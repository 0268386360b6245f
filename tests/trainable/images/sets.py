"""Small sets for the tests of layouts and tables: files without pixels, and what was read of them."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from pathlib import Path
from typing import Any

from trainable.images.manifest import Manifest, read_manifest

AB = ("COVID", "Normal")
TWO = ("0.png", "1.png")


def fill(root: Path, *names: str) -> Path:
    """A file of a byte at each name; a name that ends in / is an empty folder."""
    root.mkdir(parents=True, exist_ok=True)
    for name in names:
        path = root / name
        if name.endswith("/"):
            path.mkdir(parents=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x")
    return root


def join(*levels: Iterable[str]) -> list[str]:
    """Every path of one name from each level."""
    return ["/".join(parts) for parts in product(*levels)]


def read(data: Path, **options: Any) -> Manifest:
    return read_manifest(data, unpack_into=data.parent / "unpacked", **options)


def listed(manifest: Manifest) -> dict[str, tuple[str, str | None, str | None]]:
    """Class, patient and split of each slice by its name."""
    return {item.name: (manifest.classes[item.label], item.patient, item.split) for item in manifest.slices}
