"""Zip and tar archives: unpacked once, under their content's hash, and never outside their folder."""

from __future__ import annotations

import errno
import hashlib
import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING

from filelock import FileLock

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_UNPACKED_BYTES = 200 * 10**9
MAX_RATIO = 200
MIN_LIMIT_BYTES = 10**9  # a small archive of blank images may well exceed the ratio
MAX_MEMBERS = 5_000_000
_CHUNK_BYTES = 1 << 20


def is_archive(path: Path) -> bool:
    """True for a zip or a tar (plain, gz, bz2 or xz), by content; for one that is cut off too: `unpack` says so.

    A pipe or a device is none: nobody waits for what it may hold.
    """
    try:
        return path.is_file() and (zipfile.is_zipfile(path) or tarfile.is_tarfile(path))
    except (EOFError, zlib.error, lzma.LZMAError):
        return True


def unpack(archive: Path, into: Path) -> Path:
    """Unpack into `into/SHA256-OF-THE-ARCHIVE` unless that is there already, and return that folder.

    It is built aside and renamed, so it is whole or absent; of several processes one builds it. Raises
    ValueError naming the member that is absolute, contains `..`, is a link, a device or listed twice, and for
    an archive that is damaged, encrypted, or unpacks to more than 200 GB or 200 times its size (and 1 GB).
    """
    with archive.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    folder = into / digest
    into.mkdir(parents=True, exist_ok=True)
    with FileLock(into / f"{digest}.lock"):
        if not folder.is_dir():
            aside = into / f"{digest}.partial"
            shutil.rmtree(aside, ignore_errors=True)  # what a killed process left
            try:
                _write_members(archive, aside)
                aside.rename(folder)
            finally:
                shutil.rmtree(aside, ignore_errors=True)
    return folder


def _write_members(archive: Path, folder: Path) -> None:
    limit_bytes = min(MAX_UNPACKED_BYTES, max(MIN_LIMIT_BYTES, MAX_RATIO * archive.stat().st_size))
    folder.mkdir()
    num_members = num_bytes = 0
    try:
        for name, content in _zip_members(archive) if zipfile.is_zipfile(archive) else _tar_members(archive):
            num_members += 1
            if num_members > MAX_MEMBERS:
                raise ValueError(f"{archive} holds more than {MAX_MEMBERS} members; unpack it yourself")
            target = folder / _safe_parts(archive, name)
            if content is None:
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            with content, target.open("xb") as file:
                while chunk := content.read(_CHUNK_BYTES):
                    num_bytes += len(chunk)
                    if num_bytes > limit_bytes:
                        raise ValueError(
                            f"{archive} unpacks to more than {limit_bytes} bytes (at its member {name!r}); "
                            "unpack it yourself if that is right"
                        )
                    file.write(chunk)
    except (FileExistsError, NotADirectoryError, IsADirectoryError):
        raise ValueError(f"{archive} holds {name!r} twice, or as a file and as a folder") from None
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError) as error:
        raise ValueError(f"{archive} is damaged: {error}") from error
    except OSError as error:
        if error.errno in (None, errno.EINVAL):  # a place before the file's beginning
            raise ValueError(f"{archive} is damaged: {error.strerror or error}") from error
        raise OSError(error.errno, f"{error.strerror} (while {archive} was unpacked into {folder.parent})") from error


def _zip_members(archive: Path) -> Iterator[tuple[str, IO[bytes] | None]]:
    """Name and content of each file, name and None of each folder."""
    with zipfile.ZipFile(archive) as opened:
        for info in opened.infolist():
            if not info.filename:
                raise ValueError(_refusal(archive, "", "has no name"))
            if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise ValueError(_refusal(archive, info.filename, "is a link or a device"))
            if info.flag_bits & 1:
                raise ValueError(f"{archive} is encrypted (its member {info.filename!r}); unpack it yourself")
            try:
                yield info.filename, None if info.is_dir() else opened.open(info)
            except NotImplementedError as error:
                raise ValueError(f"{archive} cannot be unpacked here: {error}; unpack it yourself") from error


def _tar_members(archive: Path) -> Iterator[tuple[str, IO[bytes] | None]]:
    with tarfile.open(archive) as opened:
        for info in opened:
            if not (info.isreg() or info.isdir()):
                raise ValueError(_refusal(archive, info.name, "is a link or a device"))
            yield info.name, None if info.isdir() else opened.extractfile(info)


def _safe_parts(archive: Path, name: str) -> PurePosixPath:
    """The member's path inside its folder; zips written on Windows may separate by backslashes."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or name[1:2] == ":":
        raise ValueError(_refusal(archive, name, "has an absolute path"))
    if ".." in path.parts:
        raise ValueError(_refusal(archive, name, "leaves its folder by '..'"))
    return path


def _refusal(archive: Path, name: str, reason: str) -> str:
    return f"{archive} holds {name!r}, which {reason}; it may hold only files and folders inside itself"
