"""The champion: rebuilt, scored once on the sealed test, saved, registered and promoted."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow import MlflowClient

from search.champion.choice import choose_members
from search.champion.confirmed import build_confirmed
from search.champion.facts import describe_model
from search.champion.final_size import choose_size, resize
from search.champion.model import ChampionModel, build_champion, measure_cost
from search.champion.opening import Opening, opened_for, record_opening
from search.champion.promotion import TestOfBoth, judge_challenger, promote
from search.champion.sealed import SealedFigures, SealedScore, log_score, score_sealed_test
from trainable.report import Outcome
from trainable.retry_queue import is_lost_connection

if TYPE_CHECKING:
    from search.core.confirmation import Confirmation
    from search.core.folder import SearchFolder
    from search.core.ledger import Ledger
    from trainable.export import ModelFacts
    from trainable.images.prepare import SealedTest
    from trainable.operating_point import OperatingPoint
    from trainable.task import TrialTask
    from trainable.verdicts import PatientVerdict

UNREGISTERED = "unregistered"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Champion:
    """What the end of a search gave: the champion, its registered versions and alias, its figures.

    `members` are the trials whose mean it is, `number` the best of them, with its `params`, `epoch` and
    `best_trial_value`; `value` is the `metric` of the mean on validation, with `num_folds` that of a confirmation.
    `score` is that of the sealed test. It takes images of `image_size` pixels; `notes` say what was chosen on the way.
    `models` holds both saved models; where MLflow stayed away they have no version yet and the alias is "unregistered".
    `promotion` says why it has that alias.
    """

    number: int
    members: tuple[int, ...]
    params: Mapping[str, Any]
    outcome: Outcome
    model_name: str
    metric: str
    value: float
    best_trial_value: float
    num_folds: int = 0
    epoch: int
    score: SealedScore
    num_openings: int
    warnings: tuple[str, ...]
    models: Path
    version: str = ""
    images_version: str = ""
    alias: str = UNREGISTERED
    promotion: str = ""
    temperature: float = 1.0
    point: OperatingPoint | None = None
    verdict: PatientVerdict | None = None
    model_bytes: int = 0
    latency_ms: float = 0.0
    image_size: int = 0
    notes: tuple[str, ...] = ()

    @property
    def test(self) -> SealedFigures | None:
        """The figures of the sealed test; None where it is empty."""
        return self.score.figures


@dataclass(frozen=True, kw_only=True)
class Finish:
    """What the end of a search needs to know of it. `warnings` are what a user of the model must know, `group_name`
    what the groups of the data are. `ensemble` is the most trials in the mean, `last_rung` how far those that have not
    completed must have come; `goals` that of the operating point by name; `promote` is one of if-better, always, never.
    Where MLflow is known not to be reachable it is not asked: its client would try for minutes. With a `confirmation`,
    whose trainings are those of `fold_tasks`, one a size, the champion is chosen by it; else it is the `preferred`
    trial, if there is one.
    """

    folder: SearchFolder
    task: TrialTask
    model_name: str
    tracking_uri: str
    parent_run_id: str
    warnings: Sequence[str] = ()
    num_resamples: int = 1000
    group_name: str = "groups"
    ensemble: int = 5
    last_rung: int = 0
    calibrates: bool = True
    goals: Mapping[str, float] = field(default_factory=dict)
    promote: str = "if-better"
    is_reachable: bool = True
    confirmation: Confirmation | None = None
    fold_tasks: Sequence[TrialTask] = ()
    preferred: Sequence[int] = ()


def crown_champion(ledger: Ledger, finish: Finish) -> Champion | None:
    """Choose the best trials, or go on with those for which the sealed test was opened already; None without any.

    Called again after a crash it goes on: nothing is registered or counted twice. Where MLflow stays away the
    champion lies in the search's folder all the same. Raises SealedTestError when the test was opened for other
    trials, FileNotFoundError without a readable checkpoint.
    """
    opened = opened_for(finish.folder.sealed_test_file, finish.folder.num_extensions)
    if finish.confirmation is not None:
        build = partial(build_confirmed, finish.confirmation, ledger, calibrates=finish.calibrates, goals=finish.goals)
        each = [(build(task, only=opened, is_mean=finish.ensemble > 1), task) for task in finish.fold_tasks]
        if confirmed := [(built, task) for built, task in each if built is not None]:
            built, task = choose_size(confirmed)
            return crown(built, replace(finish, task=resize(finish.task, task)))
    candidates = choose_members(
        ledger,
        finish.task,
        size=finish.ensemble,
        last_rung=finish.last_rung,
        opened_for=opened or finish.preferred,
    )
    if not candidates:
        return None
    return crown(build_champion(candidates, finish.task, calibrates=finish.calibrates, goals=finish.goals), finish)


def crown(built: ChampionModel, finish: Finish) -> Champion:
    """Score, save and register a model: that of one trial, or the mean of several."""
    from trainable.export import save_models
    from trainable.images.likeness import LIKENESS_FILE, fit_likeness
    from trainable.images.prepare import open_sealed_test
    from trainable.images.seen import write_seen
    from trainable.images.splits import read_splits

    folder, task = finish.folder, finish.task
    data, settings = task.data, task.settings
    notes = [*finish.warnings, *built.warnings]

    opening = record_opening(
        folder.folder,
        search=folder.name,
        members=built.numbers,
        data_hash=data.data_hash,
        num_extensions=folder.num_extensions,
        others_are_lost=True,  # `choose_members` takes all of the opened ones that can be read
    )
    notes.extend([opening.warning] if opening.warning else [])
    sealed = open_sealed_test(folder.splits_file, cache_dir=folder.cache, image_size=data.image_size, form=data.form)
    score = score_sealed_test(
        built.model,
        sealed,
        data,
        folder=folder.folder,
        seed=settings.seed,
        num_resamples=finish.num_resamples,
        group_name=finish.group_name,
        point=built.point,
    )
    notes.extend(score.warnings)

    facts = describe_model(built, finish, score, notes)
    rows = read_splits(folder.splits_file)
    kept = [row.path for row in rows if row.split != "test" and row.kept]
    likeness = fit_likeness(data, kept)
    (folder.folder / LIKENESS_FILE).write_text(likeness.to_json())
    served = built.model.to_served()
    save_models(served, facts, folder.models, likeness, seen=write_seen(rows))
    num_bytes, latency_ms = measure_cost(folder.models / "pixels", served, sealed.pixels.shape[1:])
    entry = built.best.entry
    champion = Champion(
        number=entry.number,
        members=built.numbers,
        params=entry.params,
        outcome=entry.outcome or Outcome.INTERRUPTED,
        model_name=finish.model_name,
        metric=settings.metric,
        value=built.value,
        best_trial_value=built.best.value,
        num_folds=built.num_folds,
        epoch=built.best.epoch,
        temperature=built.model.calibration.temperature,
        point=built.point,
        verdict=built.model.verdict,
        score=score,
        num_openings=opening.num_openings,
        warnings=tuple(notes),
        models=folder.models,
        model_bytes=num_bytes,
        latency_ms=latency_ms,
        image_size=data.image_size,
        notes=built.notes,
    )
    return register(champion, facts, built, opening, run_id=entry.run_id, finish=finish, sealed=sealed)


def register(
    champion: Champion,
    facts: ModelFacts,
    built: ChampionModel,
    opening: Opening,
    *,
    run_id: str | None,
    finish: Finish,
    sealed: SealedTest,
) -> Champion:
    """Log the test's figures, register both models and promote them; as it was where MLflow stays away."""
    from trainable.export import images_name, register_models

    client = MlflowClient(finish.tracking_uri)
    try:
        if run_id is None or not finish.is_reachable:
            raise ConnectionError("MLflow is away, or was when the trial began and has been ever since")
        log_score(client, (run_id, finish.parent_run_id), champion.score, opening)
        versions = register_models(champion.models, facts, client=client, run_id=run_id)
        named = {facts.name: versions.version, images_name(facts.name): versions.images_version}
        test = TestOfBoth(sealed=sealed, probabilities=champion.score.probabilities)
        judge = partial(judge_challenger, client, facts.name, versions.version, built=built, finish=finish, test=test)
        alias, words = promote(client, named, rule=finish.promote, judge=judge)
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
    return replace(
        champion, version=versions.version, images_version=versions.images_version, alias=alias, promotion=words
    )
