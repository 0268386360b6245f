"""Durations, curves and configurations in a few words, for the terminal and the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trainable.recipes import name_recipe

SPARKS = "▁▂▃▄▅▆▇█"
SHOWN_PARAMS = ("optimizer", "learning_rate", "batch_size", "augmentation", "weight_decay")


def format_duration(seconds: float) -> str:
    """`42 s`, `3 min 05 s` or `2 h 07 min`."""
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 1:
        return f"{rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def draw_spark(values: Sequence[float], low: float, high: float, width: int = 16) -> str:
    """A curve in block characters, its last `width` values scaled to [low, high]."""
    span = (high - low) or 1.0
    steps = (min(max((value - low) / span, 0.0), 1.0) for value in values[-width:])
    return "".join(SPARKS[round(step * (len(SPARKS) - 1))] for step in steps)


def describe_params(params: Mapping[str, Any]) -> str:
    """The hyperparameters that matter most, in a few words, after the name of the recipe that they are, if any."""
    shown = []
    for name in SHOWN_PARAMS:
        if name in params:
            value = params[name]
            short = {
                "learning_rate": "lr",
                "batch_size": "batch",
                "augmentation": "aug",
                "weight_decay": "wd",
            }
            text = f"{value:.2g}" if isinstance(value, float) else str(value)
            shown.append(text if name == "optimizer" else f"{short[name]} {text}")
    recipe = name_recipe(params)
    return (f"{recipe}: " if recipe else "") + ", ".join(shown)


def name_trials(numbers: Sequence[int]) -> str:
    """`trial 3`, or `trials 1, 3 and 5`."""
    if len(numbers) == 1:
        return f"trial {numbers[0]}"
    return f"trials {', '.join(map(str, numbers[:-1]))} and {numbers[-1]}"
