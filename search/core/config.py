"""SearchConfig: everything a user may ask of a search, in groups, checked once, at the door."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self

from search.core.budget_options import BudgetOptions
from search.core.data_options import DataOptions
from search.core.finish_options import FinishOptions
from search.core.folder import default_home
from search.core.machine_options import MachineOptions
from search.core.options import Option, defaults, list_options, read_keywords, read_value, require, show_value
from search.core.scheduling_options import SchedulingOptions
from search.core.search_options import SearchOptions
from search.core.space_options import SpaceOptions
from trainable.objectives import name_metric

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
    """What a user asks for: the groups above together. Paths are absolute; raises OptionError for what cannot be.

    Whoever gives a value, by whichever door, it is read as its option reads it; None is not given.
    """

    def __post_init__(self) -> None:
        usual = dict(defaults(type(self))) | {"storage": None}  # without one, whatever CTSEARCH_STORAGE says
        for name, entry in OPTIONS.items():
            given = getattr(self, name)
            value = usual[name] if given is None else given
            object.__setattr__(self, name, value if value is None else read_value(name, entry, value))
        object.__setattr__(self, "metric", name_metric(self.metric))
        object.__setattr__(self, "objective", (*map(name_metric, self.objective[:1]), *self.objective[1:]))
        self._settle_objectives()
        self.check_data()
        self.check_space()
        self.check_budget()
        self.check_scheduling()
        self.check_finish()
        if self.image_size is not None:
            self.check_final_size(self.image_size)
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
        """The configuration of a search that began earlier; its data may be gone by now."""
        known = {entry.name for entry in fields(cls)} - {"data"}
        config = cls(**{key: value for key, value in record.items() if key in known})
        kept = {"storage": record.get("storage"), "data": record.get("data")}  # whatever CTSEARCH_STORAGE says by now
        for name, value in kept.items():
            object.__setattr__(config, name, None if value is None else read_value(name, OPTIONS[name], value))
        return config


def read_groups(content: Any) -> dict[str, Any]:
    """The fields that a `--config` file gives. Raises OptionError or TypeError naming what is wrong."""
    if not isinstance(content, Mapping):
        raise TypeError(f"a configuration is {type(content).__name__}; it must be a mapping of options, or of groups")
    flat: dict[str, Any] = {}
    for key, value in content.items():
        is_group = key in GROUPS and (isinstance(value, Mapping) or value is None)  # `data` and `space` are options too
        for name, entry in (value or {} if is_group else {key: value}).items():
            if flat.setdefault(str(name), entry) is not entry:
                raise TypeError(f"{name} is given twice, as {flat[str(name)]!r} and as {entry!r}")
    return read_keywords(flat, OPTIONS)


def find_home(given: Any) -> Path:
    """The folder of all searches: `given`, else the usual one. Raises OptionError for what is no path."""
    return read_value("home", OPTIONS["home"], given or default_home())
