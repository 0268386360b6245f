"""A search that goes on: killed, terminated, or ended and given a larger budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from search.core.config import SearchConfig
from search.core.events import Observer
from search.core.extension import BUDGETS, enlarge, extend, find_differences, read_recorded_config
from search.core.folder import Phase, is_name, list_searches, reopen_search, view_search
from search.observers.mirror import fetch, holds
from search.preparation.changes import accept_changes, refuse_changes
from search.preparation.plan import prepare
from search.result import SearchResult
from search.runtime import Caller
from search.session import conduct, search


def search_or_resume(
    config: SearchConfig, *, observers: Sequence[Observer] = (), caller: Caller | None = None
) -> SearchResult:
    """Begin the search of this name, or go on with it where it exists: for jobs that a queue starts again.

    Once it has ended its result is given, unless the budget is larger by now. Raises ValueError where it began with
    other options than these.
    """
    if config.name is None:
        raise ValueError("--auto-resume needs --name: by it a search is found again")
    exists = config.name in list_searches(config.home)
    if not exists and not (config.storage and holds(config.storage, config.name)):
        return search(config, observers=observers, caller=caller)
    if not exists and config.storage:
        fetch(config.storage, config.home / "searches" / config.name)
    folder = view_search(config.home, config.name)
    began = read_recorded_config(folder)
    if differences := find_differences(began, config):
        raise ValueError(
            f"the search {config.name!r} began with other options: {'; '.join(differences)}; give those, or another "
            "--name"
        )
    larger = {name: value for name in BUDGETS if (value := getattr(config, name)) not in (None, getattr(began, name))}
    if folder.phase is Phase.ENDED and not larger:
        return SearchResult.read(folder)
    return resume(
        config.name,
        home=config.home,
        ray_address=config.ray_address,
        storage=config.storage,
        budget=larger,
        observers=observers,
        caller=caller,
    )


def resume(
    name: str,
    *,
    home: Path,
    ray_address: str | None = None,
    storage: str | None = None,
    budget: Mapping[str, Any] | None = None,
    accepts_changes: bool = False,
    observers: Sequence[Observer] = (),
    caller: Caller | None = None,
) -> SearchResult:
    """Go on with a search that was killed or terminated; on a head that has never seen it, from its storage.

    With a larger `budget` (fields of `BudgetOptions`, counted over all sessions) also after it has ended: trials are
    added and the champion is chosen anew among all. Images, space and models of the user's own that have changed are
    refused unless they are accepted.
    """
    home = home.expanduser().absolute()
    if storage and is_name(name) and not (home / "searches" / name).exists():
        fetch(storage, home / "searches" / name)
    caller = caller or Caller()
    folder = reopen_search(home, name)
    try:
        record = folder.read_record()
        if "recipe" in record:
            raise ValueError(f"{name!r} is a single training of the recipe {record['recipe']}; only searches go on")
        if folder.phase is Phase.ENDED and not budget:
            raise ValueError(
                f"the search {name!r} has ended: trial {record.get('champion')} is its champion and its sealed test "
                "has been opened; go on with a larger budget (--num-trials, --time-budget or --gpu-hours, in all), "
                "or begin a new search under another --name"
            )
        config = replace(read_recorded_config(folder), home=folder.home)
        if not accepts_changes:
            refuse_changes(config, folder)
        larger = enlarge(config, budget or {}, {**record, "name": name, "phase": folder.phase})
        accepted = accept_changes(config, folder) if accepts_changes else ()
        if larger != config or accepted:
            extend(folder, larger, accepted)
            config = larger
        config = replace(config, ray_address=ray_address or config.ray_address)
        with caller.signals():
            return conduct(config, folder, prepare, observers=observers, caller=caller)
    finally:
        folder.release()
