"""A net that trains on made-up pictures, so that what a step costs is known before a real one."""

from __future__ import annotations

import torch

from trainable.architectures import build_model
from trainable.config import StepPlan, TrialConfig
from trainable.loop import EpochResult, train_epoch
from trainable.normalisation import pixel_shape
from trainable.optimizers import build_optimizer

LEARNING_RATE = 1e-9  # the weights stay what they are, for all that is measured one after another


class Rehearsal:
    """The net of `config` with its optimizer, and `num_images` uint8 images of noise, on `device`.

    Draws from torch's generator, as does every epoch. `source` is that of `build_model`.
    """

    def __init__(
        self,
        config: TrialConfig,
        *,
        image_size: int,
        num_images: int,
        device: torch.device,
        num_channels: int = 1,
        source: str | None = None,
    ) -> None:
        self.config = config
        self.device = device
        shape = (num_images, *pixel_shape(image_size, num_channels))
        self.pixels = torch.randint(0, 256, shape, dtype=torch.uint8, device=device)
        self.labels = torch.arange(num_images, device=device) % 2
        self.model = build_model(config, 2, num_channels=num_channels, source=source).to(device)
        self.optimizer = build_optimizer(self.model, config)

    def train(self, plan: StepPlan) -> EpochResult:
        """One epoch, as a trial has it."""
        return train_epoch(
            self.model,
            self.pixels,
            self.labels,
            optimizer=self.optimizer,
            lr_at=lambda _: LEARNING_RATE,
            plan=plan,
            config=self.config,
            epoch=1,
            seed=0,
            device=self.device,
        )
