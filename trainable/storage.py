"""Where a search keeps what must outlive a node: a local or shared folder, or an object store, through pyarrow"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from pyarrow import fs

from trainable.files import write_atomically


@lru_cache(maxsize=8)
def open_folder(uri: str) -> tuple[fs.FileSystem, str]:
    """The file system and the path of a folder: a local path or what pyarrow.fs understands (`s3://bucket/folder`).

    Raises ValueError for a URI that pyarrow cannot read.
    """
    if "://" not in uri:
        return fs.LocalFileSystem(), str(Path(uri).absolute())
    try:
        system, folder = fs.FileSystem.from_uri(uri)
    except (ValueError, OSError) as error:
        raise ValueError(
            f"the storage is {uri!r}; it must be a folder or a URI such as s3://bucket/folder ({error})"
        ) from error
    return system, folder.rstrip("/")


def join(uri: str, *parts: str) -> str:
    """A folder below `uri`; options behind a question mark, such as `?endpoint_override=...`, stay at the end."""
    path, mark, options = uri.partition("?") if "://" in uri else (uri, "", "")
    return "/".join((path.rstrip("/"), *parts)) + mark + options


def write_file(uri: str, name: str, content: bytes) -> None:
    """Write a file of a folder as one piece: a reader sees the old content or the new one. Raises OSError."""
    system, folder = open_folder(uri)
    if not isinstance(system, fs.LocalFileSystem):
        with system.open_output_stream(f"{folder}/{name}") as stream:  # a put of an object store is atomic
            stream.write(content)
        return
    Path(folder).mkdir(parents=True, exist_ok=True)
    write_atomically(Path(folder, name), content)


def read_file(uri: str, name: str) -> bytes | None:
    """The content of a file of a folder, or None where there is none. Raises OSError."""
    system, folder = open_folder(uri)
    try:
        with system.open_input_stream(f"{folder}/{name}") as stream:
            return bytes(stream.read())
    except FileNotFoundError:
        return None


def delete_file(uri: str, name: str) -> None:
    """Remove a file of a folder. Raises OSError."""
    system, folder = open_folder(uri)
    system.delete_file(f"{folder}/{name}")
