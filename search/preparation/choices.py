"""What a user names by hand, checked before Ray starts and before an image is read; imports nothing heavy."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from search.core.checks import check_python_file
from search.core.folder import list_searches
from search.core.ranges import parse_range
from search.preparation.models import KNOWN, read_own_model
from trainable.config import is_own_model
from trainable.files import check_regular_file
from trainable.recipes import RECIPES
from trainable.suggest import did_you_mean

if TYPE_CHECKING:
    from search.core.config import SearchConfig

SOURCES = ("timm:",)
"""Names of other libraries' architectures, which only those libraries know."""


def check_choices(config: SearchConfig) -> None:
    """Raise ValueError, one line, for what --arch, --range, --space, --recipes or --weights name and nobody has.

    The files that they name must be there, be regular files and, where they are Python, be Python. Neither a user's
    code is run nor are weights read here; that needs torch (`choose_models`, `check_own_models`).
    """
    for name in config.architectures:
        check_architecture(name)
    for name, text in config.ranges.items():
        parse_range(name, text)
    for name in config.recipes:
        if name not in RECIPES:
            raise ValueError(f"--recipes has {name!r}{did_you_mean(name, RECIPES)}; it must be of {', '.join(RECIPES)}")
    if config.space is not None:
        check_python_file(config.space, "--space", "space")
    check_weights_are_used(config)
    check_weight_files(config.weights)
    known = ("auto", "off", *list_searches(config.home))
    if config.warm_start not in known:
        raise ValueError(
            f"--warm-start is {config.warm_start!r}{did_you_mean(config.warm_start, known)}; it must be auto, off or a "
            f"search of this home: {', '.join(known[2:]) or 'there is none'}"
        )
    if config.data is not None and config.data.is_dir() and not any(files for *_, files in os.walk(config.data)):
        raise ValueError(
            f"--data is {config.data}, and there is no file in it; a data folder holds CLASS/slice or "
            "CLASS/PATIENT/slice (docs/data.md shows each layout)"
        )
    for name, data in config.external.items():
        if not Path(data).exists():
            raise ValueError(f"--external {name} is {data}; there is no such folder, archive or manifest")


def check_architecture(name: str, option: str = "--arch") -> None:
    """Raise ValueError for an unknown name, and for an own model whose file or function is not there."""
    if is_own_model(name):
        read_own_model(name)
    elif name not in KNOWN and not name.startswith(SOURCES):
        hint = did_you_mean(name, KNOWN)
        if name.endswith(".py") or "/" in name:
            hint = f"; a model of your own is FILE.py:FUNCTION, such as {name}:build"
        raise ValueError(
            f"{option} has {name!r}, an unknown architecture{hint}; it must be one of {', '.join(KNOWN)}, or your own "
            "model as FILE.py:FUNCTION"
        )


def check_weight_files(weights: Mapping[str, str]) -> None:
    """`weights` maps architectures to files, or "imagenet" to nothing."""
    for name, file in weights.items():
        if name == "imagenet":
            continue
        if not is_own_model(name):
            check_architecture(name, "--weights")
        check_regular_file(Path(file), f"--weights {name}")


def check_weights_are_used(config: SearchConfig) -> None:
    """Raise ValueError for weights of a model that is not asked for. Without any --arch the machine says which are."""
    if not config.architectures:
        return
    of_recipes = [RECIPES[name].config.architecture for name in config.recipes]
    tried = dict.fromkeys([*config.architectures, *of_recipes])
    for name in config.weights:
        if name not in ("imagenet", *tried):
            hint = did_you_mean(name, tried)
            raise ValueError(f"--weights names {name!r}{hint}; the search tries only: {', '.join(tried)}")
