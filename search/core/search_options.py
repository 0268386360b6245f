"""Options that say which search it is, and where it lies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from search.core.folder import default_home
from search.core.option_values import path, text
from search.core.options import option


@dataclass(frozen=True, kw_only=True)
class SearchOptions:
    """Which search, and where it lies."""

    name: str | None = option("--name", "name of the search and of its folder (default: its date and time)", read=text)
    home: Path = option(
        "--home",
        "folder of all searches (default: $CTSEARCH_HOME, else ~/.ctsearch)",
        factory=default_home,
        read=path,
    )
    model_name: str | None = option(
        "--model-name", "name in the model registry (default: from the data's name)", read=text
    )
