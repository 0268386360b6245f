"""Options of the search space: what may be drawn, and what is tried first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search.core.option_values import names, pairs, path, text
from search.core.options import OptionError, option, require_choice
from trainable.recipes import RECIPES, find_recipe

SAMPLERS = ("tpe", "random")


def read_recipes(value: Any) -> tuple[str, ...]:
    """`all`, or names of recipes."""
    given = names(value)
    return tuple(RECIPES) if given == ("all",) else given


def read_weights(value: Any) -> dict[str, str]:
    """`ARCH=FILE` pairs, their files absolute, or `imagenet` for torchvision's own."""
    if isinstance(value, Mapping):
        given = dict(value)
    else:
        entries = [value] if isinstance(value, str) else list(value)
        given = {"imagenet": ""} if "imagenet" in entries else {}
        given |= pairs([entry for entry in entries if entry != "imagenet"])
    if given.get("imagenet"):
        raise ValueError("imagenet stands for torchvision's own weights, and takes no file; give ARCHITECTURE=FILE")
    return {text(name): str(path(file)) if name != "imagenet" else "" for name, file in given.items()}


@dataclass(frozen=True, kw_only=True)
class SpaceOptions:
    """What may be drawn. `ranges` narrows the default space by hyperparameter name; `recipes` are tried first, their
    architectures beside `architectures`."""

    architectures: tuple[str, ...] = option(
        "--arch", "models to try; FILE.py:FUNCTION is one of your own", default=(), metavar="A,B", read=names
    )
    ranges: Mapping[str, str] = option(
        "--range",
        "narrow one hyperparameter (or A,B,C)",
        factory=dict,
        metavar="NAME=LOW:HIGH",
        read=pairs,
        repeats=True,
        shortcuts={"--lr": ("learning_rate", "LOW:HIGH", "short for --range learning_rate=LOW:HIGH")},
    )
    space: Path | None = option("--space", "your own `def space(trial)`", metavar="FILE.py", read=path)
    recipes: tuple[str, ...] = option(
        "--recipes",
        "begin with these (`ctsearch recipes`); their architectures join",
        default=(),
        metavar="all|A,B",
        read=read_recipes,
    )
    weights: Mapping[str, str] = option(
        "--weights",
        "pretrained weights, or `imagenet`",
        factory=dict,
        metavar="ARCH=FILE",
        read=read_weights,
        repeats=True,
    )
    sampler: str = option(
        "--sampler", "how configurations are proposed (default: tpe)", default="tpe", choices=SAMPLERS
    )

    warm_start: str = option(
        "--warm-start",
        "begin with the best of earlier searches: auto (same data, in this home), off or a search (default: off)",
        default="off",
        metavar="auto|NAME|off",
        read=text,
    )

    def check_space(self) -> None:
        for name in self.recipes:
            find_recipe(name)
        require_choice("sampler", self.sampler, SAMPLERS)
        if self.space is not None and (self.architectures or self.ranges):
            raise OptionError(
                "space", "replaces the default space, which arch, lr and range narrow: give one or the other"
            )
