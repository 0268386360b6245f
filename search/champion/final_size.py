"""The final size: whether a confirmation at larger images is better on patients that its models have not seen."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from search.champion.confirmed import prefers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from search.champion.model import ChampionModel
    from trainable.task import TrialTask


def choose_size(found: Sequence[tuple[ChampionModel, TrialTask]]) -> tuple[ChampionModel, TrialTask]:
    """Of the confirmed champions of each size, the smallest images first, the one to take, with why among its notes.

    A larger size is taken where it is the likelier better one on the same patients of train and val, by predictions of
    models that have not seen them.
    """
    taken, task = found[0]
    for larger, its_task in found[1:]:
        size = task.data.image_size
        assert larger.out_of_fold is not None and taken.out_of_fold is not None
        is_better, how = prefers(larger.out_of_fold, taken.out_of_fold, task.data, task.settings.metric)
        words = f"{its_task.data.image_size} px beside {size} px: {how}"
        if is_better:
            taken, task = replace(larger, notes=(*larger.notes, f"{words}; taken")), its_task
        else:
            taken = replace(taken, notes=(*taken.notes, f"{words}; {size} px kept"))
    return taken, task


def resize(task: TrialTask, larger: TrialTask) -> TrialTask:
    """The task of a search with the images of a confirmation, which may be larger."""
    settings = replace(task.settings, image_size=larger.data.image_size)
    return replace(task, data=larger.data, settings=settings)
