"""`ctsearch report`: one HTML page of a search that runs or has ended, made of its records alone."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from search.core.budget import read_spent
from search.core.config import SearchConfig
from search.core.decisions import replay
from search.core.describe import describe_params, format_duration
from search.core.extension import read_recorded_config
from search.core.folder import Phase, SearchFolder, view_search
from search.core.ledger import Ledger
from search.core.pareto import find_front, list_able
from search.core.past import PastProposals
from search.core.rules import find_epochs, find_first_rung, list_levels
from search.engine.study_file import StudyFile
from search.page.html import PageParts, Tile, build_page
from search.page.trials import TrialsView
from search.result import ChampionResult, SearchResult
from trainable.files import write_atomically
from trainable.objectives import parse_objective
from trainable.report import Direction

if TYPE_CHECKING:
    from search.core.outlook import Foresight

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Page:
    """A page that is written, and in one line what is left to gain; "" where the model has too little to go by."""

    file: Path
    left: str


def report(home: Path, name: str, out: Path | None = None) -> Page:
    """Write the page of a search, `search.html` in its folder unless `out` says elsewhere.

    Raises ValueError where there is no such search.
    """
    return write_page(view_search(home, name), out)


def write_page(folder: SearchFolder, out: Path | None = None) -> Page:
    """The same for a folder that is open. It reads records only, so that the search may be running on them."""
    record, result, study = folder.read_record(), SearchResult.read(folder), StudyFile(folder.journal_file)
    config = read_recorded_config(folder)
    direction = Direction.of(config.metric)
    ledger = Ledger(direction)
    study.enter(ledger)
    max_epochs = find_epochs(config, record, [entry.num_epochs for entry in ledger.entries.values()])
    view = TrialsView(
        ranked=ledger.leaderboard(),
        metric=config.metric,
        higher_is_better=direction is Direction.MAXIMIZE,
        levels=sorted({*list_levels(config, max_epochs, find_first_rung(config, record)), max_epochs}),
        members=result.champion.members if result.champion else (),
        scales=study.scales(),
        costs=config.costs,
        front=[entry.number for entry in find_front(list_able(ledger), direction, config.costs)]
        if config.costs
        else (),
    )
    foresight = look_into(study, config, max_epochs)
    is_running = folder.is_running and folder.phase is not Phase.CONCLUDING
    parts = PageParts(
        name=folder.name,
        badge=_describe_state(folder, is_running),
        is_running=is_running,
        line=_describe_search(config, record, result, max_epochs),
        tiles=_tiles(ledger, config, folder, result, max_epochs),
        champion=_describe_champion(result.champion, result.figures) if result.champion else {},
        importances=study.importances(),
        foresight=foresight,
        outlook=describe_foresight(foresight, config.metric) if foresight else "",
        tracking_url=record.get("tracking_url", ""),
        footer=f"ctsearch {record.get('code_version', '')}; {datetime.now(UTC):%Y-%m-%d %H:%M} UTC. "
        f"Everything on this page is in {folder.folder}.",
    )
    file = out or folder.folder / "search.html"
    write_atomically(file, build_page(view, parts))
    return Page(file=file, left=describe_left(foresight) if foresight else "")


def look_into(study: StudyFile, config: SearchConfig, max_epochs: int) -> Foresight | None:
    """The curve model's view of a search, whichever rule decides it; None where it has too little to go by.

    New configurations are like those tried, since the space itself is not among the records.
    """
    from search.core.freeze_thaw import FreezeThaw
    from search.core.outlook import foresee

    history = [trial for trial in study.history() if trial.values]
    if not history:
        return None
    rule = FreezeThaw(
        PastProposals([trial.params for trial in history], study.scales()),
        max_epochs=max_epochs,
        higher_is_better=Direction.of(config.metric) is Direction.MAXIMIZE,
        seed=config.seed,
    )
    try:
        return foresee(replay(rule, history), stopped_too=True)
    except (ValueError, np.linalg.LinAlgError) as error:  # the page is worth more than this part of it
        _log.warning("what is left to gain cannot be said: %s", error)
        return None


def describe_foresight(foresight: Foresight, metric: str) -> str:
    """What is left to gain, in a sentence or two."""
    first = foresight.prospects[0]
    who = "a new configuration" if first.number is None else f"trial {first.number}, from epoch {first.epoch} on"
    return (
        f"By the model of the curves the best trial is worth {metric} {foresight.best:.4f}. The most promising next "
        f"step, {who}, trained to the last epoch, is expected to add {first.gain:.4f} for "
        f"{format_duration(first.seconds)} of one worker. Bars are one standard deviation; trials that were stopped "
        "are among them, as what they would have come to."
    )


def describe_left(foresight: Foresight) -> str:
    """The same in one line of the terminal."""
    first = foresight.prospects[0]
    who = "a new configuration" if first.number is None else f"trial {first.number}"
    cost = format_duration(first.seconds)
    return f"{first.gain:.2g} more is expected of the best next step, {who}, for {cost} of one worker"


def _describe_state(folder: SearchFolder, is_running: bool) -> str:
    if is_running:
        return "running"
    if folder.phase in (Phase.ENDED, Phase.CONCLUDING):
        return "ended"
    return "not running"


def _describe_search(config: SearchConfig, record: Mapping[str, Any], result: SearchResult, max_epochs: int) -> str:
    size = record.get("image_size")
    better = "higher" if parse_objective(config.metric).higher_is_better else "lower"
    words = [
        str(result.figures.get("data") or config.data or "the synthetic set"),
        f"{size} px" if size else "",
        f"{config.metric} on validation, {better} is better",
        f"{config.scheduler}, up to {max_epochs} epochs a trial",
        f"ended: {result.stop_reason}" if result.stop_reason else "",
    ]
    return " · ".join(word for word in words if word)


def _tiles(
    ledger: Ledger, config: SearchConfig, folder: SearchFolder, result: SearchResult, max_epochs: int
) -> list[Tile]:
    champion, num_folds = result.champion, result.figures.get("num_folds", 0)
    wall_s, device_s = read_spent(folder.spent_file)
    counts = ledger.counts()
    num_trials, num_epochs = len(ledger.entries), sum(len(entry.values) for entry in ledger.entries.values())
    tiles = []
    if (best := ledger.best()) is not None and best.best_value is not None:
        words = f"trial {best.number}, {best.params.get('architecture', '')}".rstrip(", ")
        tiles.append(Tile(what=f"Best trial, {config.metric}", value=f"{best.best_value:.4f}", words=words))
    if champion is not None:
        size = len(champion.members)
        words = "one trial" if size == 1 else f"the mean of {size} trials"
        words += f", confirmed in {num_folds} folds" if num_folds else ""
        tiles.append(Tile(what=f"Champion, {config.metric}", value=f"{champion.validation:.4f}", words=words))
        if (figure := champion.test.get(config.metric)) is not None and math.isfinite(figure.value):
            words = f"95 %: {figure.low:.3f} to {figure.high:.3f}"
            tiles.append(Tile(what=f"Sealed test, {config.metric}", value=f"{figure.value:.3f}", words=words))
    states = ", ".join(f"{number} {state}" for state, number in counts.most_common())
    tiles.append(Tile(what="Trials", value=f"{num_trials:,}", words=states))
    share = num_epochs / (num_trials * max_epochs) if num_trials else 0.0
    tiles.append(Tile(what="Epochs", value=f"{num_epochs:,}", words=f"{share:.0%} of training every trial to its end"))
    words = f"{device_s / 3600:.2f} device-hours"
    return [*tiles, Tile(what="Time", value=format_duration(wall_s), words=words)]


def _describe_champion(champion: ChampionResult, figures: Mapping[str, Any]) -> dict[str, str]:
    trials = ", ".join(map(str, champion.members))
    test = ", ".join(f"{name} {figure}" for name, figure in list(champion.test.items())[:6])
    validation = f"{champion.metric} {champion.validation:.4f}"
    if num_folds := figures.get("num_folds", 0):
        validation += f" on patients not seen, in {num_folds} folds; {figures['best_trial_value']:.4f} in the search"
    facts = {
        "Trials": trials,
        "The best of them": f"trial {champion.trial}, {champion.configuration.get('architecture', '')}, "
        f"{describe_params(champion.configuration)}",
        "Validation": validation,
        "Sealed test": test and f"{test}; 95 % intervals",
        "It can tell": str(figures.get("test_can_tell", "")),
        "Registered": champion.version and f"{champion.model_name} version {champion.version} as {champion.alias}",
        "Warnings": "; ".join(champion.warnings),
    }
    return {name: text for name, text in facts.items() if text}
