"""The champion's model: rebuilt from its members' checkpoints, calibrated and given an operating point.

All of it rests on the validation split; the sealed test stays closed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy as np

    from search.champion.choice import Candidate
    from trainable.images.prepare import TrainingData
    from trainable.operating_point import OperatingPoint
    from trainable.served_ensemble import TrainedEnsemble
    from trainable.task import TrialTask

TOLERANCE = 1e-6  # relative, between the value a trial reported and the one its checkpoint gives


@dataclass(frozen=True, kw_only=True)
class ChampionModel:
    """The model of `candidates`, the best member first, and what it is on the validation split.

    `value` is the search's metric of the mean; of a single trial what it reported; with `num_folds` of a confirmation
    that on all patients of train and val, by models that have not seen them. `probabilities` float (N, C) are
    calibrated; `out_of_fold` are those of a confirmation, (M, C) for all slices of train and val. Without a `point` a
    slice is called what is most probable. `notes` say what was chosen on the way.
    """

    candidates: tuple[Candidate, ...]
    model: TrainedEnsemble
    value: float
    probabilities: np.ndarray
    point: OperatingPoint | None
    warnings: tuple[str, ...]
    num_folds: int = 0
    out_of_fold: np.ndarray | None = None
    notes: tuple[str, ...] = ()

    @property
    def best(self) -> Candidate:
        return self.candidates[0]

    @property
    def numbers(self) -> tuple[int, ...]:
        """The members' trials, rising."""
        return tuple(sorted(candidate.entry.number for candidate in self.candidates))


def build_champion(
    candidates: Sequence[Candidate], task: TrialTask, *, calibrates: bool = True, goals: Mapping[str, float]
) -> ChampionModel:
    """Rebuild the members, and fit temperature and operating point to their mean on the validation split.

    The mean is weighed by what validation says of the members; those clearly behind the best are left out.
    """
    import numpy as np

    from trainable.calibration import UNCALIBRATED, fit_temperature_if_better, log_loss
    from trainable.ensemble import mean_probabilities, weigh_by_score
    from trainable.objectives import parse_objective
    from trainable.served_ensemble import TrainedEnsemble
    from trainable.served_model import predict, rebuild_model
    from trainable.standard_errors import standard_error

    data, settings = task.data, task.settings
    pixels, labels, groups = open_validation(data)
    objective = parse_objective(settings.metric)
    models, each, scores, notes = [], [], [], []
    for candidate in candidates:
        source = task.sources.get(candidate.entry.params["architecture"])
        model = rebuild_model(candidate.entry.params, settings, candidate.state, source=source)
        loss, probabilities = predict(model, pixels, labels)
        found = objective.value(labels, probabilities, data.positive, loss=loss)
        models.append(model)
        each.append(probabilities)
        scores.append(settings.direction.score(found))
        notes += [*candidate.warnings, *check_value(candidate, found, settings.metric)]
    error = standard_error(objective.name, labels, each[int(np.argmax(scores))], groups, data.positive)
    shares = weigh_by_score(scores, error)
    taken = [index for index, share in enumerate(shares) if share > 0]
    candidates = [candidates[index] for index in taken]
    mean = mean_probabilities(np.stack(each), shares)
    value = candidates[0].value
    if len(candidates) > 1:
        value = objective.value(labels, mean, data.positive, loss=log_loss(labels, mean))
    calibration = fit_temperature_if_better(labels, mean, groups) if calibrates else UNCALIBRATED
    probabilities = calibration.apply(mean)
    point, unkept = choose_point(labels == data.positive, probabilities[:, data.positive], groups, goals)
    return ChampionModel(
        candidates=tuple(candidates),
        model=TrainedEnsemble(
            members=tuple(models[index] for index in taken),
            calibration=calibration,
            weights=tuple(shares[index] for index in taken),
        ),
        value=value,
        probabilities=probabilities,
        point=point,
        warnings=(*notes, *unkept),
    )


def open_validation(data: TrainingData) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels uint8 (N, S, S), labels and groups int64 (N,) of the validation split."""
    import numpy as np

    pixels = np.load(data.pixels_path, mmap_mode="c")[data.is_val]
    return pixels, data.labels[data.is_val], data.groups[data.is_val]


def check_value(candidate: Candidate, found: float, metric: str) -> list[str]:
    """A warning where the checkpoint does not give the value that the trial reported."""
    if math.isclose(found, candidate.value, rel_tol=TOLERANCE):
        return []
    return [
        f"trial {candidate.entry.number} reported a validation {metric} of {candidate.value:.8f}, its checkpoint gives "
        f"{found:.8f} here"
    ]


def choose_point(
    is_positive: np.ndarray, probabilities: np.ndarray, groups: np.ndarray, goals: Mapping[str, float]
) -> tuple[OperatingPoint | None, list[str]]:
    """The operating point that keeps the goal; none, and a warning, where these slices cannot say it."""
    from trainable.operating_point import choose_threshold

    if not goals:
        return None, []
    try:
        return choose_threshold(is_positive, probabilities, groups, **dict[str, Any](goals)), []
    except ValueError as error:
        return None, [f"no operating point was chosen: {error}"]


def measure_cost(folder: Path, served: Any, shape: Sequence[int]) -> tuple[int, float]:
    """Bytes of the saved pixel model, and milliseconds of one image of this `shape` on a CPU: the fastest of five."""
    from trainable.served_model import time_images

    num_bytes = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return num_bytes, 1000 * min(time_images(served, shape))
