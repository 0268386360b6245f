from __future__ import annotations

import pytest
import torch

from trainable.config import TrialConfig, TrialSettings
from trainable.model_cost import COSTS, measure_costs, name_cost


def settings_of(*costs: str) -> TrialSettings:
    return TrialSettings(classes=("a", "b"), positive=1, image_size=64, max_epochs=1, costs=costs)


def test_nothing_is_measured_that_nobody_asked_for() -> None:
    assert measure_costs(TrialConfig(architecture="no such model"), settings_of()) == {}


def test_size_is_that_of_all_weights_and_statistics() -> None:
    from trainable.architectures import build_model

    config = TrialConfig(architecture="small_cnn")
    state = build_model(config, 2).state_dict()
    costs = measure_costs(config, settings_of("size_mb"))
    assert costs == {"size_mb": pytest.approx(sum(t.numel() * t.element_size() for t in state.values()) / 1e6)}


def test_a_larger_model_takes_longer_and_threads_are_as_before() -> None:
    threads = torch.get_num_threads()
    small, large = (
        measure_costs(TrialConfig(architecture=name), settings_of("latency_ms"))["latency_ms"]
        for name in ("small_cnn", "resnet50")
    )
    assert 0 < small < large
    assert torch.get_num_threads() == threads


def test_every_cost_has_a_name_for_an_axis() -> None:
    assert all(name_cost(name) != name for name in COSTS)
