"""The final size: whether a confirmation at larger images is better on patients that its models have not seen."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from search.champion.model import ChampionModel
    from trainable.task import TrialTask


def choose_size(found: Sequence[tuple[ChampionModel, TrialTask]]) -> tuple[ChampionModel, TrialTask]:
    """Of the confirmed champions of each size, the smallest images first, the one to take, with why among its notes.

    A larger size is taken where it is the likelier better one on the same patients of train and val, by predictions of
    models that have not seen them.
    """
    from trainable.comparisons import compare
    from trainable.objectives import parse_objective

    taken, task = found[0]
    for larger, its_task in found[1:]:
        data, objective = task.data, parse_objective(task.settings.metric)
        metric = objective.name if objective.floor is None else "auc"
        assert larger.out_of_fold is not None and taken.out_of_fold is not None
        compared = compare(metric, data.labels, larger.out_of_fold, taken.out_of_fold, data.groups, data.positive)
        words = f"{its_task.data.image_size} px beside {data.image_size} px: {compared.describe()}"
        if compared.is_better:
            taken, task = replace(larger, notes=(*taken.notes, f"{words}; taken")), its_task
        else:
            taken = replace(taken, notes=(*taken.notes, f"{words}; {data.image_size} px kept"))
    return taken, task


def resize(task: TrialTask, larger: TrialTask) -> TrialTask:
    """The task of a search with the images of a confirmation, which may be larger."""
    settings = replace(task.settings, image_size=larger.data.image_size)
    return replace(task, data=larger.data, settings=settings)
