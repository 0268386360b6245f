"""The end of a search: choose the champion, score it on the sealed test once, register it, promote it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from search.champion.report import rank
from search.champion.sealed import SealedFigures, log_score, record_opening, score_sealed_test

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from mlflow import MlflowClient

    from search.champion.report import TrialSummary
    from trainable.config import TrialSettings
    from trainable.images.prepare import TrainingData

TOLERANCE = 1e-6  # relative, between the value a trial reported and the one its checkpoint gives


@dataclass(frozen=True, kw_only=True)
class Crowning:
    """What the end of a search gave: the champion, its registered versions and alias, its figures.

    `value` is the champion's `metric` on validation. `test` is None for an empty test split;
    `test_without_duplicates` leaves out the test slices that have near-duplicates in the other splits; `pictures` are
    those of the sealed test.
    """

    number: int
    model_name: str
    version: str
    images_version: str
    alias: str
    metric: str
    value: float
    test: SealedFigures | None
    test_without_duplicates: SealedFigures | None
    num_openings: int
    warnings: tuple[str, ...]
    pictures: tuple[Path, ...] = ()


def choose_champion(
    trials: Sequence[TrialSummary],
    *,
    higher_is_better: bool = True,
    is_kept: Callable[[TrialSummary], bool] = lambda trial: True,
) -> TrialSummary:
    """The trial with the best value at its best epoch, whatever its outcome; of equals the lower number.

    A trial whose best epoch is not kept as a checkpoint (`is_kept`; its worker died while writing) gives way to the
    next one; where none is kept, the best of all is given. Raises ValueError when no trial has a value.
    """
    ranked = [trial for trial in rank(trials, higher_is_better=higher_is_better) if trial.has_value]
    if not ranked:
        raise ValueError(f"none of {len(trials)} trials finished an epoch: there is no champion")
    return next(filter(is_kept, ranked), ranked[0])


def crown(
    champion: TrialSummary,
    *,
    client: MlflowClient,
    parent_run_id: str,
    model_name: str,
    search: str,
    folder: Path,
    checkpoint_uri: str,
    data: TrainingData,
    settings: TrialSettings,
    splits_file: Path,
    cache_dir: Path,
    source: str | None = None,
    warnings: Sequence[str] = (),
    num_resamples: int = 1000,
) -> Crowning:
    """Score the champion on the sealed test, register `model_name` and `model_name-images`, promote them.

    `folder` is the search's own, `checkpoint_uri` the champion's folder of checkpoints, `source` the text of
    a user's own net file, `warnings` what a user of the model must know. Called again after a crash, for the
    same champion, it goes on: nothing is registered or counted twice.

    Raises SealedTestError when the test was opened for another trial, FileNotFoundError without a checkpoint.
    """
    # torch is loaded when a search ends, not when the driver starts
    from trainable.checkpoint import CheckpointStore
    from trainable.export import ModelFacts, images_name, log_models
    from trainable.images.likeness import LIKENESS_FILE, fit_likeness
    from trainable.images.prepare import open_sealed_test
    from trainable.images.splits import read_splits
    from trainable.served_model import rebuild_model, score_validation

    assert champion.best_value is not None, "choose_champion gives a trial with a value"
    checkpoint = CheckpointStore(checkpoint_uri).load("best")
    if checkpoint is None:
        raise FileNotFoundError(
            f"trial {champion.number} has no readable `best` checkpoint in {checkpoint_uri}: restore that "
            "folder and resume the search, or choose another trial"
        )
    net = rebuild_model(champion.params, settings, checkpoint[0], source=source)
    notes = list(warnings)
    recomputed = score_validation(net, data, settings.metric)
    if not math.isclose(recomputed, champion.best_value, rel_tol=TOLERANCE):
        notes.append(
            f"trial {champion.number} reported a validation {settings.metric} of {champion.best_value:.8f}, "
            f"its checkpoint gives {recomputed:.8f} here"
        )

    opening = record_opening(folder, search=search, champion=champion.number, data_hash=data.data_hash)
    sealed = open_sealed_test(splits_file, cache_dir=cache_dir, image_size=data.image_size)
    score = score_sealed_test(net, sealed, data, folder=folder, seed=settings.seed, num_resamples=num_resamples)
    notes.extend(score.warnings)
    log_score(client, (champion.run_id, parent_run_id), score, opening)

    facts = ModelFacts(
        name=model_name,
        classes=data.classes,
        positive=data.positive,
        image_size=data.image_size,
        data_hash=data.data_hash,
        search=search,
        trial=champion.number,
        metric=settings.metric,
        value=champion.best_value,
        warnings=tuple(notes),
        test_metrics=score.to_metrics(),
        description=_describe(champion, search, settings.metric, score.figures, notes),
    )
    kept = [row.path for row in read_splits(splits_file) if row.split != "test" and row.kept]
    likeness = fit_likeness(data, kept)
    (folder / LIKENESS_FILE).write_text(likeness.to_json())
    versions = log_models(net, facts, client=client, run_id=champion.run_id, likeness=likeness)
    alias = promote(
        client,
        {model_name: versions.version, images_name(model_name): versions.images_version},
        higher_is_better=settings.higher_is_better,
    )
    return Crowning(
        number=champion.number,
        model_name=model_name,
        version=versions.version,
        images_version=versions.images_version,
        alias=alias,
        metric=settings.metric,
        value=champion.best_value,
        test=score.figures,
        test_without_duplicates=score.without_duplicates,
        num_openings=opening.num_openings,
        warnings=tuple(notes),
        pictures=score.pictures,
    )


def promote(client: MlflowClient, versions: Mapping[str, str], *, higher_is_better: bool) -> str:
    """Give the versions (by model name; the first decides for all) the alias they have earned; that alias.

    `champion` if no version has it, or if this one's validation value is better on the same data and metric;
    else `challenger`. Values, data and metric are read from the versions' tags.
    """
    name, version = next(iter(versions.items()))
    present = client.get_registered_model(name).aliases.get("champion")
    alias = "champion"
    if present is not None and str(present) != version:
        mine, theirs = (client.get_model_version(name, v).tags for v in (version, str(present)))
        alias = "champion" if _is_better(mine, theirs, higher_is_better) else "challenger"
    for name in reversed(list(versions)):  # the deciding one last: an interrupted call decides the same again
        client.set_registered_model_alias(name, alias, versions[name])
    return alias


def _is_better(mine: Mapping[str, str], theirs: Mapping[str, str], higher_is_better: bool) -> bool:
    if any(mine[tag] != theirs.get(tag) for tag in ("data_hash", "metric")):
        return False
    difference = float(mine["validation_value"]) - float(theirs["validation_value"])
    return difference > 0 if higher_is_better else difference < 0


def _describe(
    champion: TrialSummary, search: str, metric: str, test: SealedFigures | None, notes: Sequence[str]
) -> str:
    """What the registry shows beside a version."""
    lines = [
        f"Trial {champion.number} of search {search}: validation {metric} {champion.best_value:.4f} "
        f"at epoch {champion.best_epoch}."
    ]
    if test is not None:
        low, high = test.intervals["auc"]
        lines.append(
            f"Sealed test, {test.num_slices} slices in {test.num_groups} groups: AUC "
            f"{test.metrics['auc']:.3f} (95 % interval {low:.3f} to {high:.3f}), accuracy "
            f"{test.metrics['accuracy']:.3f}."
        )
    return "\n\n".join([*lines, *(f"Warning: {note}." for note in notes)])
