"""The search space of a search, the architectures in it, and the points it begins with."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from search.core.baselines import NUM_BASELINES
from search.core.config import SearchConfig
from search.core.describe import name_trials
from search.core.folder import SearchFolder
from search.core.ranges import parse_range
from search.core.space import DefaultSpace, Space, load_space
from search.engine.space_probe import check_space
from search.preparation.first_points import ChosenRecipes, find_points, fine_tuned_by
from search.preparation.models import SearchedModels, check_own_models, choose_models

if TYPE_CHECKING:
    from search.engine.cluster import Cluster
    from trainable.images.prepare import TrainingData

NO_RECIPES = ChosenRecipes()


def prepare_models(
    config: SearchConfig,
    home: SearchFolder,
    cluster: Cluster,
    data: TrainingData,
    recipes: ChosenRecipes = NO_RECIPES,
) -> SearchedModels:
    """The models and what travels with them. A user's own model is tried, and kept as it was when the search began."""
    kept = home.read_record().get("nets", {})
    models = choose_models(
        tuple(kept.get("architectures", config.architectures)),
        config.weights,
        has_gpu=cluster.has_gpu,
        sources=kept.get("sources", {}),
        of_recipes=recipes.architectures,
        forgone=recipes.forgone_architectures,
        num_channels=data.num_channels,
    )
    if not kept:
        warnings = check_own_models(
            models.sources,
            num_classes=len(data.classes),
            image_size=data.image_size,
            num_channels=data.num_channels,
        )
        models = replace(models, warnings=tuple(warnings))
    return models


def prepare_space(
    config: SearchConfig, home: SearchFolder, models: SearchedModels, recipes: ChosenRecipes, image_size: int
) -> Space:
    """The user's own space, copied into the search's folder, or the default one as narrowed."""
    if config.space is None:
        ranges = {name: parse_range(name, text) for name, text in config.ranges.items()}
        fine_tuned = {*models.weights, *fine_tuned_by(recipes.recipes)}
        return DefaultSpace(models.architectures, ranges, fine_tuned=fine_tuned)
    copy = home.folder / "space.py"
    is_new = not copy.exists()
    if is_new:
        shutil.copyfile(config.space, copy)
    space = load_space(copy, shown=config.space)
    if is_new:
        check_space(space, image_size=image_size)
    return space  # type: ignore[return-value]  # it may return None: what was suggested


def try_space(config: SearchConfig) -> None:
    """Draw from the user's own space before Ray starts and an image is read. Raises ValueError with file and line."""
    if config.space is not None:
        check_space(load_space(config.space), image_size=config.image_size)


def choose_first_points(
    config: SearchConfig, space: Space, models: SearchedModels, recipes: ChosenRecipes
) -> list[dict[str, object]]:
    """The recipes asked for, then, for TPE, one sound configuration of every other model. Random search goes its
    way."""
    points = find_points(recipes.recipes, space)
    if config.sampler == "random" or not isinstance(space, DefaultSpace):
        return points
    weighted_first = sorted(models.own, key=lambda name: name not in models.weights)
    return points + space.first_points(weighted_first, pretrained=models.weights)


def choose_baselines(models: SearchedModels, sound: Sequence[int]) -> Sequence[int]:
    """Which of the trials of sound configurations are trained to the end: the first of architectures with weights, else
    the very first."""
    num_weighted = sum(name in models.weights for name in models.own)
    return sound[: max(1, min(NUM_BASELINES, num_weighted))]


def describe_baselines(numbers: Sequence[int]) -> str:
    """One line for the terminal."""
    return f"{name_trials(numbers)}, as one would train it without a search: to the end, whatever the first epochs say"


def describe_space(space: Space, home: SearchFolder) -> dict[str, object]:
    """The space for MLflow: ranges, or the user's own file."""
    return space.describe() if isinstance(space, DefaultSpace) else {"space.py": (home.folder / "space.py").read_text()}
