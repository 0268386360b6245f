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
    from search.core.config import SearchConfig as SearchConfig
    from search.core.events import Observer as Observer
    from search.result import ChampionResult as ChampionResult
    from search.result import SearchResult as SearchResult
    from trainable.images.audit_data import DataAudit as DataAudit

__all__ = [
    *("ChampionResult", "DataAudit", "Observer", "SearchConfig", "SearchResult"),
    *("audit", "load", "open", "resume", "search", "submit"),
]

_HOMES = {
    "SearchConfig": "search.core.config",
    "Observer": "search.core.events",
    "SearchResult": "search.result",
    "ChampionResult": "search.result",
    "DataAudit": "trainable.images.audit_data",
}


def search(
    data: str | Path | None = None,
    *,
    config: SearchConfig | None = None,
    progress: bool | None = None,
    observers: Sequence[Observer] = (),
    **options: Any,
) -> SearchResult:
    """Search, and register the champion; returns when it has ended.

    `data` is a folder with one subfolder per class, an archive, or a manifest (docs/data.md); without any the synthetic
    set is searched. `options` are those of `ctsearch search`, or all of them come in `config`. `progress` shows a live
    table and what is settled on the way; by default in a notebook alone. `observers` hear of every event.
    """
    from search import session
    from search.core.config import SearchConfig

    with _in_keywords():
        if config is None:
            config = SearchConfig.of(**({} if data is None else {"data": data}), **options)
        elif data is not None or options:
            raise TypeError("config holds all options: give it alone, or data and options without it")
        return session.search(config, observers=observers, caller=_caller(progress))


def audit(
    data: str | Path,
    *,
    out: str | Path | None = None,
    home: str | Path | None = None,
    patient_from: str | None = None,
    positive: str | None = None,
    slices: str = "all",
) -> DataAudit:
    """What is in a data set and what is wrong with it: `.lines()`, `.findings`, `.exit_code`; nothing is trained.

    With `out`, `audit.html` and `audit.json` are written into that folder.
    """
    from search.commands.audit import audit as audit_set

    with _in_keywords():
        return audit_set(
            Path(data).expanduser().absolute(),
            home=_home(home),
            patient_from=patient_from,
            positive=positive,
            slices=slices,
            out=None if out is None else Path(out),
        )


def resume(
    name: str, *, home: str | Path | None = None, progress: bool | None = None, observers: Sequence[Observer] = ()
) -> SearchResult:
    """Go on with a search that was killed or interrupted."""
    from search import session

    with _in_keywords():
        return session.resume(name, home=_home(home), observers=observers, caller=_caller(progress))


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


def submit(cluster_file: str | Path, **options: Any) -> int:
    """Search on the cluster that `ray up CLUSTER_FILE` made; this machine may be switched off. Paths are those of the
    head. Returns the exit status of the submission."""
    from search.commands.submit import submit as submit_search
    from search.core.config import OPTIONS
    from search.core.options import to_arguments

    with _in_keywords():
        return submit_search(Path(cluster_file), to_arguments(options, OPTIONS))


def _home(home: str | Path | None) -> Path:
    from search.core.folder import default_home

    return Path(home or default_home()).expanduser().absolute()


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
