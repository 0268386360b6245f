"""Several trials a GPU: measured before the first trial, where one does not fill it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from search.core.config import SearchConfig
from search.core.folder import SearchFolder
from search.engine.cluster import connect
from search.preparation.models import SearchedModels
from trainable.config import TrialConfig
from trainable.sharing import COUNTS, choose_count, measure_sharing, pick_extremes

if TYPE_CHECKING:
    from search.engine.cluster import Cluster
    from trainable.images.prepare import PreparedData, TrainingData


def share_gpus(
    config: SearchConfig, home: SearchFolder, cluster: Cluster, models: SearchedModels, prepared: PreparedData
) -> tuple[Cluster, str]:
    """Several trials a GPU where one does not fill it, and a line that says why; --trial-gpus is taken as it is.

    Measured on a GPU of the cluster with the smallest and the largest model of the search, once; a resumed search goes
    on with what was chosen when it began.
    """
    if config.trial_gpus is not None or not cluster.has_gpu:
        return cluster, ""
    configs = [
        TrialConfig(architecture=name, batch_size=64) for name in models.architectures if name not in models.sources
    ]
    rates = home.read_record().get("sharing")
    if rates is None:
        rates = measure_on_gpu(configs, prepared.training, cluster, home) if configs else {}
        home.update_record(sharing=rates)
    measured = {int(count): found for count, found in rates.items()}
    count = choose_count(measured) if measured else 1
    total = {number: f"{sum(found):.0f}" for number, found in measured.items()}
    figures = ", ".join(f"{total[number]} by {number}" for number in total) or "nothing could be measured"
    line = f"{count} trial{'s' * (count > 1)} a GPU; images a second in all: {figures}"
    return connect(config.ray_address, trial_cpus=config.trial_cpus, trial_gpus=1 / count), line


def measure_on_gpu(
    configs: Sequence[TrialConfig], data: TrainingData, cluster: Cluster, home: SearchFolder
) -> dict[int, list[float]]:
    """`measure_sharing` on a node with a GPU; nothing where it fails: sharing is a gain, not a need."""
    import ray

    num_threads, file = max(1, cluster.num_threads // max(COUNTS)), home.cache / "sharing.json"
    image_size, num_channels = data.image_size, data.num_channels

    def measure() -> dict[int, list[float]]:
        return measure_sharing(
            pick_extremes(configs),
            image_size=image_size,
            num_threads=num_threads,
            cache_file=file,
            num_channels=num_channels,
        )

    try:
        return ray.get(ray.remote(measure).options(num_gpus=1, num_cpus=cluster.trial_cpus).remote())
    except ray.exceptions.RayError:
        return {}
