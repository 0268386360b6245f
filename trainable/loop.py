"""One epoch of training and one evaluation, in plain torch. Every random draw comes from (seed, epoch)."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from trainable.augment import augment
from trainable.images.batches import draw_batches, fetch_batches
from trainable.micro_batches import sum_gradients
from trainable.normalisation import to_input
from trainable.team import ALONE
from trainable.worker_memory import give_back

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from trainable.config import StepPlan, TrialConfig
    from trainable.team import Team

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
MEMORY_FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
MAX_GRADIENT_NORM = 5.0
NORM_MOMENTUM = 0.1


@dataclass(frozen=True, kw_only=True)
class EpochResult:
    """A training pass: the M pictures seen, in the order seen, with what the net said in training mode.

    `loss` is their plain mean cross-entropy (without class weights or label smoothing, to be compared with
    validation), `labels` int64 (M,), `probabilities` float32 (M, C), `learning_rate` that of the last step.
    `micro_batch` is the most pictures that memory held at once where it did not hold a batch.
    """

    loss: float
    labels: np.ndarray
    probabilities: np.ndarray
    num_images: int
    seconds: float
    learning_rate: float
    micro_batch: int | None = None


def train_epoch(
    model: nn.Module,
    pixels: Tensor,
    labels: Tensor,
    *,
    optimizer: torch.optim.Optimizer,
    lr_at: Callable[[float], float],
    plan: StepPlan,
    config: TrialConfig,
    epoch: int,
    seed: int,
    device: torch.device,
    class_weights: Tensor | None = None,
    micro_batch: int | None = None,
    compiled: Callable[[Tensor], Tensor] | None = None,
    frozen: Sequence[nn.Module] = (),
    check_time: Callable[[], None] | None = None,
    team: Team = ALONE,
) -> EpochResult:
    """Train `model` (on `device`) one pass over `pixels` uint8 (N, S, S) or (N, S, S, C), as `take_rows` placed them,
    and `labels` int64 (N,).

    `epoch` counts from 1; `lr_at` gives the learning rate after so many epochs, whole and part. Gradients are clipped
    to a norm of 5, which only a diverging step reaches. Steps that do not fit into memory are repeated in
    micro-batches, from `micro_batch` pictures on (`sum_gradients`). `compiled` is `torch.compile` of `model`; it takes
    the steps of full batches. `frozen` layers keep their statistics. `check_time` is called before every step and may
    raise. A rank of a `team` trains on its part of each batch, and every rank returns the result of all. Raises
    FloatingPointError, naming epoch and step, for a loss that is not finite.
    """
    began_s = time.perf_counter()
    torch.manual_seed(derive_seed(seed, epoch, 0 if team.rank == 0 else 2 + team.rank))  # dropout, stochastic depth
    order = torch.Generator().manual_seed(derive_seed(seed, epoch, 1))
    moves = torch.Generator(device=device).manual_seed(derive_seed(seed, epoch, 2))
    memory_format = MEMORY_FORMATS[plan.memory_format]
    _lay_out(model, optimizer, memory_format)
    model.train()
    for layer in frozen:
        layer.eval()
    parameters = list(model.parameters())
    scaler = torch.amp.GradScaler(device.type, enabled=plan.precision == "fp16")

    def add_gradients(
        forward: Callable[[Tensor], Tensor], weight_sum: Tensor | int, images: Tensor, targets: Tensor
    ) -> tuple[Tensor, Tensor]:
        with torch.autocast(device.type, dtype=DTYPES[plan.precision], enabled=plan.precision != "fp32"):
            logits = forward(images).float()
        smoothing = config.label_smoothing
        loss = F.cross_entropy(logits, targets, class_weights, label_smoothing=smoothing, reduction="sum") / weight_sum
        scaler.scale(loss).backward()
        return loss.detach(), logits.detach()

    batches = draw_batches(len(pixels), config.batch_size, order, least=max(2, team.size))
    mine = [batch[team.part(len(batch))] for batch in batches]
    may_split = team.size == 1 or not any(isinstance(module, _BatchNorm) for module in model.modules())
    # In one piece each: small tensors that stay, between large ones that come and go, would tear the heap apart.
    losses = torch.empty(len(batches), device=device)
    all_logits = torch.empty(0, device=device)
    num_seen = 0
    learning_rate = 0.0
    for step, pictures in enumerate(fetch_batches(pixels, mine, device)):
        if check_time is not None:
            check_time()
        learning_rate = lr_at(epoch - 1 + step / len(batches))
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * group.get("lr_factor", 1.0)
        norms_are_warm = _warm_up_norms(model, (epoch - 1) * len(batches) + step)

        targets = labels[batches[step].to(labels.device)].to(device)
        part = team.part(len(targets))
        images = augment(to_input(pictures), config.augmentation, moves, part=part, num_drawn=len(targets))
        images = images.contiguous(memory_format=memory_format)
        weight_sum = len(targets) if class_weights is None else class_weights[targets].sum()
        is_usual = norms_are_warm and len(targets) == config.batch_size
        forward = compiled if compiled is not None and is_usual and micro_batch is None else model

        optimizer.zero_grad(set_to_none=True)
        loss, logits, micro_batch = sum_gradients(
            partial(add_gradients, forward, weight_sum),
            images,
            targets[part],
            micro_batch=micro_batch,
            forget=optimizer.zero_grad,
            may_split=may_split,
        )
        team.sum_gradients(parameters)
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(parameters, MAX_GRADIENT_NORM)
        scaler.step(optimizer)
        scaler.update()
        if num_seen == 0:
            all_logits = logits.new_zeros(sum(map(len, batches)), logits.shape[1])
        all_logits[num_seen + part.start : num_seen + part.stop] = logits
        num_seen += len(targets)
        losses[step] = loss

    team.sum(losses)
    team.sum(all_logits)
    _check_losses(losses, epoch)  # once an epoch: reading a loss makes a GPU wait
    targets = labels[torch.cat(batches).to(labels.device)].to(device)
    return EpochResult(
        loss=float(F.cross_entropy(all_logits, targets)),
        labels=targets.cpu().numpy(),
        probabilities=all_logits.softmax(dim=1).cpu().numpy(),
        num_images=len(targets),
        seconds=time.perf_counter() - began_s,
        learning_rate=learning_rate,
        micro_batch=micro_batch,
    )


def evaluate(
    model: nn.Module,
    pixels: Tensor,
    labels: Tensor,
    *,
    device: torch.device,
    batch_size: int = 64,
    team: Team = ALONE,
) -> tuple[float, np.ndarray]:
    """Plain mean cross-entropy and probabilities float32 (N, K) on uint8 (N, S, S[, C]) and labels int64 (N,).

    Always in fp32 and the stock layout, as the registered model computes; leaves `model` so. The ranks of a `team` take
    a part each and all return the whole.
    """
    model.to(memory_format=torch.contiguous_format)
    model.eval()
    cudnn = torch.backends.cudnn
    full_fp32 = cudnn.flags(enabled=True, deterministic=cudnn.deterministic, allow_tf32=False)
    with torch.inference_mode(), full_fp32:
        logits = team.gather(_predict(model, pixels[team.part(len(pixels))], device, batch_size), len(pixels))
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


def _lay_out(model: nn.Module, optimizer: torch.optim.Optimizer, memory_format: torch.memory_format) -> None:
    """Bring weights, and their moments, into one layout: a fused optimiser walks them in parallel."""
    model.to(memory_format=memory_format)
    for parameter, state in optimizer.state.items():
        for name, moment in state.items():
            if moment.shape == parameter.shape and moment.stride() != parameter.stride():
                state[name] = torch.empty_like(parameter).copy_(moment)


def _warm_up_norms(model: nn.Module, steps_done: int) -> bool:
    """Let batch norm's running statistics be the plain mean of the first ten batches, then the usual 0.1.

    They start at values that belong to no data, and a trial is compared with others after one short epoch. Returns
    whether the usual momentum is reached.
    """
    momentum = max(NORM_MOMENTUM, 1 / (steps_done + 1))
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.momentum = momentum
    return momentum == NORM_MOMENTUM


def _check_losses(losses: Tensor, epoch: int) -> None:
    bad_steps = torch.nonzero(~torch.isfinite(losses))
    if len(bad_steps) > 0:
        step = int(bad_steps[0])
        raise FloatingPointError(
            f"the loss is {float(losses[step])} in epoch {epoch}, step {step + 1} of {len(losses)}: "
            "a lower learning rate may help"
        )
