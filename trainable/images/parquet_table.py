"""A Parquet file as rows of text: what its columns are called, and what a value looks like."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trainable.images.faults import show_text


def read_names(path: Path) -> list[str]:
    """The names of its columns. Raises ValueError for what is no Parquet file."""
    return list(_read_schema(path).names)


def list_word_columns(path: Path, max_words: int) -> list[str]:
    """The names of its columns of text in which no more than `max_words` different ones stand."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = [field.name for field in _read_schema(path) if pa.types.is_string(field.type)]
    with _naming(path):
        return [name for name in names if len(pq.read_table(path, columns=[name])[name].unique()) <= max_words]


def check_holds_paths(path: Path, column: str) -> None:
    """Raise ValueError where a column of paths holds the images themselves."""
    import pyarrow as pa

    kind = _read_schema(path).field(column).type
    if pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        raise ValueError(
            f"{path} holds images, or bytes, in its column {column} ({kind}), not paths as text; save each image as a "
            "file and give a table of their paths and labels"
        )


def read_rows(path: Path, columns: Sequence[str]) -> list[tuple[int, list[str]]]:
    """The number of each row, 2 for the first as below a header, and the text of its columns. Raises ValueError."""
    import pyarrow.parquet as pq

    with _naming(path):
        rows = pq.read_table(path, columns=list(columns)).to_pylist()
    return [(number, [_to_text(row[name]) for name in columns]) for number, row in enumerate(rows, 2)]


def _read_schema(path: Path) -> Any:
    import pyarrow.parquet as pq

    with _naming(path):
        return pq.read_schema(path)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Whatever pyarrow finds wrong with a file's content is one ValueError that names it."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, ArithmeticError, LookupError, MemoryError, OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise ValueError(f"{path} is not a Parquet file that can be read: {show_text(str(error))[:500]}") from error


def _to_text(value: object) -> str:
    """A value as a table shows it; a whole number that is too large for a float keeps the form that says so."""
    if value is None or value != value:  # NaN
        return ""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        value = int(value)
    return str(value)
