"""The model of several trials: the mean of their probabilities, calibrated, as one module that is served."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from trainable.calibration import UNCALIBRATED, TemperatureScaling
from trainable.ensemble import mean_probabilities
from trainable.probability_metrics import LEAST_PROBABILITY
from trainable.served_model import ServedModel, predict
from trainable.verdicts import MEAN_VERDICT, PatientVerdict

if TYPE_CHECKING:
    from collections.abc import Sequence


class ServedEnsemble(nn.Module):
    """Uint8 pixels in, probabilities float32 (N, C) out: the mean of those of `members`, by one temperature.

    `weights` (M,) are the members' shares in the mean, with the sum 1; without them all have the same. It takes the
    members over, as ServedModel does. The temperature is a buffer: whatever holds the model holds it. One member at a
    temperature of 1 is that member's ServedModel. With `is_mirrored` it is the mean over an image and its mirror image.
    """

    temperature: Tensor

    def __init__(
        self,
        members: Sequence[nn.Module],
        temperature: float = 1.0,
        weights: Sequence[float] | None = None,
        *,
        is_mirrored: bool = False,
    ) -> None:
        super().__init__()
        self.is_mirrored = is_mirrored
        self.weights = tuple(weights or [1 / len(members)] * len(members))
        self.members = nn.ModuleList(ServedModel(member) for member in members)
        self.register_buffer("temperature", torch.tensor(float(temperature)))
        self.is_calibrated = temperature != 1
        self.eval()

    def forward(self, pixels: Tensor) -> Tensor:
        if self.is_mirrored:
            pixels = torch.cat([pixels, pixels.flip(2)])
        probabilities = self.members[0](pixels) * self.weights[0]
        for member, weight in zip(list(self.members)[1:], self.weights[1:], strict=True):
            probabilities = probabilities + member(pixels) * weight
        if self.is_mirrored:
            probabilities = probabilities.unflatten(0, (2, -1)).mean(dim=0)
        if not self.is_calibrated:
            return probabilities
        # the softmax of the logarithms by the temperature, as TemperatureScaling; no second softmax in the graph
        raised = probabilities.clamp(min=LEAST_PROBABILITY) ** (1 / self.temperature)
        return raised / raised.sum(dim=1, keepdim=True)


@dataclass(frozen=True, kw_only=True)
class TrainedEnsemble:
    """The models of the trials that were chosen, the calibration of their mean probability, by `weights`, and the
    `verdict` on a patient by the probabilities of their slices. With `is_mirrored` the mean is over mirror images too.
    """

    members: tuple[nn.Module, ...]
    calibration: TemperatureScaling = UNCALIBRATED
    weights: tuple[float, ...] | None = None
    verdict: PatientVerdict = MEAN_VERDICT
    is_mirrored: bool = False

    def predict(self, pixels: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Probabilities float64 (N, C) of uint8 pixels, each member's by the trial's own evaluation."""
        each = [predict(member, pixels, labels)[1] for member in self.members]
        if self.is_mirrored:
            turned = mirror(pixels)
            each = [(seen + predict(m, turned, labels)[1]) / 2 for m, seen in zip(self.members, each, strict=True)]
        return self.calibration.apply(mean_probabilities(np.stack(each), self.weights))

    def to_served(self) -> ServedEnsemble:
        """The module that is registered; it takes the members over."""
        return ServedEnsemble(self.members, self.calibration.temperature, self.weights, is_mirrored=self.is_mirrored)


def mirror(pixels: np.ndarray) -> np.ndarray:
    """Images (N, S, S[, C]) with left and right exchanged."""
    return np.ascontiguousarray(pixels[:, :, ::-1])
