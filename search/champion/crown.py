"""The champion: rebuilt, scored once on the sealed test, saved, registered and promoted."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow import MlflowClient

from search.champion.choice import Candidate, choose_champion
from search.champion.registration import promote
from search.champion.sealed import (
    Opening,
    SealedFigures,
    SealedScore,
    log_score,
    read_opening,
    record_opening,
    score_sealed_test,
)
from trainable.report import Outcome
from trainable.run_log import is_lost_connection

if TYPE_CHECKING:
    from search.core.folder import SearchFolder
    from search.core.ledger import Ledger
    from trainable.export import ModelFacts
    from trainable.task import TrialTask

TOLERANCE = 1e-6  # relative, between the value a trial reported and the one its checkpoint gives
UNREGISTERED = "unregistered"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Champion:
    """What the end of a search gave: the champion, its registered versions and alias, its figures.

    `value` is the champion's `metric` on validation, at `epoch`. `test` is None for an empty test split;
    `test_without_duplicates` leaves out the test slices that have near-duplicates in the other splits; `figures` are
    those of the sealed test. `models` holds both saved models; where MLflow stayed away they have no version yet and
    the alias is "unregistered".
    """

    number: int
    params: Mapping[str, Any]
    outcome: Outcome
    model_name: str
    metric: str
    value: float
    epoch: int
    test: SealedFigures | None
    test_without_duplicates: SealedFigures | None
    num_openings: int
    warnings: tuple[str, ...]
    models: Path
    figures: tuple[Path, ...] = ()
    version: str = ""
    images_version: str = ""
    alias: str = UNREGISTERED


@dataclass(frozen=True, kw_only=True)
class Finish:
    """What the end of a search needs to know of it. `warnings` are what a user of the model must know."""

    folder: SearchFolder
    task: TrialTask
    model_name: str
    tracking_uri: str
    parent_run_id: str
    warnings: Sequence[str] = ()
    num_resamples: int = 1000


def crown_champion(ledger: Ledger, finish: Finish) -> Champion | None:
    """Choose the best trial, or go on with the one for which the sealed test was opened already; None without any.

    Called again after a crash it goes on: nothing is registered or counted twice. Where MLflow stays away the
    champion lies in the search's folder all the same. Raises SealedTestError when the test was opened for another
    trial, FileNotFoundError without a readable checkpoint.
    """
    opened = read_opening(finish.folder.sealed_test_file)
    candidate = choose_champion(ledger, finish.task, opened_for=opened.champion if opened else None)
    return None if candidate is None else crown(candidate, finish)


def crown(candidate: Candidate, finish: Finish) -> Champion:
    """Score, save and register one trial."""
    from trainable.export import save_models
    from trainable.images.likeness import LIKENESS_FILE, fit_likeness
    from trainable.images.prepare import open_sealed_test
    from trainable.images.splits import read_splits
    from trainable.served_model import rebuild_model

    folder, task = finish.folder, finish.task
    data, settings, entry = task.data, task.settings, candidate.entry
    source = task.sources.get(entry.params["architecture"])
    model = rebuild_model(entry.params, settings, candidate.state, source=source)
    notes = [*finish.warnings, *candidate.warnings, *check_value(model, candidate, finish)]

    opening = record_opening(folder.folder, search=folder.name, champion=entry.number, data_hash=data.data_hash)
    sealed = open_sealed_test(folder.splits_file, cache_dir=folder.cache, image_size=data.image_size, form=data.form)
    resampling = {"seed": settings.seed, "num_resamples": finish.num_resamples}
    score = score_sealed_test(model, sealed, data, folder=folder.folder, **resampling)
    notes.extend(score.warnings)

    facts = describe_model(candidate, finish, score, notes)
    kept = [row.path for row in read_splits(folder.splits_file) if row.split != "test" and row.kept]
    likeness = fit_likeness(data, kept)
    (folder.folder / LIKENESS_FILE).write_text(likeness.to_json())
    save_models(model, facts, folder.models, likeness)
    champion = Champion(
        number=entry.number,
        params=entry.params,
        outcome=entry.outcome or Outcome.INTERRUPTED,
        model_name=finish.model_name,
        metric=settings.metric,
        value=candidate.value,
        epoch=candidate.epoch,
        test=score.figures,
        test_without_duplicates=score.without_duplicates,
        num_openings=opening.num_openings,
        warnings=tuple(notes),
        models=folder.models,
        figures=score.pictures,
    )
    return register(champion, facts, score, opening, run_id=entry.run_id, finish=finish)


def check_value(model: Any, candidate: Candidate, finish: Finish) -> list[str]:
    """A warning where the checkpoint does not give the value that the trial reported."""
    from trainable.served_model import score_validation

    metric = finish.task.settings.metric
    recomputed = score_validation(model, finish.task.data, metric)
    if math.isclose(recomputed, candidate.value, rel_tol=TOLERANCE):
        return []
    return [
        f"trial {candidate.entry.number} reported a validation {metric} of {candidate.value:.8f}, its checkpoint gives "
        f"{recomputed:.8f} here"
    ]


def describe_model(candidate: Candidate, finish: Finish, score: SealedScore, notes: Sequence[str]) -> ModelFacts:
    """What is stored with the models, and what the registry shows beside a version."""
    from trainable.export import ModelFacts

    data, metric, number = finish.task.data, finish.task.settings.metric, candidate.entry.number
    lines = [
        f"Trial {number} of search {finish.folder.name}: validation {metric} {candidate.value:.4f} "
        f"at epoch {candidate.epoch}."
    ]
    if (test := score.figures) is not None:
        low, high = test.intervals["auc"]
        lines.append(
            f"Sealed test, {test.num_slices} slices in {test.num_groups} groups: AUC "
            f"{test.metrics['auc']:.3f} (95 % interval {low:.3f} to {high:.3f}), accuracy "
            f"{test.metrics['accuracy']:.3f}."
        )
    return ModelFacts(
        name=finish.model_name,
        classes=data.classes,
        positive=data.positive,
        image_size=data.image_size,
        form=data.form,
        data_hash=data.data_hash,
        search=finish.folder.name,
        trial=number,
        metric=metric,
        value=candidate.value,
        warnings=tuple(notes),
        test_metrics=score.to_metrics(),
        description="\n\n".join([*lines, *(f"Warning: {note}." for note in notes)]),
    )


def register(
    champion: Champion, facts: ModelFacts, score: SealedScore, opening: Opening, *, run_id: str | None, finish: Finish
) -> Champion:
    """Log the test's figures, register both models and promote them; as it was where MLflow stays away."""
    from trainable.export import images_name, register_models

    client = MlflowClient(finish.tracking_uri)
    try:
        if run_id is None:  # MLflow was away when the trial began, and has been ever since
            raise ConnectionError("the champion's run was never opened")
        log_score(client, (run_id, finish.parent_run_id), score, opening)
        versions = register_models(champion.models, facts, client=client, run_id=run_id)
        named = {facts.name: versions.version, images_name(facts.name): versions.images_version}
        alias = promote(client, named, direction=finish.task.settings.direction)
    except Exception as error:
        if not is_lost_connection(error):
            raise
        _log.warning(
            "MLflow at %s stays away: champion, figures and both models lie in %s; `ctsearch search --resume %s` "
            "registers them",
            finish.tracking_uri,
            champion.models,
            finish.folder.name,
        )
        return champion
    return replace(champion, version=versions.version, images_version=versions.images_version, alias=alias)
