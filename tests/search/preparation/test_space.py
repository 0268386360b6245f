from __future__ import annotations

import numpy as np

from search.core.config import SearchConfig
from search.core.space import DefaultSpace
from search.preparation.models import SearchedModels
from search.preparation.space import NO_RECIPES, choose_baselines, choose_first_points, describe_baselines

WEIGHTS = np.zeros(1, dtype=np.uint8)


def search_in(*architectures: str, weights: tuple[str, ...] = (), joined: tuple[str, ...] = ()) -> SearchedModels:
    return SearchedModels(
        architectures=architectures, skipped=(), weights=dict.fromkeys(weights, WEIGHTS), sources={}, joined=joined
    )


def test_up_to_two_architectures_with_weights_are_baselines_else_the_first() -> None:
    sound = range(3, 8)
    assert choose_baselines(search_in("a", "b"), sound) == range(3, 4)
    assert choose_baselines(search_in("a", "b", weights=("b",)), sound) == range(3, 4)
    assert choose_baselines(search_in("a", "b", "c", weights=("a", "b", "c")), sound) == range(3, 5)
    assert choose_baselines(search_in("a", "b", weights=("a", "b"), joined=("b",)), sound) == range(3, 4)
    assert not choose_baselines(search_in("a"), range(0))


def test_those_with_weights_come_first() -> None:
    models = search_in("resnet18", "squeezenet1_1", weights=("squeezenet1_1",))
    points = choose_first_points(SearchConfig(), DefaultSpace(models.architectures), models, NO_RECIPES)
    assert [point["architecture"] for point in points] == ["squeezenet1_1", "resnet18"]


def test_they_are_said_by_their_numbers() -> None:
    assert describe_baselines([0]).startswith("trial 0, as one would train it")
    assert describe_baselines([0, 1]).startswith("trials 0 and 1, as one would")
