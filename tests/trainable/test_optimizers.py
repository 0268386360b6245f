from __future__ import annotations

import pytest
import torch

from trainable.architectures import build_model
from trainable.config import LR_SCHEDULES, OPTIMIZERS, TrialConfig
from trainable.optimizers import build_lr_schedule, build_optimizer, weigh_classes


def schedule(name: str, max_epochs: int = 10) -> list[float]:
    config = TrialConfig(architecture="small_cnn", lr_schedule=name, learning_rate=0.1)
    lr_at = build_lr_schedule(config, max_epochs)
    return [lr_at(max_epochs * part / 100) for part in range(101)]


def test_schedules_have_their_shapes() -> None:
    constant, cosine, one_cycle = (schedule(name) for name in LR_SCHEDULES)
    assert set(constant) == {0.1}
    assert cosine == sorted(cosine, reverse=True)
    assert (cosine[0], cosine[50], cosine[100]) == pytest.approx((0.1, 0.05, 0.0))
    assert one_cycle[:31] == sorted(one_cycle[:31])
    assert one_cycle[30:] == sorted(one_cycle[30:], reverse=True)
    assert (one_cycle[0], one_cycle[30], one_cycle[65], one_cycle[100]) == pytest.approx((0.004, 0.1, 0.05, 0.0))


@pytest.mark.parametrize("name", LR_SCHEDULES)
def test_a_schedule_is_over_max_epochs_however_many_there_are(name: str) -> None:
    assert schedule(name, 7) == pytest.approx(schedule(name, 81))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_biases_and_norms_are_not_decayed(name: str) -> None:
    config = TrialConfig(architecture="small_cnn", optimizer=name, weight_decay=0.5, momentum=0.0)
    model = build_model(config, 2)
    optimizer = build_optimizer(model, config)
    assert type(optimizer).__name__.lower() == name
    decayed, plain = optimizer.param_groups
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.5, 0.0)
    assert all(parameter.ndim > 1 for parameter in decayed["params"])
    assert len(decayed["params"]) + len(plain["params"]) == len(list(model.parameters()))


def test_rare_classes_weigh_more() -> None:
    labels = torch.tensor([0, 0, 0, 1])
    torch.testing.assert_close(weigh_classes(labels, 2), torch.tensor([4 / 6, 2.0]))
    torch.testing.assert_close(weigh_classes(torch.tensor([0, 1]), 2), torch.ones(2))
