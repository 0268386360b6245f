"""Sets of tiny images with a manifest, and what was read of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image

from trainable.images.manifest import Manifest, read_manifest


def fill(root: Path, *names: str) -> Path:
    """A tiny image at each name; a name that ends in / is an empty folder."""
    for name in names:
        path = root / name
        if name.endswith("/"):
            path.mkdir(parents=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (16, 16)).save(path, "PNG")
    return root


def write_manifest(root: Path, text: str, *names: str) -> Path:
    fill(root, *names)
    root.mkdir(exist_ok=True)
    path = root / "manifest.csv"
    path.write_text(text, encoding="utf-8")
    return path


def read(data: Path, **options: Any) -> Manifest:
    return read_manifest(data, unpack_into=data.parent / "unpacked", **options)


def listed(manifest: Manifest, root: Path) -> list[tuple[str, str, str | None]]:
    return [(s.path.relative_to(root).as_posix(), manifest.classes[s.label], s.patient) for s in manifest.slices]
