"""What a test needs of the machine beside Python: where it is missing, the test is skipped by the package's name.

Under CTSEARCH_STRICT_SKIPS=1, as .ci/run has it, such a skip fails the run (tests/conftest.py).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

PACKAGES = {
    "chromium": "chromium",
    "docker-compose": "docker-compose",
    "g++": "g++",
    "ip": "iproute2",
    "nginx": "nginx-light",
    "openssl": "openssl",
    "rsync": "rsync",
    "ssh-keygen": "openssh-client",
    "sshd": "openssh-server",
    "systemd-analyze": "systemd",
    "uptime": "procps",
}
"""Debian's package for each program; .ci/packages.txt installs those that a bare image lacks."""

POSTGRES_PROGRAMS = "/usr/lib/postgresql"


def program(name: str) -> str:
    """The path of a program; without it the test is skipped."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    if found is None:
        pytest.skip(f"needs {name}, of Debian's package {PACKAGES[name]}")
    return found


def programs(names: Sequence[str]) -> None:
    """Skip the test unless all of these programs are here."""
    for name in names:
        program(name)


def postgres() -> Path:
    """The folder of PostgreSQL's newest programs; without it the test is skipped."""
    found = sorted(Path(POSTGRES_PROGRAMS).glob("*/bin"))
    if not found:
        pytest.skip("needs PostgreSQL's server, of Debian's package postgresql")
    return found[-1]


def root(purpose: str) -> None:
    """Skip the test unless it runs as root; `purpose` says for what."""
    if os.geteuid() != 0:
        pytest.skip(f"needs root: {purpose}")


def shared(folder: Path) -> Path:
    """A folder of ../shared, which a checkout may lack; without it the test is skipped."""
    if not folder.is_dir():
        pytest.skip(f"needs {folder.parent.name}/{folder.name} beside the checkout, which is not here")
    return folder
