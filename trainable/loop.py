"""The parts of a training loop in plain torch: input, evaluation, seeds, memory layout and normalisation"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from trainable.architectures import GREY_MEAN, GREY_STD
from trainable.process_group import SINGLE
from trainable.worker_memory import give_back

if TYPE_CHECKING:
    from trainable.process_group import ProcessGroup

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
MEMORY_FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
NORM_MOMENTUM = 0.1


def to_input(pixels: Tensor) -> Tensor:
    """Normalise uint8 images (N, S, S) to a model's float32 input (N, 1, S, S): the one place of scaling."""
    return (pixels.unsqueeze(1).float() - 255 * GREY_MEAN) / (255 * GREY_STD)


def evaluate(
    model: nn.Module,
    pixels: Tensor,
    labels: Tensor,
    *,
    device: torch.device,
    batch_size: int = 64,
    process_group: ProcessGroup = SINGLE,
) -> tuple[float, np.ndarray]:
    """Plain mean cross-entropy and probabilities float32 (N, C) on uint8 (N, S, S) and labels int64 (N,).

    Always in fp32 and the stock layout, as the registered model computes; leaves `model` so. The ranks of a
    `process_group` take a shard each and all return the whole.
    """
    model.to(memory_format=torch.contiguous_format)
    model.eval()
    cudnn = torch.backends.cudnn
    full_fp32 = cudnn.flags(enabled=True, deterministic=cudnn.deterministic, allow_tf32=False)
    with torch.inference_mode(), full_fp32:
        mine = _predict(model, pixels[process_group.shard(len(pixels))], device, batch_size)
        logits = process_group.all_gather(mine, len(pixels))
        loss = float(F.cross_entropy(logits, labels.to(device)))
    return loss, logits.softmax(dim=1).cpu().numpy()


def _predict(model: nn.Module, pixels: Tensor, device: torch.device, batch_size: int) -> Tensor:
    """Logits float32 (N, C), in smaller batches where memory does not hold these."""
    logits = torch.empty(0, device=device)
    try:
        for begin in range(0, len(pixels), batch_size):
            part = model(to_input(pixels[begin : begin + batch_size].to(device)))
            if begin == 0:
                logits = part.new_empty(len(pixels), part.shape[1], dtype=torch.float32)
            logits[begin : begin + batch_size] = part
        return logits
    except torch.OutOfMemoryError:
        if batch_size == 1:
            raise
    give_back()
    return _predict(model, pixels, device, batch_size // 2)


def derive_seed(seed: int, epoch: int, stream: int) -> int:
    """A seed for one stream of random numbers of one epoch; neighbouring seeds give unrelated streams."""
    return int(np.random.SeedSequence([seed, epoch, stream]).generate_state(1, np.uint32)[0])


def lay_out(model: nn.Module, optimizer: torch.optim.Optimizer, memory_format: torch.memory_format) -> None:
    """Bring weights, and their moments, into one layout: a fused optimiser walks them in parallel."""
    model.to(memory_format=memory_format)
    for parameter, state in optimizer.state.items():
        for name, moment in state.items():
            if moment.shape == parameter.shape and moment.stride() != parameter.stride():
                state[name] = torch.empty_like(parameter).copy_(moment)


def has_batch_norm(model: nn.Module) -> bool:
    """Whether a step takes statistics of the whole batch."""
    return any(isinstance(module, _BatchNorm) for module in model.modules())


def warm_up_norms(model: nn.Module, steps_done: int) -> bool:
    """Let batch norm's running statistics be the plain mean of the first ten batches, then the usual 0.1.

    They start at values that belong to no data, and a trial is compared with others after one short epoch. Returns
    whether the usual momentum is reached.
    """
    momentum = max(NORM_MOMENTUM, 1 / (steps_done + 1))
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.momentum = momentum
    return momentum == NORM_MOMENTUM
