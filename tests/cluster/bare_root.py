"""A root with nothing of ours in it: the system's programs, an empty home, and the way to the package registries.

Needs root, since it mounts. Written are the folder alone and what lies in it; everything else is mounted read-only.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HOME = "/home/ray"
ENTER = """#!/usr/bin/env bash
set -euo pipefail
root=$1 seen=$2
shift 2
mount --make-rprivate /
for folder in $seen; do
    mkdir -p "$root$folder"
    mount --rbind "$folder" "$root$folder"
    mount -o remount,bind,ro "$root$folder"
done
for name in bin sbin lib lib64; do
    [ -L /$name ] && ln -sfn "$(readlink /$name)" "$root/$name"
done
mkdir -p "$root/proc" "$root/dev" "$root/tmp"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
exec chroot "$root" "$@"
"""


class BareRoot:
    """Made by `make_bare_root`. Its home is `home` here and HOME there, with Python's `pip` first on the path."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / HOME.removeprefix("/")
        self.home.mkdir(parents=True)
        (self.home / ".bashrc").write_text(f"export PATH={HOME}/env/bin:$PATH\n")
        (self.home / ".bash_profile").write_text(". ~/.bashrc\n")
        self._enter = folder / "enter.sh"
        self._enter.write_text(ENTER)
        # How this machine's pip finds the registries: its variables, and the files and folders that they name.
        self._environ = {
            name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_", "REQUESTS_", "HTTP"))
        }
        named = [value for value in self._environ.values() if value.startswith("/") and Path(value).is_dir()]
        self._seen = list(dict.fromkeys(["/usr", "/etc", sys.base_prefix, *named]))
        self.run(f"{sys.base_prefix}/bin/python3 -m venv {HOME}/env")

    def run(self, command: str, timeout_s: float = 1200) -> str:
        """A command as `ray up` runs it, in a login shell; its output. Raises AssertionError where it fails."""
        own = ("unshare", "--mount", "--pid", "--fork", "--kill-child")
        enter = ("bash", str(self._enter), str(self.folder), " ".join(self._seen))
        clean = ("/usr/bin/env", "-i", f"HOME={HOME}", "PATH=/usr/bin:/bin", "TERM=dumb")
        shell = ("/bin/bash", "--login", "-c", f"cd ~; {command}")
        done = subprocess.run(
            [*own, *enter, *clean, *(f"{name}={value}" for name, value in self._environ.items()), *shell],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
        )
        assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout[-4000:]}"
        return done.stdout


@contextmanager
def make_bare_root(folder: Path) -> Iterator[BareRoot]:
    """Several gigabytes are gone with the end of the block."""
    try:
        yield BareRoot(folder)
    finally:
        shutil.rmtree(folder)
