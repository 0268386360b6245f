"""Names as people write them: fit for a message, of one form where they mean the same, and the words for splits."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_SPLIT_STEMS = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "validate", "dev", "development"), "val"),
    **dict.fromkeys(("test", "testing", "tst", "holdout", "heldout"), "test"),
    **dict.fromkeys(("eval", "evaluation"), "eval"),
}
_FILLER = "(?:data|sets?|images?|imgs?|img|files?|samples?|splits?|slices?|scans?|cases?|folder)*"
_SPLIT_NAME = re.compile(f"[0-9]{{0,2}}{_FILLER}({'|'.join(_SPLIT_STEMS)}){_FILLER}")
_NUMBER = re.compile(r"[+-]?\d+(?:\.\d*)?")
_WHOLE_BY_COMMA = re.compile(r"([+-]?\d+),0{1,2}")  # as a spreadsheet writes 7.0 in many countries; 7,000 may be 7000
_SEPARATORS = re.compile(r"(?<=[^\W\d_])[\s_-]+(?=\w)|(?<=\w)[\s_-]+(?=[^\W\d_])")  # but not between digits
_MISSING = {"", "-", "--", "?", ".", "nan", "na", "n/a", "<na>", "#n/a", "#na", "null", "nat", "-nan", "1.#qnan"}
_YES_NO = (
    frozenset({"1", "true", "yes", "positive", "pos", "wahr", "ja", "oui"}),
    frozenset({"0", "false", "no", "negative", "neg", "falsch", "nein", "non"}),
)
SPLIT_WORDS = (
    "train, training, val, valid, validation, dev, test, testing, holdout, eval (any case, also with data or set)"
)


def printable(text: object) -> str:
    """The text on one line that a terminal shows as it is: what does not print is escaped, as in `Icon\\r`."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


def with_printable_errors(function: Callable[P, T]) -> Callable[P, T]:
    """The function, with every ValueError and FileNotFoundError it raises on one printable line."""

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except (ValueError, FileNotFoundError) as error:
            if printable(error) != str(error):
                error.args = (printable(error),)
            raise

    return wrapped


@functools.lru_cache(maxsize=1 << 14)
def tidy(text: str) -> str:
    """The text in NFC, each run of white space (also non-breaking) one space, without invisible characters.

    Quotes around it that a table left there are gone too.
    """
    spaced = "".join(" " if c.isspace() else c for c in unicodedata.normalize("NFC", text))
    visible = "".join(c for c in spaced if unicodedata.category(c) not in ("Cc", "Cf"))
    plain = " ".join(visible.split())
    quoted = len(plain) > 1 and plain[0] == plain[-1] and plain[0] in "\"'"
    return plain[1:-1].strip() if quoted else plain


def is_whole_by_comma(text: str) -> bool:
    """Is it a whole number with a decimal comma, as 7,0?"""
    return _WHOLE_BY_COMMA.fullmatch(text.strip()) is not None


def find_same_truth(names: Iterable[str]) -> tuple[str, str] | None:
    """Two names that both mean yes, or both no, in different words: 1 and True, neg and 0."""
    names = list(names)
    for words in _YES_NO:
        alike = [name for name in names if form_key(name).casefold() in words]
        if len(alike) > 1:
            return alike[0], alike[1]
    return None


def form_key(text: str) -> str:
    """A key that is equal for texts that differ in form only: 1, 1.0, 1,0 and 01; kinds of space, dash and letter."""
    key = unicodedata.normalize("NFKC", tidy(text))
    key = "".join("-" if unicodedata.category(c) == "Pd" else c for c in key)
    key = _WHOLE_BY_COMMA.sub(r"\1", " ".join(key.split())) if is_whole_by_comma(key) else " ".join(key.split())
    return f"{Decimal(key).normalize():f}" if _NUMBER.fullmatch(key) else key


def alike_key(text: str) -> str:
    """A key that is equal for texts that people hold for the same: also in another case, with other separators, or
    with zeros before a number, as `Patient_01` and `patient 1`."""
    key = form_key(text).casefold()
    if _NUMBER.fullmatch(key):
        return key
    return re.sub(r"(?<![\d.])0+(?=\d)", "", _SEPARATORS.sub("", key).strip(".,;: "))


def merge_forms(values: Iterable[str], *, loosely: bool = False) -> tuple[dict[str, str], list[tuple[str, ...]]]:
    """What each value is to be called, and the sets of values that differed in form only and got one name.

    Form is that of `form_key`, or `loosely` of `alike_key`.

    Values that differ in white space or invisible characters alone are not listed: nobody could see them apart.
    """
    alike: defaultdict[str, set[str]] = defaultdict(set)
    for value in dict.fromkeys(values):
        alike[alike_key(value) if loosely else form_key(value)].add(value)
    names: dict[str, str] = {}
    merged: list[tuple[str, ...]] = []
    for forms in alike.values():
        tidied = sorted({tidy(form) for form in forms}, key=lambda form: (len(form), form))
        names.update(dict.fromkeys(forms, tidied[0]))
        if len(tidied) > 1:
            merged.append(tuple(tidied))
    return names, merged


def is_missing(text: str, *, none_too: bool = False) -> bool:
    """Is it a stand-in for no value: empty, nan, NA, null; with `none_too` also None?"""
    key = tidy(text).casefold()
    return key in _MISSING or (none_too and key == "none")


def is_split_name(name: str) -> bool:
    """Is it a word for train, val or test, in any case and with `data`, `set` or a separator: `Train_Data`?"""
    return _stem(name) is not None


def map_splits(names: Iterable[str]) -> Mapping[str, str]:
    """Which of train, val and test each name stands for; names of none are absent.

    `eval` is val beside a test that has no val, else test.
    """
    stems = {name: stem for name in names if (stem := _stem(name)) is not None}
    evaluated = "val" if "test" in stems.values() and "val" not in stems.values() else "test"
    return {name: evaluated if stem == "eval" else stem for name, stem in stems.items()}


def _stem(name: str) -> str | None:
    match = _SPLIT_NAME.fullmatch(re.sub(r"[\W_]+", "", tidy(name).casefold()))
    return _SPLIT_STEMS[match[1]] if match else None
