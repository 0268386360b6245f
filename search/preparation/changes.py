"""What has changed on disk since a search began: its images, its own space, its own models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from search.core.config import SearchConfig
from search.core.folder import SearchFolder
from trainable.records import keep_copy, restore_record

if TYPE_CHECKING:
    from trainable.images.splits import SplitRow


def find_changes(config: SearchConfig, folder: SearchFolder) -> list[str]:
    """In words, each file that is no longer what the search keeps a copy of; one that is gone is no change."""
    kept = folder.folder / "space.py"
    changes = []
    if config.space is not None and kept.exists():
        changes += _compare(config.space, kept.read_text(errors="replace"), "the space")
    sources = folder.read_record().get("nets", {}).get("sources", {})
    for name, source in sources.items():
        changes += _compare(Path(name.rpartition(":")[0]).expanduser(), source, f"the model {name.rpartition(':')[2]}")
    rows = _read_rows(folder)
    if archives := _find_changed_archives(config, folder, rows):
        changes.append(archives)
    if changed := list(_find_changed_rows(rows)):
        changes.append(f"{len(changed)} of the images have changed, such as {changed[0]}")
    return changes


def refuse_changes(config: SearchConfig, folder: SearchFolder) -> None:
    """Raises ValueError naming what has changed."""
    if changes := find_changes(config, folder):
        raise ValueError(
            f"since the search {folder.name!r} began, {'; '.join(changes)}: put it back, or go on with what is there "
            "now by --accept-changes"
        )


def accept_changes(config: SearchConfig, folder: SearchFolder) -> tuple[str, ...]:
    """Let the search read its data, its space and its own models anew; what had changed, in words.

    An image that has changed stays in its split: a patient of the sealed test is never trained on.
    """
    changes = find_changes(config, folder)
    record = folder.read_record()
    if config.space is not None and config.space.exists():
        (folder.folder / "space.py").unlink(missing_ok=True)
    models = dict(record.get("nets", {}))
    if models.get("sources"):
        models["sources"] = {
            name: source
            for name, source in models["sources"].items()
            if not Path(name.rpartition(":")[0]).expanduser().exists()
        }
    folder.update_record(data_hash=None, nets=models)
    if rows := _read_rows(folder):
        from trainable.images.changed import follow_archive
        from trainable.images.splits import write_splits

        if config.data is not None and config.data.exists():
            rows = follow_archive(config.data, folder.cache / "unpacked", rows)
        changed = _find_changed_rows(rows)
        write_splits(folder.splits_file, [replace(row, sha256=changed.get(row.path, row.sha256)) for row in rows])
        keep_copy(folder.splits_file)
    return tuple(changes)


def _read_rows(folder: SearchFolder) -> Sequence[SplitRow]:
    from trainable.images.splits import read_splits

    restore_record(folder.splits_file)
    return read_splits(folder.splits_file) if folder.splits_file.exists() else ()


def _find_changed_rows(rows: Sequence[SplitRow]) -> Mapping[Path, str]:
    from trainable.images.changed import find_changed_rows

    return find_changed_rows(rows)


def _find_changed_archives(config: SearchConfig, folder: SearchFolder, rows: Sequence[SplitRow]) -> str:
    """In words, that images lay in an archive that is not there any more as it was."""
    from trainable.images.changed import find_changed_archives

    stale = find_changed_archives(config.data, folder.cache / "unpacked", rows)
    if not stale:
        return ""
    num_images = sum(any(digest in row.path.parts for digest in stale) for row in rows)
    return f"{num_images} of the images come from an archive that has changed ({config.data})"


def _compare(file: Path, kept: str, what: str) -> list[str]:
    try:
        now = file.read_text(errors="replace")
    except OSError:
        return []
    if now == kept:
        return []
    before, after = kept.splitlines(), now.splitlines()
    line = next((i for i, (old, new) in enumerate(zip(before, after, strict=False), 1) if old != new), None)
    return [f"{what} in {file} has changed (first in line {line or min(len(before), len(after)) + 1})"]
