"""Promotion: which version is @champion, by the probability of being better on the same patients."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trainable.report import Direction

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from mlflow import MlflowClient

    from search.champion.crown import Finish
    from search.champion.model import ChampionModel


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Whether a challenger is better than the present champion, and by which comparison, in words."""

    is_better: bool
    words: str


def promote(
    client: MlflowClient, versions: Mapping[str, str], *, rule: str, judge: Callable[[str], Verdict]
) -> tuple[str, str]:
    """Give the versions (by model name; the first decides for all) the alias they have earned; it, and why.

    `champion` if no version has it. Else by `rule`: "always"; "never" (`challenger`); or "if-better", by what
    `judge(present version)` says.
    """
    name, version = next(iter(versions.items()))
    present = client.get_registered_model(name).aliases.get("champion")
    alias, words = "champion", "no version was champion before"
    if present is not None and str(present) != version:
        verdict = Verdict(is_better=rule == "always", words=f"--promote {rule}")
        if rule == "if-better":
            verdict = judge(str(present))
        alias, words = "champion" if verdict.is_better else "challenger", f"version {present}: {verdict.words}"
    for name in reversed(list(versions)):  # the deciding one last: an interrupted call decides the same again
        client.set_registered_model_alias(name, alias, versions[name])
    return alias, words


def judge_challenger(
    client: MlflowClient, name: str, version: str, present: str, *, built: ChampionModel, finish: Finish
) -> Verdict:
    """The challenger beside the present champion on the validation patients of this search, by its metric.

    Where the present one was searched on other data it may have been trained on these patients: the challenger waits.
    Where it was trained on them, as a confirmed one was, or cannot score them (other image size or classes, unreadable
    files), by the values that both reported.
    """
    from search.champion.model import open_validation
    from trainable.comparisons import compare

    data, settings = finish.task.data, finish.task.settings
    mine, theirs = (client.get_model_version(name, each).tags for each in (version, present))
    if mine["data_hash"] != theirs.get("data_hash"):
        return Verdict(
            is_better=False,
            words="the data has changed, and it may have been trained on these patients: not compared "
            "(--promote always makes the new one champion)",
        )
    if json.loads(theirs.get("num_folds", "0")):
        verdict = judge_by_value(mine, theirs, settings.direction)
        return Verdict(is_better=verdict.is_better, words=f"{verdict.words} (it was trained on these patients)")
    pixels, labels, groups = open_validation(data)
    try:
        others = predict_registered(finish.tracking_uri, f"models:/{name}/{present}", pixels, classes=data.classes)
        found = compare(settings.metric, labels, built.probabilities, others, groups, data.positive)
    except ValueError as error:
        verdict = judge_by_value(mine, theirs, settings.direction)
        return Verdict(is_better=verdict.is_better, words=f"{verdict.words} ({error})")
    return Verdict(
        is_better=found.is_better,
        words=f"on the same validation {finish.group_name}, {found.describe().replace('patients', 'of them')}",
    )


def judge_by_value(mine: Mapping[str, str], theirs: Mapping[str, str], direction: Direction) -> Verdict:
    """By the values that two versions' tags hold, of the same data and metric."""
    if any(mine[tag] != theirs.get(tag) for tag in ("data_hash", "metric")):
        return Verdict(is_better=False, words="other data or another metric: not compared")
    values = float(mine["validation_value"]), float(theirs["validation_value"])
    is_better = direction.is_better(*values)
    return Verdict(is_better=is_better, words=f"by validation values, {values[0]:.4f} and {values[1]:.4f}")


def predict_registered(tracking_uri: str, uri: str, pixels: Any, *, classes: tuple[str, ...]) -> Any:
    """Probabilities float32 (N, C) of a registered model for uint8 pixels (N, S, S).

    Raises ValueError for a model of other pixels or classes, or one that cannot be loaded.
    """
    from trainable.classifier import load_registered, predict_pixels

    with _tracking_at(tracking_uri):
        classifier = load_registered(uri)
    if classifier.classes != classes or classifier.image_size != pixels.shape[1]:
        raise ValueError(
            f"it takes {classifier.image_size} px and knows {', '.join(classifier.classes)}; this search has "
            f"{pixels.shape[1]} px and {', '.join(classes)}"
        )
    return predict_pixels(classifier, pixels)


@contextmanager
def _tracking_at(uri: str) -> Iterator[None]:
    """MLflow's current server, which `models:/` is asked of, for a while; its settings are in the environment."""
    import os

    import mlflow

    before = os.environ.get("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before)
