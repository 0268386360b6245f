"""What an epoch of an architecture takes on this machine, known before a real one is trained"""

from __future__ import annotations

from pathlib import Path

from trainable.config import TrialConfig
from trainable.rehearsal import Rehearsal
from trainable.step_plan import measure_step_plan, num_threads_set_to, pick_device

BATCH_SIZE, NUM_BATCHES = 16, 2
EVALUATION_SHARE = 1 / 3
"""Of a training step's time: what scoring an image takes."""


def time_epoch(
    config: TrialConfig,
    *,
    image_size: int,
    num_train: int,
    num_val: int,
    num_threads: int,
    num_channels: int = 1,
    cache_file: Path | None = None,
    source: str | None = None,
) -> float:
    """Seconds of an epoch of so many images, by the step plan that a trial would take, from a few steps on noise.

    `cache_file` and `source` are those of `measure_step_plan`. Raises ValueError for a model that cannot be built.
    """
    device = pick_device()
    plan = measure_step_plan(
        config,
        image_size=image_size,
        device=device,
        num_threads=num_threads,
        num_channels=num_channels,
        cache_file=cache_file,
        source=source,
    )
    rehearsal = Rehearsal(
        config,
        image_size=image_size,
        num_images=BATCH_SIZE * NUM_BATCHES,
        device=device,
        num_channels=num_channels,
        source=source,
    )
    with num_threads_set_to(num_threads):
        image_s = min(rehearsal.train(plan).seconds for _ in range(2)) / (BATCH_SIZE * NUM_BATCHES)
    return image_s * (num_train + EVALUATION_SHARE * num_val)
