"""What is measured once on a node, and read ever after by all of its processes."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock

from trainable.files import write_atomically

T = TypeVar("T")
_log = logging.getLogger(__name__)


def remember(
    cache_file: Path | None,
    key: str,
    measure: Callable[[], T],
    *,
    show: Callable[[T], Any],
    read: Callable[[Any], T],
) -> T:
    """What `measure` gives for `key`; with a `cache_file` (JSON, one for all keys) it is asked once, by one process.

    `show` makes plain data of it, and `read` the same again. A file or an entry that cannot be read is measured anew:
    `read` raises ValueError, TypeError, KeyError or AttributeError for one. Raises OSError, and what `measure` raises.
    """
    if cache_file is None:
        return measure()
    cache_file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{cache_file}.lock"):
        known = _read(cache_file)
        if key in known:
            try:
                return read(known[key])
            except (ValueError, TypeError, KeyError, AttributeError):
                _log.warning("%s is damaged at %s, which is measured again", cache_file, key)
        found = measure()
        write_atomically(cache_file, json.dumps({**known, key: show(found)}, indent=1))
        return found


def _read(cache_file: Path) -> dict[str, Any]:
    """All entries; none where there is no such file, or it is damaged."""
    try:
        known = json.loads(cache_file.read_bytes())
        if isinstance(known, dict):
            return known
    except FileNotFoundError:
        return {}
    except (ValueError, RecursionError):
        pass
    _log.warning("%s is damaged: what it held is measured again", cache_file)
    return {}
