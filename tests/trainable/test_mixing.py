from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.trainable.test_loop import CONFIG, CPU, draw_images, states_are_equal, train_once
from trainable.augment import Augmentation
from trainable.config import TrialConfig
from trainable.mixing import mix_batch
from trainable.normalisation import to_input


def mix(num: int = 40, seed: int = 0, **options: Any) -> tuple[Tensor, Tensor]:
    """Of images as grey as their number, in three classes."""
    images = torch.arange(num).float().view(num, 1, 1, 1).expand(num, 1, 16, 16)
    chosen = {"mixup": 0.0, "cutmix": 0.0} | options
    return mix_batch(images, torch.arange(num) % 3, num_classes=3, rng=np.random.default_rng(seed), **chosen)


@pytest.mark.parametrize("options", [{"mixup": 1.0}, {"cutmix": 1.0}])
def test_targets_are_mixed_as_the_images_are(options: dict[str, Any]) -> None:
    images, targets = mix(**options)
    assert images.dtype == targets.dtype == torch.float32
    torch.testing.assert_close(targets.sum(dim=1), torch.ones(40))
    rows = torch.arange(40)
    own, neighbours = targets[rows, rows % 3], targets[rows, (rows - 1) % 40 % 3]
    means = images.mean(dim=(1, 2, 3))
    torch.testing.assert_close(means[1:], (own * rows + neighbours * (rows - 1))[1:], rtol=1e-5, atol=1e-4)
    assert own[1:].min() >= 0.5 - 0.1, "an image weighs most in its own mixture, but for whole pixels"
    assert own.std() > 0.05


def test_mixup_averages_and_cutmix_pastes() -> None:
    averaged, _ = mix(mixup=1.0)
    pasted, _ = mix(cutmix=1.0)
    assert averaged.flatten(1).std(dim=1).max() < 1e-4
    assert torch.equal(pasted, pasted.round())


def test_with_both_each_batch_has_one_of_them() -> None:
    kinds = {bool((mix(seed=seed, mixup=1.0, cutmix=1.0)[0] % 1 == 0).all()) for seed in range(20)}
    assert kinds == {True, False}


def test_the_generator_alone_decides() -> None:
    first, again, other = mix(mixup=0.4), mix(mixup=0.4), mix(mixup=0.4, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[1], other[1])


@pytest.mark.parametrize("options", [{"intensity": 0.5}, {"cutout": 0.4}, {"mixup": 0.4}, {"cutmix": 1.0}])
def test_seed_and_epoch_alone_decide_what_an_epoch_mixes_and_a_model_learns_from_it(options: dict[str, Any]) -> None:
    config = replace(CONFIG, learning_rate=3e-3, **options)
    model, _ = train_once(config)
    torch.manual_seed(12345)
    assert states_are_equal(model, train_once(config)[0])
    assert not states_are_equal(model, train_once(replace(CONFIG, learning_rate=3e-3))[0])
    _, result = train_once(config, num_epochs=6)
    assert (result.probabilities.argmax(axis=1) == result.labels).mean() > 0.8


def test_what_is_off_draws_nothing_and_leaves_targets_alone() -> None:
    config = replace(CONFIG, augmentation=0.0)
    pixels, labels = draw_images()
    images = to_input(pixels)
    augmentation = Augmentation(config, num_classes=2, seed=0, epoch=1, device=CPU)
    found, targets = augmentation(images, labels, slice(0, 33))
    assert found is images
    assert torch.equal(targets, labels)


def test_mixed_targets_train_with_class_weights_label_smoothing_and_micro_batches() -> None:
    config = TrialConfig(architecture="squeezenet1_1", batch_size=8, mixup=0.4, label_smoothing=0.1)
    class_weights = torch.tensor([1.5, 0.5])
    whole, expected = train_once(config, class_weights=class_weights)
    split, result = train_once(config, class_weights=class_weights, micro_batch=4)
    assert result.loss == pytest.approx(expected.loss, rel=1e-4)
    for name, tensor in whole.state_dict().items():
        torch.testing.assert_close(split.state_dict()[name], tensor, rtol=1e-3, atol=1e-5)


def test_hyperparameters_out_of_range_are_refused() -> None:
    for name, value in {"intensity": 1.5, "cutout": -0.1, "mixup": 9, "cutmix": -1}.items():
        with pytest.raises(ValueError, match=f"{name} is .* it must lie between"):
            TrialConfig.from_params({"architecture": "small_cnn", name: value})
