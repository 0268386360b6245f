"""SearchConfig: everything a user may ask of a search, in groups, checked once, at the door."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self

from search.core.budget_options import BudgetOptions
from search.core.data_options import DataOptions
from search.core.finish_options import FinishOptions
from search.core.machine_options import MachineOptions
from search.core.options import Option, defaults, list_options, read_keywords, require, show_value
from search.core.scheduling_options import SchedulingOptions
from search.core.search_options import SearchOptions
from search.core.space_options import SpaceOptions

GROUPS: Mapping[str, type] = {
    "search": SearchOptions,
    "data": DataOptions,
    "space": SpaceOptions,
    "budget": BudgetOptions,
    "scheduling": SchedulingOptions,
    "finish": FinishOptions,
    "machine": MachineOptions,
}
OPTIONS: Mapping[str, Option] = {name: entry for group in GROUPS.values() for name, entry in list_options(group)}
"""Every option by the name of its field."""


@dataclass(frozen=True, kw_only=True)
class SearchConfig(
    MachineOptions, FinishOptions, SchedulingOptions, BudgetOptions, SpaceOptions, DataOptions, SearchOptions
):
    """What a user asks for: the groups above together. Paths are absolute; raises OptionError for what cannot be."""

    def __post_init__(self) -> None:
        for name in ("home", "data", "space"):
            if (value := getattr(self, name)) is not None:
                object.__setattr__(self, name, Path(value).expanduser().absolute())
        if self.storage is not None and "://" not in self.storage:
            object.__setattr__(self, "storage", str(Path(self.storage).expanduser().absolute()))
        self._settle_objectives()
        self.check_data()
        self.check_space()
        self.check_budget()
        self.check_scheduling()
        self.check_finish()
        self.check_machine()

    def _settle_objectives(self) -> None:
        """With several objectives the first is the metric; configurations are drawn at random, since a sampler learns
        from one value; and the champion is one trial: a mean of five costs what all five do."""
        if not self.objective:
            return
        settled = {"metric": self.objective[0], "sampler": "random", "ensemble": 1, "confirm": 0}
        usual = dict(defaults(type(self)))
        for name, value in settled.items():
            if getattr(self, name) == usual[name]:
                object.__setattr__(self, name, value)
        require("ensemble", self.ensemble, self.ensemble == 1, "1 with several objectives")
        require("confirm", self.confirm, self.confirm == 0, "0 with several objectives")

    @classmethod
    def of(cls, **given: Any) -> Self:
        """From keywords named as on the command line or as the fields: `time_budget="2h"`, `arch="resnet18,vgg16"`.

        Raises TypeError for a keyword that is not known, OptionError for a value that cannot be.
        """
        return cls(**read_keywords(given, OPTIONS))

    @classmethod
    def from_groups(cls, content: Any, **over: Any) -> Self:
        """From the content of a `--config` file: a mapping of groups to their options, or of options alone.

        `over` are fields that win over it. Raises OptionError or TypeError naming what is wrong.
        """
        return cls(**{**read_groups(content), **over})

    def to_groups(self) -> dict[str, dict[str, Any]]:
        """What a `--config` file holds: every option that differs from its default, by group."""
        usual = dict(defaults(type(self)))
        return {
            title: {
                entry.keyword: show_value(value)
                for name, entry in list_options(group)
                if (value := getattr(self, name)) != usual[name]
            }
            for title, group in GROUPS.items()
        }

    def to_record(self) -> dict[str, Any]:
        """Plain data for `search.json`."""
        return {
            key: str(value) if isinstance(value, Path) else value
            for key, value in asdict(self).items()
            if value is not None
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """The configuration of a search that began earlier."""
        known = {entry.name for entry in fields(cls)}
        kept: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in record.items()
        }
        kept.setdefault("storage", None)  # whatever CTSEARCH_STORAGE says by now
        for key in ("home", "data", "space"):
            if key in kept:
                kept[key] = Path(kept[key])
        return cls(**{key: value for key, value in kept.items() if key in known})


def read_groups(content: Any) -> dict[str, Any]:
    """The fields that a `--config` file gives. Raises OptionError or TypeError naming what is wrong."""
    if not isinstance(content, Mapping):
        raise TypeError(f"a configuration is {type(content).__name__}; it must be a mapping of options, or of groups")
    flat: dict[str, Any] = {}
    for key, value in content.items():
        if key in GROUPS and (isinstance(value, Mapping) or value is None):  # `data` and `space` are options as well
            flat |= value or {}
        else:
            flat[str(key)] = value
    return read_keywords(flat, OPTIONS)
