"""A trained model again: rebuilt from its checkpoint, scored as in its trial, and as it is served"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from trainable.architectures import build_model
from trainable.config import TrialConfig, TrialSettings
from trainable.loop import evaluate
from trainable.normalisation import pixel_shape, to_input
from trainable.step_plan import pick_device

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class ServedModel(nn.Module):
    """A model as it is served: uint8 pixels (N, S, S) or (N, S, S, C) in, probabilities float32 (N, K) out.

    It takes the model over: to the CPU, in fp32, the stock layout and evaluation mode.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.to("cpu", torch.float32).to(memory_format=torch.contiguous_format).eval()

    def forward(self, pixels: Tensor) -> Tensor:
        return self.model(to_input(pixels)).softmax(dim=1)


def rebuild_model(
    params: Mapping[str, Any], settings: TrialSettings, state: Mapping[str, Any], *, source: str | None = None
) -> nn.Module:
    """The model of a checkpoint's `state`. `source` is the text of a user's own model file."""
    model = build_model(
        TrialConfig.from_params(params), len(settings.classes), num_channels=settings.num_channels, source=source
    )
    model.load_state_dict(state["model"])
    return model.eval()


def predict(model: nn.Module, pixels: np.ndarray, labels: np.ndarray) -> tuple[float, np.ndarray]:
    """The trial's own evaluation: uint8 (N, S, S[, C]) and int64 (N,) -> loss and probabilities float32 (N, K)."""
    device = pick_device()
    return evaluate(model.to(device), torch.from_numpy(pixels), torch.from_numpy(labels), device=device)


def time_images(served: Any, shape: Sequence[int], *, num_times: int = 5) -> list[float]:
    """Seconds for one blank image of this `shape` on the CPU, so many times, after one that warms up."""
    pixels = torch.zeros((1, *shape), dtype=torch.uint8)
    seconds = []
    with torch.inference_mode():
        for _ in range(1 + num_times):
            began_s = time.perf_counter()
            served(pixels)
            seconds.append(time.perf_counter() - began_s)
    return seconds[1:]


def check_exportable(model: nn.Module, *, image_size: int, num_channels: int = 1) -> None:
    """Raise ValueError unless torch.export takes `model`, with any batch size: ask before a user's model trains.

    Takes `model` over, as ServedModel does.
    """
    pixels = torch.zeros((3, *pixel_shape(image_size, num_channels)), dtype=torch.uint8)
    any_batch_size = ({0: torch.export.Dim.AUTO},)
    try:
        exported = torch.export.export(ServedModel(model), (pixels[:2],), dynamic_shapes=any_batch_size).module()
        for count in (1, 3):
            exported(pixels[:count])
    except Exception as error:  # the exporter raises many types
        raise ValueError(
            f"the model cannot be exported: {str(error).partition(chr(10))[0]} Its forward must not branch on the "
            "values of tensors, and must take any batch size (see torch.export)"
        ) from error
