"""The text of a table as a spreadsheet encodes it: UTF-8, UTF-16 with its mark, else Windows-1252."""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections import Counter
from pathlib import Path

MAX_LETTERS = 8
_BEYOND_UTF_8 = re.compile("[\udc80-\udcff]")
_CONTROLS = "\t\n\v\f\r\x1a"
_RUN = re.compile(b"[\xa1-\xff]{4,}")  # no word of western Europe has such
_NOT_ASCII = re.compile("[^\x00-\x7f]")


def decode_table(path: Path, data: bytes) -> tuple[str, tuple[str, ...]]:
    """The text of a table, and a note where its encoding was guessed, with the letters that came of it.

    What is not UTF-8, and has no mark that says so, is Windows-1252, as Excel writes CSV in western Europe. Raises
    ValueError naming the byte where it is not that either, or is rather UTF-8 with damage in it.
    """
    is_utf_16 = data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)  # Excel's "Unicode text"
    if not is_utf_16 and b"\0" in data:
        raise ValueError(f"{path} is not UTF-8 text (it holds zero bytes, as UTF-16 does); save it as UTF-8")
    try:
        return data.decode("utf-16" if is_utf_16 else "utf-8").lstrip("\ufeff"), ()
    except UnicodeDecodeError as error:
        if is_utf_16 or data.startswith(codecs.BOM_UTF8) or _is_rather_utf_8(data):
            raise ValueError(_refuse(path, data, error, "not UTF-16" if is_utf_16 else "not UTF-8")) from error
    text = _decode_western(path, data)
    letters = [letter for letter, _ in Counter(_NOT_ASCII.findall(text)).most_common()]
    shown = " ".join(letters[:MAX_LETTERS]) + (" ..." if len(letters) > MAX_LETTERS else "")
    return text, (f"{path.name} is not UTF-8: it was read as Windows-1252 (cp1252), which gives the letters {shown}",)


def _is_rather_utf_8(data: bytes) -> bool:
    """Are there at least as many characters of several bytes in it as bytes that are none of UTF-8?"""
    text = data.decode("utf-8", errors="surrogateescape")
    num_beyond = len(_BEYOND_UTF_8.findall(text))
    return len(_NOT_ASCII.findall(text)) >= 2 * num_beyond


def _decode_western(path: Path, data: bytes) -> str:
    runs = list(_RUN.finditer(data))
    if 2 * sum(len(run[0]) for run in runs) > sum(byte > 0x7F for byte in data):
        line = data.count(b"\n", 0, runs[0].start()) + 1
        raise ValueError(
            f"{path} is neither UTF-8 nor Windows-1252 text: letters beyond a to z follow one another as in Chinese or "
            f"Cyrillic (line {line}); save it as UTF-8"
        )
    try:
        text = data.decode("cp1252")
    except UnicodeDecodeError as error:
        raise ValueError(_refuse(path, data, error, "neither UTF-8 nor Windows-1252")) from error
    control = next((c for c in text if unicodedata.category(c) == "Cc" and c not in _CONTROLS), None)
    if control is not None:
        raise ValueError(
            f"{path} is not UTF-8 text (byte {text.index(control)} is the control character {ord(control):#04x}); save "
            "it as UTF-8"
        )
    return text


def _refuse(path: Path, data: bytes, error: UnicodeDecodeError, encoding: str) -> str:
    line = data.count(b"\n", 0, error.start) + 1
    return f"{path} is {encoding} text (byte {error.start}, {data[error.start]:#04x} in line {line}); save it as UTF-8"
