"""How inputs are damaged, and what must hold afterwards: success, or one clear line.

`CTSEARCH_FUZZ_CASES` says how many cases the tests try together: 100 where it is not set, 10,000 before a release.
"""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from search.cli import MAX_ERROR_CHARS, in_flags

NUM_KINDS = 10
NUM_CASES = max(2, int(os.environ.get("CTSEARCH_FUZZ_CASES", "100")) // NUM_KINDS)

few = settings(
    max_examples=NUM_CASES,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
)
may_last_long = pytest.mark.timeout(300 + 4 * NUM_CASES)


# -- what is done to a whole file, and what must hold afterwards

PIECES = [
    b"",
    b"\0",
    b"\xff\xfe",
    b'"',
    b";",
    b"\r",
    b"{",
    b"../../escaped",
    b"/etc/passwd",
    b"nan",
    b"1e400",
    b"-1",
    b"9" * 30,
    b"x" * 5000,
    b"\xe2\x80\xae",
    b"\x1b[2J",
]
Edit = tuple[str, float, bytes]
edits: st.SearchStrategy[list[Edit]] = st.lists(
    st.tuples(
        st.sampled_from(["cut", "replace", "insert", "remove", "flip"]),
        st.floats(0, 1, exclude_max=True),
        st.sampled_from(PIECES) | st.binary(min_size=1, max_size=20),
    ),
    min_size=1,
    max_size=4,
)


def damage(whole: bytes, how: list[Edit]) -> bytes:
    for what, where, piece in how:
        at = int(where * len(whole))
        if what == "cut":
            whole = whole[:at]
        elif what == "replace":
            whole = whole[:at] + piece + whole[at + len(piece) :]
        elif what == "insert":
            whole = whole[:at] + piece + whole[at:]
        elif what == "remove":
            whole = whole[:at] + whole[at + len(piece) :]
        elif whole:
            whole = whole[:at] + bytes([whole[at] ^ (piece or b"\1")[0]]) + whole[at + 1 :]
    return whole


@contextlib.contextmanager
def sandbox() -> Iterator[Path]:
    """A folder to work in, two levels below one where nothing else may appear; code that runs leaves a file there."""
    with tempfile.TemporaryDirectory() as outer:
        inner = Path(outer) / "a" / "b"
        inner.mkdir(parents=True)
        with contextlib.chdir(inner):
            yield inner
        assert [path.name for path in Path(outer).iterdir()] == ["a"], "something was written outside"
        assert [path.name for path in (Path(outer) / "a").iterdir()] == ["b"], "something was written outside"
        assert not list(inner.rglob("exploded")), "code of a file was run"


def ends_well(call: Callable[[], object], *names: str) -> str:
    """Call; nothing where it succeeds, else its one line, which bears one of `names`."""
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")  # a warning is no error outside of tests
            call()
    except (ValueError, OSError) as error:  # what the command line prints as a line
        line = in_flags(error)
        assert line.isprintable(), repr(line)
        assert line and len(line) <= MAX_ERROR_CHARS
        assert any(name.lower() in line.lower() for name in names), line
        return line
    return ""


class Bomb:
    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return os.system, ("touch exploded",)
