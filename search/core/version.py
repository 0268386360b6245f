"""Which code ran: the package's version, and the commit where it runs from a checkout."""

from __future__ import annotations

import os
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""Of the checkout, or of site-packages where the wheel is installed."""


def code_version() -> str:
    """Such as `0.1.0`, `0.1.0+3f2a91c` or, with uncommitted changes, `0.1.0+3f2a91c.dirty`."""
    if given := os.environ.get("CTSEARCH_CODE_VERSION"):  # a job on a cluster has no .git
        return given
    try:
        number = version("ctsearch")
    except PackageNotFoundError:
        number = "0"
    if not (ROOT / ".git").exists():
        return number
    try:
        commit = _git("rev-parse", "--short", "HEAD")
        dirty = ".dirty" if _git("status", "--porcelain", "--untracked-files=no") else ""
    except (OSError, subprocess.SubprocessError):
        return number
    return f"{number}+{commit}{dirty}"


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True, timeout=5)
    return done.stdout.strip()
