"""Everything that is settled before the first trial: images, splits, nets, the space and the trials' settings.

What is settled once is written to `search.json`; a resumed search reads it there.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from search.core.config import SearchConfig
from search.core.folder import SearchHome
from search.core.ranges import parse_range
from search.core.space import DefaultSpace, Space, load_space
from search.engine.cluster import connect
from search.engine.searcher import check_space
from search.preparation.first_points import ChosenRecipes, find_points, fine_tuned_by
from search.preparation.models import Nets, check_own_nets, choose_nets
from trainable.config import TrialConfig, TrialSettings
from trainable.sharing import COUNTS, choose_count, measure_sharing, pick_extremes

if TYPE_CHECKING:
    from search.engine.cluster import Cluster
    from trainable.images.prepare import PreparedData, TrainingData

MADE_SET = "ctsearch-demo"
MADE_SIZE, CPU_SIZE, GPU_SIZE = 64, 128, 224
DEFAULT_NUM_TRIALS = 20
NO_RECIPES = ChosenRecipes()


def prepare_images(config: SearchConfig, home: SearchHome, cluster: Cluster) -> PreparedData:
    """Find, check, split and decode the images; the made set where none are given."""
    from trainable.images.made import make_set
    from trainable.images.prepare import prepare_data

    data = config.data or make_set(home.cache / MADE_SET, seed=0)
    image_size = home.read_record().get("image_size") or config.image_size
    if image_size is None:
        image_size = MADE_SIZE if not config.data else GPU_SIZE if cluster.has_gpu else CPU_SIZE
    return prepare_data(
        data,
        cache_dir=home.cache,
        splits_file=home.splits_file,
        image_size=image_size,
        seed=config.seed,
        patient_from=config.patient_from,
        positive=config.positive,
        skip_bad_images=config.skip_bad_images,
        num_workers=2,
    )


def describe_data(config: SearchConfig, prepared: PreparedData) -> str:
    """One line: what the images are, how large, and which class counts as positive."""
    training = prepared.training
    source = "a made set: procedural slices, not patients" if config.data is None else str(config.data)
    parts = [f"{training.name}, {source}, read as {training.image_size} px"]
    if len(training.classes) == 2:
        guessed = " (guessed; --positive changes it)" if prepared.positive_was_guessed else ""
        parts.append(f"positive is {training.classes[training.positive]}{guessed}")
    return "; ".join(parts)


def prepare_nets(
    config: SearchConfig,
    home: SearchHome,
    cluster: Cluster,
    data: TrainingData,
    recipes: ChosenRecipes = NO_RECIPES,
) -> Nets:
    """The nets and what travels with them. A user's own net is tried, and kept as it was when the search began."""
    kept = home.read_record().get("nets", {})
    nets = choose_nets(
        tuple(kept.get("architectures", config.architectures)),
        config.weights,
        has_gpu=cluster.has_gpu,
        sources=kept.get("sources", {}),
        of_recipes=recipes.nets,
        forgone=recipes.forgone_nets,
    )
    if not kept:
        check_own_nets(nets.sources, num_classes=len(data.classes), image_size=data.image_size)
    return nets


def prepare_space(config: SearchConfig, home: SearchHome, nets: Nets, recipes: ChosenRecipes) -> Space:
    """The user's own space, copied into the search's folder, or the default one as narrowed."""
    if config.space is None:
        ranges = {name: parse_range(name, text) for name, text in config.ranges.items()}
        fine_tuned = {*nets.weights, *fine_tuned_by(recipes.recipes)}
        return DefaultSpace(nets.architectures, ranges, fine_tuned=fine_tuned)
    copy = home.folder / "space.py"
    if not copy.exists():
        load_space(config.space)
        shutil.copyfile(config.space, copy)
    space = load_space(copy)
    check_space(space)
    return space


def choose_first_points(
    config: SearchConfig, space: Space, nets: Nets, recipes: ChosenRecipes
) -> list[dict[str, object]]:
    """The recipes asked for, then, for TPE, one sound configuration of every other net. Random search goes anywhere."""
    points = find_points(recipes.recipes, space)
    if config.sampler == "random" or not isinstance(space, DefaultSpace):
        return points
    return points + space.first_points(nets.own, pretrained=nets.weights)


def describe_space(space: Space, home: SearchHome) -> dict[str, object]:
    """The space for MLflow: ranges, or the user's own file."""
    return space.describe() if isinstance(space, DefaultSpace) else {"space.py": (home.folder / "space.py").read_text()}


def share_gpus(
    config: SearchConfig, home: SearchHome, cluster: Cluster, nets: Nets, prepared: PreparedData
) -> tuple[Cluster, str]:
    """Several trials a GPU where one does not fill it, and a line that says why; --trial-gpus is taken as it is.

    Measured on a GPU of the cluster with the smallest and the largest net of the search, once; a resumed search goes
    on with what was chosen when it began.
    """
    if config.trial_gpus is not None or not cluster.has_gpu:
        return cluster, ""
    configs = [TrialConfig(architecture=name, batch_size=64) for name in nets.architectures if name not in nets.sources]
    rates = home.read_record().get("sharing")
    if rates is None:
        rates = measure_on_gpu(configs, prepared.training.image_size, cluster, home) if configs else {}
        home.update_record(sharing=rates)
    measured = {int(count): found for count, found in rates.items()}
    count = choose_count(measured) if measured else 1
    total = {number: f"{sum(found):.0f}" for number, found in measured.items()}
    figures = ", ".join(f"{total[number]} by {number}" for number in total) or "nothing could be measured"
    line = f"{count} trial{'s' * (count > 1)} a GPU; images a second in all: {figures}"
    return connect(config.ray_address, trial_cpus=config.trial_cpus, trial_gpus=1 / count), line


def measure_on_gpu(
    configs: Sequence[TrialConfig], image_size: int, cluster: Cluster, home: SearchHome
) -> dict[int, list[float]]:
    """`measure_sharing` on a node with a GPU; nothing where it fails: sharing is a gain, not a need."""
    import ray

    num_threads, file = max(1, cluster.num_threads // max(COUNTS)), home.cache / "sharing.json"

    def measure() -> dict[int, list[float]]:
        return measure_sharing(pick_extremes(configs), image_size=image_size, num_threads=num_threads, cache_file=file)

    try:
        return ray.get(ray.remote(measure).options(num_gpus=1, num_cpus=cluster.trial_cpus).remote())
    except ray.exceptions.RayError:
        return {}


def settle_trials(config: SearchConfig, home: SearchHome, prepared: PreparedData, cluster: Cluster) -> TrialSettings:
    """What all trials of this search share. Every running trial, and the best that have ended, may keep an equal part
    of the checkpoint budget."""
    training = prepared.training
    checkpoint_bytes = config.checkpoint_budget_bytes or free_bytes(config.storage or str(home.folder)) / 2
    return TrialSettings(
        classes=training.classes,
        positive=training.positive,
        image_size=training.image_size,
        max_epochs=config.max_epochs,
        seed=config.seed,
        patience=config.patience,
        metric=config.metric,
        num_threads=cluster.num_threads,
        num_ranks=cluster.num_ranks,
        deterministic=config.deterministic,
        timeout_s=config.trial_timeout_s,
        compile=config.compile,
        checkpoint_interval_s=config.checkpoint_interval_s,
        checkpoint_bytes=checkpoint_bytes / (cluster.num_slots + 1),
    )


def free_bytes(storage: str) -> float:
    """Room for checkpoints: of a folder's disk, or without bound in an object store."""
    if "://" in storage:
        return math.inf
    Path(storage).mkdir(parents=True, exist_ok=True)
    return shutil.disk_usage(storage).free


def limit_trials(config: SearchConfig) -> int | None:
    """The number of trials; without any budget a modest default."""
    if config.num_trials is None and config.time_budget_s is None and config.device_hours is None:
        return DEFAULT_NUM_TRIALS
    return config.num_trials
