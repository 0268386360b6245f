from __future__ import annotations

import json
from pathlib import Path

import pytest

from trainable.config import TrialConfig
from trainable.sharing import choose_count, measure_sharing, pick_extremes, train_for_a_while

SMALL = TrialConfig(architecture="small_cnn", batch_size=8, cnn_filters=2)


def test_more_trials_are_taken_while_the_device_gains_by_them() -> None:
    assert choose_count({1: [100.0]}) == 1
    assert choose_count({1: [100.0], 2: [110.0]}) == 1
    assert choose_count({1: [100.0], 2: [150.0]}) == 2
    assert choose_count({1: [100.0], 2: [190.0], 4: [200.0]}) == 2
    assert choose_count({1: [100.0], 2: [190.0], 4: [300.0]}) == 4


def test_every_model_counts_and_one_that_does_not_fit_decides() -> None:
    assert choose_count({1: [100.0, 10.0], 2: [160.0, 10.0]}) == 2
    assert choose_count({1: [100.0, 10.0], 2: [110.0, 11.0]}) == 1
    assert choose_count({1: [100.0, 10.0], 2: [199.0, 0.0]}) == 1


def test_the_smallest_and_the_largest_model_are_measured() -> None:
    configs = [TrialConfig(architecture=name) for name in ("resnet18", "vgg16", "small_cnn", "squeezenet1_1")]
    assert [config.architecture for config in pick_extremes(configs)] == ["small_cnn", "vgg16"]
    assert pick_extremes(configs[:1]) == configs[:1]


def test_real_processes_train_at_once_and_the_figures_are_remembered(tmp_path: Path) -> None:
    file = tmp_path / "sharing.json"
    options = {"image_size": 32, "num_threads": 1, "window_s": 0.3}
    rates = measure_sharing([SMALL], counts=(1, 2), cache_file=file, **options)  # type: ignore[arg-type]
    assert sorted(rates) == [1, 2]
    assert all(rate > 0 for (rate,) in rates.values())
    (key,) = known = json.loads(file.read_text())
    assert "small_cnn" in key
    assert "32 px" in key
    known[key] = {"1": [5.0]}
    file.write_text(json.dumps(known))
    assert measure_sharing([SMALL], counts=(1, 2), cache_file=file, **options) == {1: [5.0]}  # type: ignore[arg-type]


def test_a_process_that_fails_counts_as_not_fitting() -> None:
    too_small = {"image_size": 16, "num_threads": 1, "window_s": 0.1}
    config = TrialConfig(architecture="resnet18", batch_size=8)
    assert measure_sharing([config], counts=(1, 2), **too_small) == {1: [0.0]}  # type: ignore[arg-type]


def test_the_order_of_a_process_is_checked() -> None:
    with pytest.raises(ValueError, match="unknown hyperparameter"):
        train_for_a_while({"config": {"depth": 3}, "image_size": 32})
