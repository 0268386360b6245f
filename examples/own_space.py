"""A search space of your own: any `if` may stand in it, and what is drawn is what a trial gets.

    ctsearch search --data slices/ --space examples/own_space.py

Names and ranges that a trial takes are those of `TrialConfig` in trainable/config.py; what is not drawn keeps the
default that stands there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import optuna


def space(trial: optuna.Trial) -> dict[str, Any]:
    drawn: dict[str, Any] = {
        "architecture": trial.suggest_categorical("architecture", ["small_cnn", "mobilenet_v3_small"]),
        "learning_rate": trial.suggest_float("learning_rate", 1e-4, 1e-2, log=True),
        "batch_size": trial.suggest_categorical("batch_size", [16, 32]),
        "augmentation": trial.suggest_float("augmentation", 0.0, 0.6),
    }
    if drawn["architecture"] == "small_cnn":
        drawn["cnn_depth"] = trial.suggest_int("cnn_depth", 2, 4)
        drawn["cnn_filters"] = trial.suggest_categorical("cnn_filters", [8, 16, 32])
    else:
        drawn["dropout"] = trial.suggest_float("dropout", 0.0, 0.5)
    return drawn
