"""Promotion: which version is @champion, by the probability of being better on the same patients."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainable.report import Direction

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import numpy as np
    from mlflow import MlflowClient

    from search.champion.crown import Finish
    from search.champion.model import ChampionModel
    from trainable.classifier import Classifier
    from trainable.images.prepare import SealedTest


LEAST_PATIENTS = 10
"""Fewer new patients than these tell two models apart by luck alone."""


@dataclass(frozen=True, kw_only=True)
class TestOfBoth:
    """The opened test of the challenger's search, and its own probabilities float (M, C) there; None without any."""

    __test__ = False  # no test of pytest's

    sealed: SealedTest
    probabilities: np.ndarray | None


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
    client: MlflowClient,
    name: str,
    version: str,
    present: str,
    *,
    built: ChampionModel,
    finish: Finish,
    test: TestOfBoth | None = None,
) -> Verdict:
    """The challenger beside the present champion on the validation patients of this search, by its metric.

    Where the present one was searched on other data it may have been trained on these patients: both are compared on
    those of the new `test` that neither has seen. Where it was trained on them, as a confirmed one was, or cannot score
    them (other image size or classes, unreadable files), by the values that both reported.
    """
    from search.champion.model import open_validation
    from trainable.classifier import predict_pixels
    from trainable.comparisons import compare

    data, settings = finish.task.data, finish.task.settings
    mine, theirs = (client.get_model_version(name, each).tags for each in (version, present))
    if mine["data_hash"] != theirs.get("data_hash"):
        return judge_on_new_patients(f"models:/{name}/{present}", finish, test)
    if json.loads(theirs.get("num_folds", "0")):
        verdict = judge_by_value(mine, theirs, settings.direction)
        return Verdict(is_better=verdict.is_better, words=f"{verdict.words} (it was trained on these patients)")
    pixels, labels, groups = open_validation(data)
    try:
        present_model = load_present(finish, f"models:/{name}/{present}")
        others = predict_pixels(present_model, pixels)
        found = compare(settings.metric, labels, built.probabilities, others, groups, data.positive)
    except ValueError as error:
        verdict = judge_by_value(mine, theirs, settings.direction)
        return Verdict(is_better=verdict.is_better, words=f"{verdict.words} ({error})")
    return Verdict(
        is_better=found.is_better,
        words=f"on the same validation {finish.group_name}, {found.describe().replace('patients', 'of them')}",
    )


def judge_on_new_patients(uri: str, finish: Finish, test: TestOfBoth | None) -> Verdict:
    """The challenger beside the present champion on the patients of a changed set's test that neither has seen: the
    test was opened for the challenger, of which everything was fixed, and the present one was fixed before."""
    from trainable.classifier import predict_pixels
    from trainable.comparisons import compare
    from trainable.images.seen import find_unseen

    data, metric, patients = finish.task.data, finish.task.settings.metric, finish.group_name
    try:
        if test is None or test.probabilities is None:
            raise ValueError("there is no test to compare on")
        present = load_present(finish, uri)
        if not present.seen:
            raise ValueError("it does not say which images it was trained on")
        rows = find_unseen(test.sealed.groups, test.sealed.hashes, present.seen)
        labels, groups = test.sealed.labels[rows], test.sealed.groups[rows]
        if (num_new := len(set(groups.tolist()))) < LEAST_PATIENTS:
            raise ValueError(f"{num_new} test {patients} are new to it, and {LEAST_PATIENTS} must be")
        others = predict_pixels(present, test.sealed.pixels[rows])
        found = compare(metric, labels, test.probabilities[rows], others, groups, data.positive)
    except ValueError as error:
        how = "--promote always makes the new one champion"
        return Verdict(is_better=False, words=f"the data has changed, and {error}: not compared ({how})")
    words = found.describe().replace("patients", "of them")
    return Verdict(
        is_better=found.is_better,
        words=f"the data has changed; on {num_new} test {patients} that neither was trained on, {words}",
    )


def judge_by_value(mine: Mapping[str, str], theirs: Mapping[str, str], direction: Direction) -> Verdict:
    """By the values that two versions' tags hold, of the same data and metric."""
    if any(mine[tag] != theirs.get(tag) for tag in ("data_hash", "metric")):
        return Verdict(is_better=False, words="other data or another metric: not compared")
    values = float(mine["validation_value"]), float(theirs["validation_value"])
    is_better = direction.is_better(*values)
    return Verdict(is_better=is_better, words=f"by validation values, {values[0]:.4f} and {values[1]:.4f}")


def load_present(finish: Finish, uri: str) -> Classifier:
    """A registered model that takes the pixels of this search.

    Raises ValueError for a model of other pixels or classes, or one that cannot be loaded.
    """
    from trainable.classifier import load_registered

    data = finish.task.data
    with _tracking_at(finish.tracking_uri):
        found = load_registered(uri)
    if found.classes != data.classes or (found.image_size, found.form) != (data.image_size, data.form):
        raise ValueError(
            f"it takes {found.image_size} px and knows {', '.join(found.classes)}; this search has "
            f"{data.image_size} px and {', '.join(data.classes)}"
        )
    return found


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
