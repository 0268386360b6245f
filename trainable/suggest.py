"""Near names for a name that is not known: most are typos."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Such as "; did you mean 'resnet18'?", or nothing where no known name is near."""
    by_lower: dict[str, str] = {}
    for entry in known:
        by_lower.setdefault(_plain(entry), entry)
    near = difflib.get_close_matches(_plain(name), by_lower, n=2, cutoff=0.7)
    return f"; did you mean {' or '.join(repr(by_lower[match]) for match in near)}?" if near else ""


def _plain(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "").replace(" ", "")
