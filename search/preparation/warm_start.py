"""Warm start: the best configurations of earlier searches in this home as first points of a new one.

They are tried first and judged like any other trial: what does not hold here costs the epochs of the first rung, of
at most `NUM_POINTS` trials, and nothing is believed of it beside. What it is worth is in benchmarks/warm_start.py.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search.core.config import SearchConfig
from search.core.finalists import rank_finalists
from search.core.folder import SearchFolder, list_searches, view_search
from search.core.ledger import Ledger, TrialEntry
from search.core.space import Space, find_point
from search.engine.study_file import read_study
from trainable.config import TrialConfig
from trainable.report import Direction
from trainable.suggest import did_you_mean

NUM_POINTS = 3
NUM_SEARCHES = 5
"""So many earlier searches are read, the newest of those that fit best."""


@dataclass(frozen=True, kw_only=True)
class Earlier:
    """An earlier search that fits, and its best trials, best first. `is_same_data`: of the very images and splits."""

    name: str
    is_same_data: bool
    best: Sequence[TrialEntry]


@dataclass(frozen=True, kw_only=True)
class WarmStart:
    """The points to begin with, in the space's own names, and `sources`: of which trial of which search each is."""

    points: Sequence[Mapping[str, Any]] = ()
    sources: Sequence[str] = ()
    skipped: Sequence[str] = ()

    def tags(self) -> dict[str, str]:
        """For the search's run in MLflow."""
        return {"warm_start": ", ".join(self.sources)} if self.sources else {}

    def lines(self) -> list[str]:
        """What the terminal says."""
        lines = [f"first points: {', '.join(self.sources)}"] if self.sources else []
        if self.skipped:
            num = len(self.skipped)
            subject = f"{self.skipped[0]} is" if num == 1 else f"{num} trials, such as {self.skipped[0]}, are"
            lines.append(f"{subject} not in the space of this search")
        return lines or ["no earlier search in this home fits"]


def warm_start(config: SearchConfig, folder: SearchFolder, space: Space, *, data_hash: str, task: str) -> WarmStart:
    """What earlier searches know of the data with this hash, or of this name (`task`): decided once, and read by a
    resumed search from its record.

    Raises ValueError where `--warm-start` names a search that is not there, or has nothing to say.
    """
    if config.warm_start == "off":
        return WarmStart()
    known = folder.read_record().get("warm_start")
    if known is not None:
        return WarmStart(points=known["points"], sources=known["sources"], skipped=known["left_out"])
    found = choose_points(find_earlier(config, folder, data_hash, task), space)
    if not found.points and config.warm_start != "auto":
        raise ValueError(
            f"--warm-start is {config.warm_start!r}; that search has no trial that this one could try: "
            f"{'; '.join(found.lines()) if found.skipped else 'none has finished an epoch'}. Name another one, or "
            "leave it out"
        )
    folder.update_record(warm_start={"points": found.points, "sources": found.sources, "left_out": found.skipped})
    return found


def find_earlier(config: SearchConfig, folder: SearchFolder, data_hash: str, task: str) -> list[Earlier]:
    """The searches to learn from: the one that was named, else those for the same metric on the same data, and then on
    data of the same name (more patients, another split), the newest first."""
    direction = Direction.of(config.metric)
    if config.warm_start != "auto":
        known = [name for name in list_searches(config.home) if name != folder.name]
        if config.warm_start not in known:
            hint = did_you_mean(config.warm_start, known)
            raise ValueError(
                f"--warm-start is {config.warm_start!r}{hint}; it must be auto, off or a search of this home: "
                f"{', '.join(known) or 'there is none'}"
            )
        named = view_search(config.home, config.warm_start)
        is_same = named.read_record().get("data_hash") == data_hash
        return [Earlier(name=named.name, is_same_data=is_same, best=_best_of(named, direction))]
    fitting = []
    for name, record, began_s in _read_records(config.home, folder.name):
        if record["config"].get("metric") != config.metric or "recipe" in record:
            continue
        is_same = record.get("data_hash") == data_hash
        if is_same or (record.get("data_name") or record.get("model_name")) == task:
            fitting.append((not is_same, -began_s, name))
    earlier = []
    for is_other, _, name in sorted(fitting)[:NUM_SEARCHES]:
        with suppress(ValueError):  # its trials cannot be read, and are none to learn from
            best = _best_of(view_search(config.home, name), direction)
            earlier.append(Earlier(name=name, is_same_data=not is_other, best=best))
    return earlier


def choose_points(earlier: Iterable[Earlier], space: Space, num_points: int = NUM_POINTS) -> WarmStart:
    """The best of each search, then the second of each, and so on; each configuration once, and what the space has."""
    searches = list(earlier)
    points: list[Mapping[str, Any]] = []
    sources: list[str] = []
    skipped: list[str] = []
    seen: set[str] = set()
    for search, entry in _in_turns(searches):
        if len(points) == num_points or len(skipped) > 4 * num_points:
            break
        key = json.dumps(dict(entry.params), sort_keys=True, default=str)
        if key in seen:
            continue
        seen.add(key)
        source = f"{search.name}/{entry.number}"
        try:
            points.append(find_point(space, TrialConfig.from_params(entry.params)))
        except (ValueError, TypeError):
            skipped.append(source)
            continue
        sources.append(source)
    return WarmStart(points=tuple(points), sources=tuple(sources), skipped=tuple(skipped))


def _in_turns(searches: Sequence[Earlier]) -> Iterator[tuple[Earlier, TrialEntry]]:
    for place in range(max((len(search.best) for search in searches), default=0)):
        for search in searches:
            if place < len(search.best):
                yield search, search.best[place]


def _best_of(folder: SearchFolder, direction: Direction) -> list[TrialEntry]:
    """Trials in the order in which they would become champions: those trained to their end before all others."""
    ledger = Ledger(direction)
    read_study(folder.journal_file, ledger)
    return [entry for entry in rank_finalists(ledger, last_rung=1) if math.isfinite(entry.best_value or math.nan)]


def _read_records(home: Path, own: str) -> Iterator[tuple[str, Mapping[str, Any], float]]:
    """Every other search, its record and when it began; a record that cannot be read is none to learn from."""
    for name in list_searches(home):
        if name == own:
            continue
        folder = view_search(home, name)
        try:
            yield name, {**folder.read_record(), "config": folder.recorded_options}, folder.splits_file.stat().st_mtime
        except (OSError, ValueError):
            continue
