"""The images of a search: found, checked, split and decoded."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from search.core.config import SearchConfig
from search.core.folder import SearchFolder
from trainable.records import keep_copy, restore_record

if TYPE_CHECKING:
    from pathlib import Path

    from search.engine.cluster import Cluster
    from trainable.images.prepare import PreparedData, TrainingData
    from trainable.images.reading import Reading

SYNTHETIC_SET = "ctsearch-demo"
SYNTHETIC_SIZE, CPU_SIZE, GPU_SIZE = 64, 128, 224


def prepare_images(
    config: SearchConfig, home: SearchFolder, cluster: Cluster, say: Callable[..., None]
) -> PreparedData:
    """Find, check, split and decode the images; the synthetic set where none are given.

    How a user's data was read is said as soon as it is known, so that it is seen also where a check fails later.
    """
    from trainable.images.synthetic import write_synthetic_set

    def show(reading: Reading) -> None:
        if config.data is not None:
            say(*reading.lines())

    restore_record(home.splits_file)
    data = config.data or write_synthetic_set(home.cache / SYNTHETIC_SET, seed=0)
    image_size = home.read_record().get("image_size") or config.image_size
    if image_size is None:
        image_size = SYNTHETIC_SIZE if not config.data else GPU_SIZE if cluster.has_gpu else CPU_SIZE
    prepared = decode_images(config, home, data, image_size, on_reading=show)
    known, found = home.read_record().get("data_hash"), prepared.training.data_hash
    if known is not None and known != found:
        raise ValueError(
            f"the data of {home.name!r} is not what the search began with (its hash was {known}, it is {found} now): "
            "restore the images and splits.csv, accept them as they are by --accept-changes, or begin a new search "
            "under another --name"
        )
    keep_copy(home.splits_file)
    home.update_record(form=prepared.training.form.to_dict(), data_name=prepared.training.name)
    return prepared


def prepare_at_size(config: SearchConfig, home: SearchFolder, image_size: int) -> TrainingData:
    """The training data of a search that has its splits, decoded at another size."""
    return decode_images(config, home, config.data or home.cache / SYNTHETIC_SET, image_size).training


def decode_images(
    config: SearchConfig,
    home: SearchFolder,
    data: Path,
    image_size: int,
    on_reading: Callable[[Reading], None] | None = None,
) -> PreparedData:
    """The images at `data` as a search was asked to read them, at a size in pixels (`prepare_data`)."""
    from trainable.images.prepare import prepare_data

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
        form=config.form,
        slice_rule=config.slice_rule,
        on_reading=on_reading,
    )


def describe_data(config: SearchConfig, prepared: PreparedData) -> str:
    """One line: what the images are, how large, and which class counts as positive."""
    training = prepared.training
    source = "a synthetic set: procedural slices, not patients" if config.data is None else str(config.data)
    channels = f" in {training.num_channels} channels" if training.num_channels > 1 else ""
    parts = [f"{training.name}, {source}, read as {training.image_size} px{channels}"]
    if len(training.classes) == 2:
        guessed = " (guessed; --positive changes it)" if prepared.positive_was_guessed else ""
        parts.append(f"positive is {training.classes[training.positive]}{guessed}")
    return "; ".join(parts)
