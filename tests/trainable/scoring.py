"""A model scored on validation as a trial scores it, for tests that compare a rebuilt one with its trial."""

from __future__ import annotations

import numpy as np
from torch import nn

from trainable.images.prepare import TrainingData
from trainable.objectives import parse_objective
from trainable.served_model import predict


def score_validation(model: nn.Module, data: TrainingData, metric: str) -> float:
    """The model's value of `metric` on the validation split, as a trial reports it."""
    pixels = np.load(data.pixels_path, mmap_mode="c")[data.is_val]
    labels = data.labels[data.is_val]
    loss, probabilities = predict(model, pixels, labels)
    return parse_objective(metric).value(labels, probabilities, data.positive, loss=loss)
