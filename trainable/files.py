"""Files: written whole or not at all, and only regular ones read."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path
from typing import IO

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISCHR, "a device"),
)


def write_atomically(path: Path, content: bytes | str, *, mode: int | None = None) -> None:
    """Write aside, flush to the disk, then rename: a reader sees the old content or the new one, never a half.

    Text becomes UTF-8. `mode` is that of the new file (0o600: for its owner alone). Raises OSError; then the old file
    is as it was, and nothing is left beside it.
    """
    data = content.encode(errors="surrogateescape") if isinstance(content, str) else content
    aside = path.with_name(f".{path.name[:100]}.{secrets.token_hex(4)}.part")
    try:
        opened = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666 if mode is None else mode)
        with os.fdopen(opened, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def check_target(path: Path, what: str) -> None:
    """Raise ValueError where no file can be written at `path`: to be asked before the work whose fruit it takes."""
    if path.is_dir():
        raise ValueError(f"{what} is {path}; it is a folder, and must be a file")
    if not path.absolute().parent.is_dir():
        raise ValueError(f"{what} is {path}; there is no folder {path.parent} to write it into")


def open_regular_file(path: Path, what: str) -> IO[bytes]:
    """Open a user's file for reading; `what` names it in the error, such as "--weights resnet18".

    Raises ValueError for what is no regular file, be it through a link: a pipe would hang, /dev/zero never end.
    """
    check_regular_file(path, what)
    try:
        file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    except OSError as error:
        raise ValueError(f"{what} is {path}; it cannot be read ({error.strerror})") from error
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):  # exchanged since
        file.close()
        raise ValueError(f"{what} is {path}; it must be a regular file")
    return file


def check_regular_file(path: Path, what: str) -> None:
    """Raise ValueError unless `path` is a regular file, or a link to one; nothing is opened."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:  # a name too long, a loop of links, a null character
        reason = error.strerror if isinstance(error, OSError) else error
        raise ValueError(f"{what} is {str(path)!r}; there is no file of that name ({reason})") from error
    if not stat.S_ISREG(mode):
        kind = next((name for is_kind, name in _KINDS if is_kind(mode)), "something else")
        raise ValueError(f"{what} is {path}; it is {kind} and must be a regular file")


def read_text_file(path: Path, what: str, *, max_bytes: int = 10 * 2**20, kind: str = "Python") -> str:
    """The text of a user's own Python file, or of another kind. Raises ValueError for one that is none, or too long to
    be any."""
    with open_regular_file(path, what) as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise ValueError(f"{what} is {path}; it has more than {max_bytes // 2**20} MB, and a {kind} file has less")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ValueError(f"{what} is {path}; its line {line} is no text in UTF-8: save it so") from error
    if "\0" in text:
        raise ValueError(f"{what} is {path}; it holds null characters and is no {kind} file")
    return text
