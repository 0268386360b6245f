"""Names as people write them: fit for a message, of one form where they mean the same, and the words for splits."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from decimal import Context, Decimal
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
_NUMBER = re.compile(r"[+-]?\d+(?:\.\d*|\.\d+[eE][+-]\d{1,2})?")
_POINTED = re.compile(r"\d+[.,]\d*?[1-9](0*)")
_BY_COMMA = re.compile(r"([+-]?\d+),(\d{1,2})")  # 0,5 in many countries; 7,000 may be 7000
_AS_TEXT = re.compile(r"""^(?:="([^"]*)"|'(\d[^']*))$""")
_WHOLE_BY_COMMA = re.compile(r"[+-]?\d+,0{1,2}")
_SEPARATORS = re.compile(r"(?<=[^\W\d_])[\s_,^-]+(?=\w)|(?<=\w)[\s_,^-]+(?=[^\W\d_])")  # but not between digits
_MISSING = {"nan", "na", "n/a", "n/d", "n.a.", "n.a", "k.a.", "k. a.", "<na>", "#na", "null", "nat", "-nan", "1.#qnan"}
_NO_VALUE = re.compile(r"[-.?_]*|#[\u00a1\u00bf]?[^\W\d][\w/]*[!?]|#nv|#[^\W\d]/[^\W\d]")  # also a spreadsheet's errors
_NOBODY = re.compile(
    r"an[o0]n(ym(ous|ized|ised|us|e|isiert)?)?|de-?identified|unknown|unk|unbekannt|inconnue?|desconocid[oa]|none|"
    r"no[ _-]?(id|name)|removed|hidden",
    re.IGNORECASE,
)
_YES_NO = (
    frozenset(
        {
            *("1", "true", "yes", "positive", "pos", "wahr", "ja", "oui", "y", "t", "vrai", "positiv", "positif", "si"),
            *("s\u00ed", "\u0434\u0430", "\u662f", "\u9633\u6027", "\u967d\u6027"),
        }
    ),
    frozenset(
        {
            *("0", "false", "no", "negative", "neg", "falsch", "nein", "non", "n", "f", "faux", "negativ"),
            *("n\u00e9gatif", "\u043d\u0435\u0442", "\u5426", "\u9634\u6027", "\u9670\u6027"),
        }
    ),
)
_CYRILLIC = "\u0430\u0432\u0435\u043a\u043c\u043d\u043e\u0440\u0441\u0442\u0443\u0445\u0456\u0455\u0458"
_LOOKALIKES = str.maketrans(_CYRILLIC, "abekmhopctyxisj")
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

    Quotes around it that a table left there are gone too, and a spreadsheet's marks of text: ="007" and '007.
    """
    spaced = "".join(" " if c.isspace() else c for c in unicodedata.normalize("NFC", text))
    visible = "".join(c for c in spaced if unicodedata.category(c) not in ("Cc", "Cf"))
    plain = _AS_TEXT.sub(r"\1\2", " ".join(visible.split()))
    quoted = len(plain) > 1 and plain[0] == plain[-1] and plain[0] in "\"'"
    return plain[1:-1].strip() if quoted else plain


def split_words(name: str) -> list[str]:
    """The words and the numbers of a name, also where capitals begin one: train and A of trainA."""
    return re.findall(r"[^\W\d_]+|\d+", re.sub(r"(?<=[^\W\d_A-Z])(?=[A-Z])", " ", tidy(name)))


def is_whole_by_comma(text: str) -> bool:
    """Is it a whole number with a decimal comma, as 7,0?"""
    return _WHOLE_BY_COMMA.fullmatch(text.strip()) is not None


def find_same_truth(names: Iterable[str]) -> tuple[str, str] | None:
    """Two names that both mean yes, or both no, in different words: 1 and True, neg and 0."""
    names = list(names)
    for words in _YES_NO:
        alike = [name for name in names if form_key(name).casefold() in words]
        if len(alike) > 1 and not all(name.isalpha() and name.isascii() and len(name) == 1 for name in alike):
            return alike[0], alike[1]
    return None


def form_key(text: str) -> str:
    """A key that is equal for texts that differ in form only: 1, 1.0, 1,0 and 01; kinds of space, dash and letter."""
    key = unicodedata.normalize("NFKC", tidy(text))
    key = "".join("-" if unicodedata.category(c) == "Pd" or c == "\u2212" else c for c in key)
    key = _BY_COMMA.sub(r"\1.\2", key) if _BY_COMMA.fullmatch(key := " ".join(key.split())) else key
    if not _NUMBER.fullmatch(key):
        return key
    number = Decimal(key).normalize(Context(prec=len(key)))
    return f"{number:f}" if number else "0"


def alike_key(text: str) -> str:
    """A key that is equal for texts that people hold for the same: also in another case, with other separators, with
    zeros before a number, as `Patient_01` and `patient 1`, or in Cyrillic letters that look alike.

    A point may stand between two numbers, as of a site and a person: 1.1 and 1.10 are not alike."""
    key = form_key(text).casefold().translate(_LOOKALIKES)
    if _NUMBER.fullmatch(key):
        pointed = _POINTED.fullmatch(tidy(text))
        return key + (pointed[1] if pointed else "")
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
    """Is it a stand-in for no value: empty, nan, NA, null, #NV; with `none_too` also None?"""
    key = form_key(text).casefold()
    return key in _MISSING or _NO_VALUE.fullmatch(key) is not None or (none_too and key == "none")


def is_nobody(text: str) -> bool:
    """Is it a stand-in for no person: no value, or a word such as ANONYMOUS?"""
    return is_missing(text, none_too=True) or _NOBODY.fullmatch(tidy(text)) is not None


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
