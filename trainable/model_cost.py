"""What a trial's model costs whoever uses it: milliseconds for an image, megabytes of weights."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

    from trainable.config import TrialConfig, TrialSettings

COSTS = {"latency_ms": "ms", "size_mb": "MB"}
"""Every cost that a search may weigh against its metric, with its unit; lower is better."""
NAMES = {"latency_ms": "latency, ms an image on one core", "size_mb": "size, MB"}
LEAST_RUNS, LEAST_S = 5, 0.2


def name_cost(name: str) -> str:
    """What an axis is called."""
    return NAMES.get(name, name)


def measure_costs(config: TrialConfig, settings: TrialSettings, source: str | None = None) -> dict[str, float]:
    """The costs that `settings` asks for, of the model of `config`; `source` is that of `build_model`.

    `latency_ms` is one image on one core of this machine's CPU in fp32: the fastest run of five or more, by the time
    that the core works for it, since other trials run here too. `size_mb` are weights and statistics in fp32, in
    millions of bytes. Draws from torch's generator.
    """
    from trainable.architectures import build_model

    if not settings.costs:
        return {}
    model = build_model(config, len(settings.classes), num_channels=settings.num_channels, source=source).eval()
    tensors = [*model.parameters(), *model.buffers()]
    known = {"size_mb": sum(tensor.numel() * tensor.element_size() for tensor in tensors) / 1e6}
    if "latency_ms" in settings.costs:
        known["latency_ms"] = 1000 * time_one_image(model, settings.image_size, settings.num_channels)
    return {name: known[name] for name in settings.costs}


def time_one_image(model: nn.Module, image_size: int, num_channels: int) -> float:
    """Seconds of the fastest of several forward passes of one image, on one core."""
    import torch

    image = torch.zeros(1, num_channels, image_size, image_size)
    threads_before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            model(image)
            seconds: list[float] = []
            while len(seconds) < LEAST_RUNS or sum(seconds) < LEAST_S:
                began_s = time.thread_time()
                model(image)
                seconds.append(time.thread_time() - began_s)
    finally:
        torch.set_num_threads(threads_before)
    return min(seconds)
