"""ctsearch in Python: search, look at the trials, load the champion, classify.

    import ctsearch

    result = ctsearch.search(data="slices/", time_budget="2h")
    result.trials.to_dataframe()
    result.champion.test["auc"]
    result.champion.classify("new-slices/")

Options are those of the command line, by the same names: `--time-budget 2h` is `time_budget="2h"`. What a user can
change is raised as ValueError (TypeError for a keyword that is not known), a server or cluster that does not answer as
OSError. Importing this module loads none of the large libraries.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from search.champion.external import ExternalScore as ExternalScore
    from search.core.config import SearchConfig as SearchConfig
    from search.core.events import Observer as Observer
    from search.result import ChampionResult as ChampionResult
    from search.result import SearchResult as SearchResult
    from trainable.images.audit_data import DataAudit as DataAudit

__all__ = [
    *("ChampionResult", "DataAudit", "ExternalScore", "Observer", "SearchConfig", "SearchResult"),
    *("audit", "enqueue", "evaluate", "extend", "load", "open", "resume", "search", "status", "stop", "submit"),
]

_HOMES = {
    "SearchConfig": "search.core.config",
    "Observer": "search.core.events",
    "SearchResult": "search.result",
    "ChampionResult": "search.result",
    "DataAudit": "trainable.images.audit_data",
    "ExternalScore": "search.champion.external",
}


def search(
    data: str | Path | None = None,
    *,
    config: SearchConfig | None = None,
    progress: bool | None = None,
    observers: Sequence[Observer] = (),
    auto_resume: bool = False,
    **options: Any,
) -> SearchResult:
    """Search, and register the champion; returns when it has ended.

    With `auto_resume` a search of this name that exists goes on.

    `data` is a folder with one subfolder per class, an archive, or a manifest (docs/data.md); without any the synthetic
    set is searched. `options` are those of `ctsearch search`, or all of them come in `config`. `progress` shows a live
    table and what is settled on the way; by default in a notebook alone. `observers` are called at every event.
    """
    from search import resuming, session
    from search.core.config import SearchConfig

    with _in_keywords():
        if config is None:
            config = SearchConfig.of(**({} if data is None else {"data": data}), **options)
        elif data is not None or options:
            raise TypeError("config holds all options: give it alone, or data and options without it")
        elif not isinstance(config, SearchConfig):
            raise TypeError(f"config is a {type(config).__name__}; make it by ctsearch.SearchConfig.of(...)")
        if auto_resume:
            return resuming.search_or_resume(config, observers=observers, caller=_caller(progress))
        return session.search(config, observers=observers, caller=_caller(progress))


def audit(
    data: str | Path,
    *,
    out: str | Path | None = None,
    home: str | Path | None = None,
    patient_from: str | None = None,
    positive: str | None = None,
    slices: str = "all",
    window: str = "lung",
    colour: bool = False,
    neighbours: int = 0,
    neighbour_mm: float | None = None,
) -> DataAudit:
    """What is in a data set and what is wrong with it: `.lines()`, `.findings`, `.exit_code`; nothing is trained.

    It is read as a search with the same options reads it. With `out`, `audit.html` and `audit.json` are written into
    that folder.
    """
    from search.commands.audit import audit as audit_set

    with _in_keywords():
        return audit_set(
            _data(data),
            home=_home(home),
            patient_from=patient_from,
            positive=positive,
            slices=slices,
            window=window,
            colour=colour,
            neighbours=neighbours,
            neighbour_mm=neighbour_mm,
            out=None if out is None else Path(out),
        )


def evaluate(
    data: str | Path,
    model: str | None = None,
    *,
    home: str | Path | None = None,
    tracking_uri: str | None = None,
    patient_from: str | None = None,
    skip_bad_images: bool = False,
) -> ExternalScore:
    """The figures of a registered model (by default the champion) on another labelled set: `.lines(names)`,
    `.figures`, `.of_patients`, `.to_record()`. Nothing is trained."""
    from search.commands.evaluate import evaluate as evaluate_on

    with _in_keywords():
        return evaluate_on(
            model,
            _data(data),
            home=_home(home),
            tracking_uri=tracking_uri,
            patient_from=patient_from,
            skip_bad_images=skip_bad_images,
        )


def resume(
    name: str,
    *,
    home: str | Path | None = None,
    progress: bool | None = None,
    observers: Sequence[Observer] = (),
    accept_changes: bool = False,
    **budget: Any,
) -> SearchResult:
    """Go on with a search that was killed or interrupted.

    With a larger `budget` (`num_trials`, `time_budget`, `gpu_hours`, counted over all sessions) also after its end.
    `accept_changes` takes images, space and models of your own as they are by now.
    """
    from search import resuming
    from search.core.config import OPTIONS
    from search.core.extension import BUDGETS
    from search.core.options import read_keywords

    with _in_keywords():
        larger = read_keywords(budget, {name: OPTIONS[name] for name in BUDGETS})
        return resuming.resume(
            name,
            home=_home(home),
            budget=larger,
            accepts_changes=accept_changes,
            observers=observers,
            caller=_caller(progress),
        )


def open(name: str, *, home: str | Path | None = None) -> SearchResult:
    """The result of a search that has ended, or what one that runs in another process has come to."""
    from search.core.folder import view_search
    from search.result import SearchResult

    with _in_keywords():
        return SearchResult.read(view_search(_home(home), name))


def load(name: str, *, home: str | Path | None = None) -> Any:
    """The champion of a search as a torch module: uint8 pixels in, probabilities out. Raises ValueError without one."""
    champion = open(name, home=home).champion
    if champion is None:
        raise ValueError(f"the search {name!r} has no champion yet")
    return champion.load()


def status(name: str, *, home: str | Path | None = None) -> dict[str, Any]:
    """Where a search stands, running or not: plain values, those of `ctsearch status NAME --json`."""
    from search.commands.steer import read_status

    with _in_keywords():
        return read_status(_home(home), name)


def stop(name: str, *, trial: int | None = None, home: str | Path | None = None) -> str:
    """End a running search with its champion so far, or one `trial` of it; what its driver answers.

    Raises ValueError where it does not run, or cannot.
    """
    from search.commands.steer import stop as ask_to_stop

    with _in_keywords():
        return ask_to_stop(_home(home), name, trial)


def enqueue(name: str, *, home: str | Path | None = None, **params: Any) -> str:
    """Let a running search try a configuration next: `enqueue("first", lr=3e-4, arch="resnet18")`; what its driver
    answers. What is not given is drawn. Raises ValueError for what its space does not have."""
    from search.commands.steer import try_next

    with _in_keywords():
        return try_next(_home(home), name, params)


def extend(name: str, *, home: str | Path | None = None, **budget: Any) -> str:
    """Give a running search a larger budget, in all: `extend("first", time_budget="2h")`; what its driver answers."""
    from search.commands.steer import extend as ask_to_extend
    from search.core.config import OPTIONS
    from search.core.extension import BUDGETS
    from search.core.options import read_keywords

    with _in_keywords():
        larger = read_keywords(budget, {field: OPTIONS[field] for field in BUDGETS})
        return ask_to_extend(_home(home), name, larger)


def submit(cluster_file: str | Path, **options: Any) -> int:
    """Search on the cluster that `ray up CLUSTER_FILE` made; this machine may be switched off. Paths are those of the
    head. Returns the exit status of the submission."""
    from search.commands.submit import submit as submit_search
    from search.core.config import OPTIONS
    from search.core.options import to_arguments

    with _in_keywords():
        return submit_search(Path(cluster_file), to_arguments(options, OPTIONS))


def _home(home: str | Path | None) -> Path:
    from search.core.config import find_home

    return find_home(home)


def _data(data: str | Path) -> Path:
    from search.core.config import OPTIONS
    from search.core.options import read_value

    return read_value("data", OPTIONS["data"], data)


def _caller(progress: bool | None) -> Any:
    from rich.console import Console

    from search.runtime import Caller

    console = Console()
    shows = console.is_jupyter if progress is None else progress
    return Caller(console=console if shows else Console(quiet=True))


@contextmanager
def _in_keywords() -> Iterator[None]:
    """Errors name options as they are called here: `time_budget`, not `--time-budget`."""
    from search.core.options import OptionError

    try:
        yield
    except OptionError:
        raise
    except ValueError as error:
        text = re.sub(r"--([a-z][a-z-]+)", lambda found: found[1].replace("-", "_"), str(error))
        if text == str(error) or type(error).__init__ is not ValueError.__init__:
            raise
        raise type(error)(text) from error


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
