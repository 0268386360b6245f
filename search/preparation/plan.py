"""SearchPlan and `prepare`: everything that is settled before the first trial.

What is settled once is written to `search.json`; a resumed search reads it there.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from search.core.config import SearchConfig
from search.core.folder import SearchFolder
from search.core.space import Space
from search.core.version import code_version
from search.engine.cluster import Cluster
from search.engine.preflight import check_cluster
from search.preparation.epochs import settle_epochs, settle_first_rung
from search.preparation.first_points import ChosenRecipes, choose_recipes
from search.preparation.images import describe_data, prepare_images
from search.preparation.models import SearchedModels
from search.preparation.sharing import share_gpus
from search.preparation.space import (
    NO_RECIPES,
    choose_baselines,
    choose_first_points,
    describe_baselines,
    describe_space,
    prepare_models,
    prepare_space,
)
from search.preparation.warm_start import warm_start
from trainable.config import TrialSettings
from trainable.objectives import parse_objective
from trainable.recipes import Recipe

if TYPE_CHECKING:
    from search.runtime import Runtime
    from trainable.images.prepare import PreparedData

DEFAULT_NUM_TRIALS = 20


@dataclass(frozen=True, kw_only=True)
class SearchPlan:
    """What a search is, once everything about it is settled but its trials.

    `first_points` are tried before any proposal, in Optuna's names; the first `num_warm` of them are an earlier
    search's, and the trials `baselines` of them are trained to the end. `tags` go to the search's run and to every
    trial's, `search_tags` to the first alone. `num_trials` of None has no end.
    """

    config: SearchConfig
    data: PreparedData
    cluster: Cluster
    models: SearchedModels
    recipes: ChosenRecipes
    space: Space
    first_points: Sequence[Mapping[str, object]]
    settings: TrialSettings
    model_name: str
    num_trials: int | None
    tags: Mapping[str, str]
    search_tags: Mapping[str, str]
    description: str
    space_facts: dict[str, object]
    num_warm: int = 0
    baselines: Sequence[int] = ()
    first_rung: int = 1


def prepare(config: SearchConfig, folder: SearchFolder, runtime: Runtime) -> SearchPlan:
    """Settle a search; each part is said as it is known. Raises ValueError for what the user must change."""
    runtime.say(f"ctsearch     {folder.name} in {folder.folder}")
    cluster = runtime.cluster
    if config.model_name is not None:
        runtime.server.check_registry(config.model_name)
    with runtime.timings.part("images"):
        data = prepare_images(config, folder, cluster, runtime.say)
    training = data.training
    if config.model_name is None:
        runtime.server.check_registry(training.name)
    runtime.say(f"Data         {describe_data(config, data)}", *data.audit.lines())
    check_goals(config, training.classes)
    config.check_final_size(training.image_size)
    if warning := settings_warning(config):
        runtime.say(f"Warning      {warning}")
    runtime.say(f"Cluster      {cluster.description}")
    with runtime.timings.part("models and weights"):
        recipes = choose_recipes(config, folder, cluster, training)
        models = prepare_models(config, folder, cluster, training, recipes)
    if models.skipped and config.space is None:
        runtime.say(f"Skipped      {', '.join(models.skipped)}: they want a GPU (--arch takes them all the same)")
    runtime.say(*(f"Warning      {warning}" for warning in models.warnings))
    space = prepare_space(config, folder, models, recipes, training.image_size)
    known = warm_start(config, folder, space, data_hash=training.data_hash, task=training.name)
    if config.warm_start != "off":
        runtime.say(*(f"Warm start   {line}" for line in known.lines()))
    cluster, sharing = share_gpus(config, folder, cluster, models, data)
    if sharing:
        runtime.say(f"Sharing      {sharing}")
    cluster = check_cluster(config, folder, cluster, runtime.server)
    with runtime.timings.part("an epoch of each model"):
        max_epochs = settle_epochs(config, folder, cluster, models, training, runtime.say)
    first_rung = settle_first_rung(config, folder, len(training.labels) - int(training.is_val.sum()), max_epochs)
    for line in recipes.lines(joined=models.joined, pretrained=models.weights, max_epochs=max_epochs):
        runtime.say(f"Recipes      {line}")
    first_points = [*known.points, *choose_first_points(config, space, models, recipes)]
    baselines = choose_baselines(models, range(len(known.points) + len(recipes.recipes), len(first_points)))
    if baselines and config.scheduler != "asha":
        runtime.say(f"Baseline     {describe_baselines(baselines)}")
    warnings = (*data.warnings, *models.warnings)
    return SearchPlan(
        config=config,
        data=data,
        cluster=cluster,
        models=models,
        recipes=recipes,
        space=space,
        first_points=first_points,
        settings=settle_trials(config, folder, data, cluster, max_epochs),
        model_name=config.model_name or training.name,
        num_trials=limit_trials(config),
        tags=describe_origin(config, data),
        search_tags=recipes.tags() | known.tags() | ({"warnings": "; ".join(warnings)} if warnings else {}),
        description="\n".join(warnings),
        space_facts=describe_space(space, folder),
        num_warm=len(known.points),
        baselines=baselines,
        first_rung=first_rung,
    )


def prepare_recipe(recipe: Recipe, config: SearchConfig, folder: SearchFolder, runtime: Runtime) -> SearchPlan:
    """The plan of one trial: a recipe, on this machine."""
    runtime.say(f"ctsearch     {folder.name} in {folder.folder}")
    runtime.say(f"Recipe       {recipe.name}: {recipe.summary}", *(f"             {note}" for note in recipe.notes))
    data = prepare_images(config, folder, runtime.cluster, runtime.say)
    runtime.say(f"Data         {describe_data(config, data)}", *data.audit.lines())
    runtime.say(f"Machine      {runtime.cluster.description}")
    check_goals(config, data.training.classes)
    models = prepare_models(config, folder, runtime.cluster, data.training)
    runtime.say(*(f"Warning      {warning}" for warning in models.warnings))
    if recipe.wants_weights and not models.weights:
        runtime.say(f"Weights      none: from scratch (--weights {recipe.config.architecture}=FILE gives some)")
    params = recipe.config.to_params()
    own = {"recipe": recipe.name, "pretrained": str(bool(models.weights)).lower()}
    return SearchPlan(
        config=config,
        data=data,
        cluster=runtime.cluster,
        models=models,
        recipes=NO_RECIPES,
        space=lambda trial: params,
        first_points=(),
        settings=settle_trials(config, folder, data, runtime.cluster, config.max_epochs or recipe.max_epochs),
        model_name=config.model_name or data.training.name,
        num_trials=1,
        tags=describe_origin(config, data) | own,
        search_tags={},
        description="\n".join([recipe.summary, *recipe.notes, *data.warnings, *models.warnings]),
        space_facts={"recipe": recipe.name, **params},
    )


def check_goals(config: SearchConfig, classes: Sequence[str]) -> None:
    """Raise ValueError for an operating point where there are more than two classes."""
    if config.goals and len(classes) != 2:
        raise ValueError(
            f"--{next(iter(config.goals)).replace('_', '-')} is for two classes, and the data has {len(classes)} "
            f"({', '.join(classes)}): leave it out"
        )


def settings_warning(config: SearchConfig) -> str | None:
    """What a user who gave a metric without a floor must know."""
    return parse_objective(config.metric).warning


def describe_origin(config: SearchConfig, data: PreparedData) -> dict[str, str]:
    """Tags by which a run can be traced: to its data, its seed and its code."""
    training = data.training
    return {
        "data": training.name,
        "data_hash": training.data_hash,
        "seed": str(config.seed),
        "code_version": code_version(),
    }


def settle_trials(
    config: SearchConfig, home: SearchFolder, prepared: PreparedData, cluster: Cluster, max_epochs: int
) -> TrialSettings:
    """What all trials of this search share. Every running trial, and the best that have ended, may keep an equal part
    of the checkpoint budget; where trials are paused, these have half of it."""
    training = prepared.training
    checkpoint_bytes = config.checkpoint_budget_bytes or free_bytes(config.storage or str(home.folder)) / 2
    return TrialSettings(
        classes=training.classes,
        positive=training.positive,
        image_size=training.image_size,
        form=training.form,
        slices=training.slices,
        in_hounsfield=training.in_hounsfield,
        max_epochs=max_epochs,
        seed=config.seed,
        patience=config.patience,
        metric=config.metric,
        costs=config.costs,
        num_threads=cluster.num_threads,
        num_ranks=cluster.num_ranks,
        deterministic=config.deterministic,
        timeout_s=config.trial_timeout_s,
        compile=config.compile,
        checkpoint_interval_s=config.checkpoint_interval_s,
        checkpoint_bytes=checkpoint_bytes / (2 if config.scheduler != "asha" else 1) / (cluster.num_slots + 1),
    )


def free_bytes(storage: str) -> float:
    """Room for checkpoints: of a folder's disk, or without bound in an object store."""
    if "://" in storage:
        return math.inf
    Path(storage).mkdir(parents=True, exist_ok=True)
    return shutil.disk_usage(storage).free


def limit_trials(config: SearchConfig) -> int | None:
    """The number of trials; without any budget a modest default. A search that ends by itself needs none."""
    limits = config.num_trials, config.time_budget_s, config.device_hours
    return DEFAULT_NUM_TRIALS if limits == (None, None, None) and config.stop_when == "budget" else config.num_trials
