"""What the entries of a search's record must be: one that was edited by hand is named before anything reads it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from search.core.stop import StopReason
from trainable.images.faults import show_text

Check = Callable[[Any], bool]


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _is_number_from(least: int) -> Check:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= least


def _are(check: Check) -> Check:
    return lambda value: isinstance(value, list) and all(map(check, value))


def _are_by_name(check: Check) -> Check:
    return lambda value: isinstance(value, dict) and all(map(check, value.values()))


def _has(needed: Mapping[str, Check], others: Mapping[str, Check] | None = None) -> Check:
    """An object with all the entries `needed`, of which these and those among `others` are as they must be."""
    checks = {**needed, **(others or {})}
    return lambda value: (
        isinstance(value, dict)
        and needed.keys() <= value.keys()
        and all(check(value[name]) for name, check in checks.items() if name in value)
    )


_TEXTS = (
    "code_version",
    "data_hash",
    "data_name",
    "model_name",
    "parent_run_id",
    "recipe",
    "stop_reason",
    "tracking_url",
)
_FIELDS: Mapping[str, tuple[Check, str]] = {
    **dict.fromkeys(_TEXTS, (_is_text, "text")),
    **{name: (_is_number_from(1), "a whole number from 1 on") for name in ("first_rung", "image_size", "max_epochs")},
    "champion": (_is_number_from(0), "the number of a trial"),
    "confirmation": (
        _has(
            {"members": _are(_is_number_from(0)), "num_folds": _is_number_from(2)}, {"final_size": _is_number_from(1)}
        ),
        "an object with members, a list of trials, num_folds, 2 or more, and final_size where there is one",
    ),
    "extensions": (_are(_is_object), "a list of objects"),
    "form": (_is_object, "an object"),
    "nets": (
        _has({}, {"architectures": _are(_is_text), "sources": _are_by_name(_is_text)}),
        "an object with architectures, a list of names, and sources, texts by name",
    ),
    "plans": (_are_by_name(_is_object), "objects by name"),
    "recipes_left_out": (_are_by_name(_is_text), "texts by name"),
    "runs": (_are_by_name(_is_text), "runs of MLflow by the number of a trial"),
    "sharing": (_are_by_name(_are(lambda rate: isinstance(rate, int | float))), "lists of numbers by name"),
    "stop": (
        lambda value: _is_text(value) and value in StopReason.__members__,
        f"one of {', '.join(StopReason.__members__)}",
    ),
    "warm_start": (
        _has({"points": _are(_is_object), "sources": _are(_is_text), "left_out": _are(_is_text)}),
        "an object with points, sources and left_out",
    ),
}


def find_wrong_field(record: Mapping[str, Any]) -> str:
    """What of a record cannot be, in words; "" where all may be. An entry of null counts as absent."""
    for name, value in record.items():
        if name in _FIELDS and value is not None:
            check, words = _FIELDS[name]
            if not check(value):
                return f"its {name} is {show_text(repr(value))}; it must be {words}"
    return ""
