from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests.trainable.test_loop import CPU, draw_images, states_are_equal, train_once
from trainable.config import TrialConfig
from trainable.loop import evaluate
from trainable.micro_batches import sum_gradients

NO_NORM = TrialConfig(architecture="squeezenet1_1", batch_size=8, augmentation=0.3, label_smoothing=0.1)
CLASS_WEIGHTS = torch.tensor([1.5, 0.5])


class SmallMemory(nn.Module):
    """A model on a device that holds so many images and no more: fails on purpose."""

    def __init__(self, num_images: int) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.layers = nn.Sequential(nn.Conv2d(1, 4, 5, stride=4), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2))
        self.layers(torch.zeros(2, 1, 24, 24))
        self.num_images = num_images
        self.seen: list[int] = []

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append(len(images))
        if len(images) > self.num_images:
            raise torch.OutOfMemoryError(f"Tried to allocate {len(images)} images\nand much more")
        return self.layers(images)


@pytest.mark.parametrize("class_weights", [None, CLASS_WEIGHTS], ids=["plain", "weighted"])
def test_a_step_out_of_memory_is_repeated_in_parts_and_gives_the_same_weights(class_weights: Tensor | None) -> None:
    roomy, narrow = SmallMemory(99), SmallMemory(3)
    _, expected = train_once(NO_NORM, 2, roomy, class_weights=class_weights)
    _, result = train_once(NO_NORM, 2, narrow, class_weights=class_weights)
    assert (expected.micro_batch, result.micro_batch) == (None, 2)
    for name, tensor in roomy.state_dict().items():
        torch.testing.assert_close(narrow.state_dict()[name], tensor, rtol=1e-4, atol=1e-6)
    assert result.loss == pytest.approx(expected.loss, rel=1e-4)
    assert result.num_images == expected.num_images


def test_the_size_that_fits_is_kept_for_the_steps_that_follow() -> None:
    narrow = SmallMemory(4)
    train_once(NO_NORM, 1, narrow)
    assert narrow.seen[:4] == [8, 4, 4, 4]
    assert narrow.seen.count(8) == 1
    narrow.seen.clear()
    train_once(NO_NORM, 1, narrow, micro_batch=4)
    assert max(narrow.seen) == 4, "a resumed trial begins with what fitted before"


def test_parts_are_nearly_equal_so_that_none_is_a_single_image() -> None:
    sizes: list[int] = []

    def compute(images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        sizes.append(len(images))
        return images.sum(), targets

    loss, logits, micro_batch = sum_gradients(
        compute, torch.ones(9, 1), torch.arange(9), micro_batch=4, forget=lambda: None
    )
    assert sizes == [3, 3, 3]
    assert (float(loss), logits.tolist(), micro_batch) == (9, list(range(9)), 4)


def test_a_device_too_small_for_two_images_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(MemoryError, match=r"on 2 images does not fit.*--image-size.*Tried to allocate 2 images"):
        train_once(NO_NORM, 1, SmallMemory(1))


def test_evaluation_out_of_memory_takes_smaller_batches_and_gives_the_same() -> None:
    pixels, labels = draw_images()
    roomy, narrow = SmallMemory(99), SmallMemory(5)
    assert states_are_equal(roomy, narrow)
    expected, found = (evaluate(model, pixels, labels, device=CPU) for model in (roomy, narrow))
    assert found[0] == pytest.approx(expected[0])
    assert found[1] == pytest.approx(expected[1])
