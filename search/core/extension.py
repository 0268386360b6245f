"""A search that goes on with a larger budget, also after it has ended: what it may spend now, and what is recorded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from search.core.budget_options import BudgetOptions
from search.core.config import OPTIONS, SearchConfig
from search.core.folder import Phase, SearchFolder
from search.core.options import OptionError, list_options
from search.core.stop import StopReason
from trainable.images.faults import show_text
from trainable.records import ADVICE, RecordError

BUDGETS = tuple(name for name, _ in list_options(BudgetOptions))
"""The fields of a budget: what `--resume` takes beside a name."""

_SPENT_BY = {
    "num_trials": StopReason.ALL_TRIALS,
    "time_budget_s": StopReason.TIME_BUDGET,
    "device_hours": StopReason.DEVICE_HOURS,
}
_BEGAN_BESIDE = (*BUDGETS, "name", "home", "ray_address", "storage", "tracking_uri", "timings")


def read_recorded_config(folder: SearchFolder) -> SearchConfig:
    """The configuration of a search that began earlier. Raises ValueError naming its record where that is damaged."""
    options = folder.recorded_options
    try:
        return SearchConfig.from_record(options)
    except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError) as error:
        what = f"it has no {error}" if isinstance(error, KeyError) else show_text(str(error))
        raise RecordError(f"{folder.record_file} is damaged: its config cannot be read ({what}); {ADVICE}") from error


def enlarge(config: SearchConfig, given: Mapping[str, Any], record: Mapping[str, Any]) -> SearchConfig:
    """The configuration with the budgets `given`, which hold for the search in all, earlier sessions included.

    `record` is the search's. Raises OptionError for a budget that is no larger than before, and for one that was not
    given and is spent: without any the search goes on to its champion.
    """
    for name, value in given.items():
        before = getattr(config, name)
        if before is not None and value < before:
            raise OptionError(
                name, f"is {value:g}; the search began with {before:g} and counts all sessions: give more, or leave it"
            )
    larger = replace(config, **given)
    if record.get("phase") == Phase.ENDED and larger == config:
        raise ValueError(f"the search {record.get('name', '')!r} has ended with this budget; give a larger one")
    for name, reason in _SPENT_BY.items() if given else ():
        limit = getattr(larger, name)
        if record.get("stop") == reason.name and limit is not None and limit == getattr(config, name):
            raise OptionError(
                name, f"is {limit:g}, and spent: the search ended by it. Give a larger {OPTIONS[name].flag} too"
            )
    return larger


def extend(folder: SearchFolder, config: SearchConfig, accepted: tuple[str, ...] = ()) -> None:
    """Note in the record that the search goes on with `config`: a champion is then chosen anew among all trials.

    `accepted` are changes of its surroundings that the user has accepted, in words.
    """
    record = folder.read_record()
    entry = {
        "champion": record.get("champion"),
        "stop": record.get("stop"),
        "accepted": list(accepted),
        **{name: getattr(config, name) for name in BUDGETS},
    }
    folder.update_record(
        config=config.to_record(),
        extensions=[*record.get("extensions", ()), entry],
        confirmation=None,
        phase=Phase.SEARCHING.value if record.get("phase") != Phase.PREPARING else Phase.PREPARING.value,
    )


def note_budget(folder: SearchFolder, given: Mapping[str, Any]) -> None:
    """Write a larger budget of a running search into its record: a resume counts by it."""
    config = read_recorded_config(folder)
    folder.update_record(config=replace(config, **given).to_record())


def find_differences(began: SearchConfig, now: SearchConfig) -> list[str]:
    """What a configuration asks otherwise than the search that began; budgets and surroundings may differ."""
    before, after = began.to_record(), now.to_record()
    names = [name for name in OPTIONS if name not in _BEGAN_BESIDE]
    return [
        f"{OPTIONS[name].flag} was {_show(before.get(name))}, is {_show(after.get(name))}"
        for name in names
        if _plain(before.get(name)) != _plain(after.get(name))
    ]


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _show(value: Any) -> str:
    return "not given" if value in (None, (), [], {}) else str(value)
