"""The confirmed champion: chosen by what models say of patients that they have not seen, and made of those models.

Of every trial that is confirmed there is one model a fold of train and val. Which trials join the mean is chosen on
their out-of-fold predictions (Caruana et al., ICML 2004); calibration, operating point and the rule that makes one
verdict of a patient's slices rest on them too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from search.champion.choice import Candidate
from search.champion.model import ChampionModel, choose_point
from trainable.task import locate_trial

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from torch import nn

    from search.core.confirmation import Confirmation
    from search.core.ledger import Ledger, TrialEntry
    from trainable.ensemble import Ensemble
    from trainable.images.prepare import TrainingData
    from trainable.task import TrialTask


MOST_DRAWS = 20
"""Of the greedy choice: a trial's share in the mean is a multiple of one in so many."""


@dataclass(frozen=True, kw_only=True)
class Member:
    """A trial that was trained again: a model a fold, and `predictions` float (N, C) for all slices of train and val,
    each by the model that was not trained on its patient; `mirrored` are the same of their mirror images."""

    entry: TrialEntry
    models: tuple[nn.Module, ...]
    predictions: np.ndarray
    mirrored: np.ndarray


def build_confirmed(
    confirmation: Confirmation,
    ledger: Ledger,
    task: TrialTask,
    *,
    calibrates: bool = True,
    goals: Mapping[str, float],
    only: Sequence[int] = (),
    is_mean: bool = True,
) -> ChampionModel | None:
    """The champion of a confirmation whose trainings have ended; None where no trial has been trained in all folds.

    `task` is that of the trainings. `only` are the trials for which the sealed test was opened before: the mean is
    theirs, whatever else could join it. It is of one trial alone, and of images as they are, unless `is_mean`. A trial
    with an unfinished or unreadable training is left out, with a warning.
    """
    import numpy as np

    from trainable.calibration import UNCALIBRATED, fit_temperature_if_better
    from trainable.ensemble import mean_probabilities, select_greedily
    from trainable.objectives import parse_objective
    from trainable.patients import choose_verdict
    from trainable.served_ensemble import TrainedEnsemble
    from trainable.verdicts import MEAN_VERDICT

    data, settings = task.data, task.settings
    members, notes = [], []
    for number in confirmation.members:
        member = load_member(confirmation, ledger.entries[number], task)
        if member is None:
            notes.append(f"trial {number} was not trained in all {confirmation.num_folds} folds: it is no member")
        elif not only or number in only:
            members.append(member)
    if not members:
        return None
    each = np.stack([member.predictions for member in members])
    is_mirrored, chosen = False, []
    if is_mean:
        both = (each + np.stack([member.mirrored for member in members])) / 2
        is_mirrored, words = prefers(both.mean(axis=0), each.mean(axis=0), data, settings.metric)
        each = both if is_mirrored else each
        chosen = [f"with mirror images beside as they are: {words}; {'taken' if is_mirrored else 'as they are'}"]
    given = data.labels, data.groups, data.positive
    objective = parse_objective(settings.metric)
    found = select_greedily(
        each,
        *given,
        metric=objective.name if objective.floor is None else "auc",
        most_members=MOST_DRAWS if is_mean else 1,
    )
    taken = found.members
    mean = mean_probabilities(each, found.weights)
    calibration = fit_temperature_if_better(data.labels, mean, data.groups) if calibrates else UNCALIBRATED
    probabilities = calibration.apply(mean)
    is_positive = data.labels == data.positive
    has_several = len(np.unique(data.groups)) < len(data.groups)
    verdict = choose_verdict(data.labels, probabilities, data.groups, data.positive) if has_several else MEAN_VERDICT
    point, unkept = choose_point(is_positive, probabilities[:, data.positive], data.groups, goals)
    shares = [found.weights[index] / confirmation.num_folds for index in taken]
    return ChampionModel(
        candidates=tuple(as_candidate(members[index].entry) for index in taken),
        model=TrainedEnsemble(
            members=tuple(model for index in taken for model in members[index].models),
            calibration=calibration,
            weights=tuple(share for share in shares for _ in range(confirmation.num_folds)),
            verdict=verdict,
            is_mirrored=is_mirrored,
        ),
        value=measure_value(found, mean, data, settings.metric),
        probabilities=probabilities[data.is_val],
        point=point,
        warnings=(*notes, *unkept),
        num_folds=confirmation.num_folds,
        out_of_fold=probabilities,
        notes=tuple(chosen),
    )


def prefers(challenger: np.ndarray, champion: np.ndarray, data: TrainingData, metric: str) -> tuple[bool, str]:
    """Whether predictions float (N, C) of all slices of train and val, by models that have not seen their patients, are
    likelier better than others of the same kind, and how they compare."""
    from trainable.comparisons import compare
    from trainable.objectives import parse_objective

    objective = parse_objective(metric)
    name = objective.name if objective.floor is None else "auc"
    compared = compare(name, data.labels, challenger, champion, data.groups, data.positive)
    return compared.is_better, compared.describe()


def load_member(confirmation: Confirmation, entry: TrialEntry, task: TrialTask) -> Member | None:
    """A trial's models and what they predict; None where one of them is unfinished or cannot be read."""
    import numpy as np

    from trainable.checkpoint import CheckpointStore
    from trainable.served_ensemble import mirror
    from trainable.served_model import predict, rebuild_model

    source = task.sources.get(entry.params["architecture"])
    pixels = np.load(task.data.pixels_path, mmap_mode="c")
    predictions, mirrored = np.zeros((2, len(task.data.labels), len(task.data.classes)))
    models = []
    for training in confirmation.trainings_of(entry.number):
        loaded = CheckpointStore(locate_trial(task.trials_uri, training)).load("best")
        if loaded is None or not loaded[1]["finished"]:
            return None
        model = rebuild_model(entry.params, task.settings, loaded[0], source=source)
        rows = task.data_of(training).is_val
        shown, labels = pixels[rows], task.data.labels[rows]
        predictions[rows] = predict(model, shown, labels)[1]
        mirrored[rows] = predict(model, mirror(shown), labels)[1]
        models.append(model)
    return Member(entry=entry, models=tuple(models), predictions=predictions, mirrored=mirrored)


def measure_value(found: Ensemble, mean: np.ndarray, data: TrainingData, metric: str) -> float:
    """The search's metric on patients that neither models nor choice have seen; where these are too few for that, on
    those that the models have not seen."""
    from trainable.calibration import log_loss
    from trainable.objectives import parse_objective

    if found.metric == metric and math.isfinite(found.honest_value):
        return found.honest_value
    loss = log_loss(data.labels, mean)
    return parse_objective(metric).value(data.labels, mean, data.positive, loss=loss)


def as_candidate(entry: TrialEntry) -> Candidate:
    """A trial as a member of the champion, known by what it was in the search."""
    facts: dict[str, Any] = {"value": entry.best_value, "epoch": entry.best_epoch}
    return Candidate(entry=entry, state={}, facts=facts)
