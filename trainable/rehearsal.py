"""A model that trains on random images, so that what a step costs is known before a real one"""

from __future__ import annotations

from dataclasses import replace

import torch

from trainable.architectures import build_model
from trainable.config import StepPlan, TrialConfig
from trainable.trainer import EpochResult, Trainer

LEARNING_RATE = 1e-9  # the weights stay what they are, for all that is measured one after another


class Rehearsal:
    """The model of `config`, all its layers in training, and `num_images` uint8 images of noise, on `device`.

    Draws from torch's generator, as does every epoch. `source` is that of `build_model`.
    """

    def __init__(
        self, config: TrialConfig, *, image_size: int, num_images: int, device: torch.device, source: str | None = None
    ) -> None:
        self.pixels = torch.randint(0, 256, (num_images, image_size, image_size), dtype=torch.uint8, device=device)
        self.labels = torch.arange(num_images, device=device) % 2
        model = build_model(config, 2, source=source)
        self.trainer = Trainer(model, replace(config, unfreezing="all"), max_epochs=1, device=device)
        self.trainer.lr_at = lambda _: LEARNING_RATE

    def train(self, plan: StepPlan) -> EpochResult:
        """One epoch, as a trial has it."""
        self.trainer.plan = plan
        self.trainer.micro_batch = None
        return self.trainer.train_epoch(self.pixels, self.labels, 1)
