from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from trainable.architectures import build_model
from trainable.config import StepPlan, TrialConfig
from trainable.loop import derive_seed, evaluate
from trainable.normalisation import GREY_MEAN, GREY_STD, to_input
from trainable.trainer import EpochResult, Trainer

CPU = torch.device("cpu")
CONFIG = TrialConfig(architecture="small_cnn", batch_size=8, cnn_filters=4, dropout=0.2)


def draw_images(num: int = 33, size: int = 24) -> tuple[Tensor, Tensor]:
    """Noise, with a bright square in those of class 1."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 120, (num, size, size), dtype=torch.uint8, generator=generator)
    labels = torch.arange(num) % 2
    pixels[labels == 1, 8:16, 8:16] += 100
    return pixels, labels


def train_once(
    config: TrialConfig = CONFIG,
    num_epochs: int = 1,
    model: nn.Module | None = None,
    *,
    lr_at: Callable[[float], float] | None = None,
    micro_batch: int | None = None,
    check_time: Callable[[], None] | None = None,
    **options: Any,
) -> tuple[nn.Module, EpochResult]:
    """The model as trained, not averaged, and the last epoch's result."""
    trainer = start_training(config, model, **options)
    trainer.lr_at = lr_at or trainer.lr_at
    trainer.micro_batch = micro_batch
    for epoch in range(1, num_epochs + 1):
        result = trainer.train_epoch(*draw_images(), epoch, check_time=check_time)
    return trainer.model, result


def start_training(config: TrialConfig = CONFIG, model: nn.Module | None = None, **options: Any) -> Trainer:
    """At a constant learning rate."""
    torch.manual_seed(0)
    trainer = Trainer(model or build_model(config, 2), config, max_epochs=10, device=CPU, **options)
    trainer.lr_at = lambda _: config.learning_rate
    return trainer


def states_are_equal(first: nn.Module, second: nn.Module) -> bool:
    other = second.state_dict()
    return all(torch.equal(tensor, other[name]) for name, tensor in first.state_dict().items())


def test_pixels_are_scaled_and_normalised() -> None:
    images = to_input(torch.tensor([[[0, 255]]], dtype=torch.uint8))
    assert images.shape == (1, 1, 1, 2)
    expected = torch.tensor([-GREY_MEAN / GREY_STD, (1 - GREY_MEAN) / GREY_STD])
    torch.testing.assert_close(images.flatten(), expected)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("memory_format", ["contiguous", "channels_last"])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "rmsprop"])
def test_every_plan_learns_the_same_task(precision: str, memory_format: str, optimizer: str) -> None:
    learning_rate = 3e-2 if optimizer == "sgd" else 3e-3
    config = TrialConfig(architecture="small_cnn", optimizer=optimizer, learning_rate=learning_rate, batch_size=8)
    plan = StepPlan(precision=precision, memory_format=memory_format)
    model, _ = train_once(config, num_epochs=8, plan=plan)
    loss, probabilities = evaluate(model, *draw_images(), device=CPU)
    assert loss < 0.4
    assert (probabilities.argmax(1) == np.arange(33) % 2).mean() > 0.9


def test_channels_last_gives_the_weights_of_the_stock_layout() -> None:
    stock, _ = train_once(num_epochs=3)
    other, _ = train_once(num_epochs=3, plan=StepPlan(memory_format="channels_last"))
    for (name, expected), tensor in zip(stock.state_dict().items(), other.state_dict().values(), strict=True):
        torch.testing.assert_close(tensor, expected, rtol=1e-2, atol=1e-3, msg=name)


def test_seed_and_epoch_alone_decide_what_an_epoch_does() -> None:
    first, result = train_once()
    torch.manual_seed(12345)
    second, again = train_once()
    assert states_are_equal(first, second)
    assert np.array_equal(result.probabilities, again.probabilities)
    assert not states_are_equal(first, train_once(seed=1)[0])


def test_a_seed_is_not_the_neighbour_of_another() -> None:
    seeds = {derive_seed(seed, epoch, stream) for seed in range(5) for epoch in range(5) for stream in range(3)}
    assert len(seeds) == 75


def test_a_last_batch_of_one_image_is_left_out() -> None:
    _, result = train_once()  # 33 images in batches of 8
    assert result.num_images == len(result.labels) == len(result.probabilities) == 32


def test_a_result_tells_the_plain_cross_entropy_of_the_pass() -> None:
    config = TrialConfig(architecture="small_cnn", label_smoothing=0.3, batch_size=8)
    _, result = train_once(config, class_weights=torch.tensor([1.0, 5.0]))
    rows = np.arange(result.num_images)
    expected = -np.log(result.probabilities[rows, result.labels]).mean()
    assert result.loss == pytest.approx(expected, rel=1e-4)
    np.testing.assert_allclose(result.probabilities.sum(1), 1, rtol=1e-5)


def test_the_learning_rate_follows_the_schedule_by_fractions_of_epochs() -> None:
    asked: list[float] = []

    def lr_at(epochs_done: float) -> float:
        asked.append(epochs_done)
        return 0.5 - epochs_done / 10

    _, result = train_once(lr_at=lr_at, num_epochs=2)
    assert asked == [0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75]
    assert result.learning_rate == pytest.approx(0.325)


def test_class_weights_shift_what_is_called() -> None:
    config = TrialConfig(architecture="small_cnn", optimizer="sgd", learning_rate=0.05, batch_size=8)
    plain, _ = train_once(config, num_epochs=2)
    tilted, _ = train_once(config, num_epochs=2, class_weights=torch.tensor([0.1, 10.0]))
    pixels, labels = draw_images()
    shares = [evaluate(model, pixels, labels, device=CPU)[1][:, 1].mean() for model in (plain, tilted)]
    assert shares[1] > shares[0]


def test_a_loss_that_is_not_finite_is_named_by_epoch_and_step() -> None:
    steps: list[None] = []
    model = build_model(CONFIG, 2)

    def poison() -> None:
        steps.append(None)
        if len(steps) == 3:
            with torch.no_grad():
                next(model.parameters()).fill_(math.nan)

    with pytest.raises(FloatingPointError, match=r"nan in epoch 1, step 3 of 4"):
        train_once(model=model, check_time=poison)


def test_a_step_is_not_begun_when_time_is_up() -> None:
    def stop() -> None:
        raise TimeoutError

    check: Callable[[], None] = stop
    model = build_model(CONFIG, 2)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(TimeoutError):
        train_once(model=model, check_time=check)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_running_statistics_begin_as_the_plain_mean_of_the_first_batches() -> None:
    class Recorder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.head = nn.BatchNorm2d(1), nn.Linear(1, 2)
            self.means: list[Tensor] = []

        def forward(self, images: Tensor) -> Tensor:
            self.means.append(images.mean().detach())
            return self.head(self.norm(images).mean(dim=(2, 3)))

    model = Recorder()
    train_once(model=model)
    torch.testing.assert_close(model.norm.running_mean, torch.stack(model.means).mean().view(1))


def test_evaluation_is_in_fp32_whatever_the_plan_and_the_batches() -> None:
    model, _ = train_once(plan=StepPlan(precision="bf16", memory_format="channels_last"))
    pixels, labels = draw_images()
    loss, probabilities = evaluate(model, pixels, labels, device=CPU)
    assert probabilities.dtype == np.float32
    assert all(parameter.is_contiguous() for parameter in model.parameters())
    other_loss, others = evaluate(model, pixels, labels, device=CPU, batch_size=5)
    np.testing.assert_allclose(probabilities, others, atol=1e-6)
    assert loss == pytest.approx(other_loss, abs=1e-6)
    assert loss == pytest.approx(-np.log(probabilities[np.arange(33), labels]).mean(), rel=1e-5)
