"""One configuration in training: model, weight average, optimiser, schedule, device and process group in one"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainable.augment import Augmentation
from trainable.config import StepPlan, is_own_model
from trainable.fine_tuning import count_trained, freeze_layers, split_head
from trainable.images.batches import draw_batches, fetch_batches
from trainable.loop import (
    DTYPES,
    MEMORY_FORMATS,
    derive_seed,
    evaluate,
    has_batch_norm,
    lay_out,
    warm_up_norms,
)
from trainable.micro_batches import sum_gradients
from trainable.normalisation import to_input
from trainable.optimizers import build_lr_schedule, build_optimizer
from trainable.process_group import SINGLE
from trainable.weight_average import MAX_RENEWING, RENEWING_SHARE, WeightAverage, find_decay

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from trainable.config import TrialConfig
    from trainable.images.windows import Window
    from trainable.process_group import ProcessGroup

MAX_GRADIENT_NORM = 5.0


@dataclass(frozen=True, kw_only=True)
class EpochResult:
    """A training pass: the M images seen, in the order seen, with what the model said in training mode.

    `loss` is their plain mean cross-entropy (without class weights or label smoothing, to be compared with
    validation), `labels` int64 (M,), `probabilities` float32 (M, K), `learning_rate` that of the last step.
    `micro_batch` is the most images that memory held at once where it did not hold a batch.
    """

    loss: float
    labels: np.ndarray
    probabilities: np.ndarray
    num_images: int
    seconds: float
    learning_rate: float
    micro_batch: int | None = None


class Trainer:
    """`model`, on `device`, in training by `config`, whose schedules run over `max_epochs`.

    `average` is the moving average of its weights: score that, and keep it. Its batch normalisation has averaged
    statistics, or with `renews_statistics` those of some training images. Every random draw comes from (`seed`,
    epoch). Where a rank of a `process_group` trains, all do alike, each on its shard of every batch; `uses_ddp` says
    that torch's DistributedDataParallel adds up their gradients, as their mean. `micro_batch` is the most images that
    memory held at once where it did not hold a batch, else None. `windows` are those of the channels where these show
    Hounsfield units (`jitter_intensity`). `plan`, `lr_at` (the learning rate after so many
    epochs, whole and part) and `optimizer` may be replaced.
    """

    def __init__(
        self,
        model: nn.Module,
        config: TrialConfig,
        *,
        max_epochs: int,
        device: torch.device,
        plan: StepPlan | None = None,
        seed: int = 0,
        class_weights: Tensor | None = None,
        compile: bool = False,
        renews_statistics: bool = False,
        process_group: ProcessGroup = SINGLE,
        windows: Sequence[Window] = (),
    ) -> None:
        self.config = config
        self.windows = windows
        self.max_epochs = max_epochs
        self.device = device
        self.plan = plan or StepPlan()
        self.seed = seed
        self.class_weights = class_weights
        self.renews_statistics = renews_statistics
        self.process_group = process_group
        self.model = process_group.synchronize(model.to(device))
        self.average = WeightAverage(self.model)
        self.optimizer = build_optimizer(self.model, config)
        self.lr_at = build_lr_schedule(config, max_epochs)
        self.micro_batch: int | None = None
        self._compiled = torch.compile(self.model) if compile else None
        # Not where ranks may split their shards unlike each other, or where a parameter may be unused.
        is_known = has_batch_norm(self.model) and not is_own_model(config.architecture)
        self.uses_ddp = process_group.size > 1 and device.type == "cuda" and is_known and not compile
        self._distributed = self.model

    def state_dict(self) -> dict[str, Any]:
        """All that training goes on from, but for the epoch and `micro_batch`."""
        return {
            "model": self.model.state_dict(),
            "average": self.average.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict`; where it has no average yet, the average begins with the weights."""
        self.model.load_state_dict(state["model"])
        self.average.model.load_state_dict(state.get("average", state["model"]))
        self.optimizer.load_state_dict(state["optimizer"])

    def train_epoch(
        self, pixels: Tensor, labels: Tensor, epoch: int, *, check_time: Callable[[], None] | None = None
    ) -> EpochResult:
        """Train one pass over `pixels` uint8 (N, S, S[, C]), as `take_rows` placed them, and `labels` int64 (N,).

        `epoch` counts from 1. Gradients are clipped to a norm of 5, which only a diverging step reaches. Steps that do
        not fit into memory are repeated in micro-batches (`sum_gradients`). Frozen layers keep their statistics.
        `check_time` is called before every step and may raise. Raises FloatingPointError, naming epoch and step, for a
        loss that is not finite.
        """
        began_s = time.perf_counter()
        config, group, device = self.config, self.process_group, self.device
        # of dropout and stochastic depth, which differ from rank to rank
        torch.manual_seed(derive_seed(self.seed, epoch, 0 if group.rank == 0 else 2 + group.rank))
        order = torch.Generator().manual_seed(derive_seed(self.seed, epoch, 1))
        num_classes = int(labels.max()) + 1  # training has images of every class
        augmentation = Augmentation(
            config, num_classes=num_classes, seed=self.seed, epoch=epoch, device=device, windows=self.windows
        )
        self._prepare_epoch(epoch)
        parameters = list(self.model.parameters())
        scaler = torch.amp.GradScaler(device.type, enabled=self.plan.precision == "fp16")

        batches = draw_batches(len(pixels), config.batch_size, order, least=max(2, group.size))
        mine = [batch[group.shard(len(batch))] for batch in batches]
        may_split = group.size == 1 or not has_batch_norm(self.model)
        # In one piece each: small tensors that stay, between large ones that come and go, would tear the heap apart.
        losses = torch.empty(len(batches), device=device)
        all_logits = torch.empty(0, device=device)
        num_seen = 0
        learning_rate = 0.0
        for step, batch in enumerate(fetch_batches(pixels, mine, device)):
            if check_time is not None:
                check_time()
            learning_rate = self._set_learning_rate(epoch - 1 + step / len(batches))
            steps_done = (epoch - 1) * len(batches) + step
            norms_are_warm = warm_up_norms(self.model, steps_done)

            targets = labels[batches[step].to(labels.device)].to(device)
            shard = group.shard(len(targets))
            images, wanted = augmentation(to_input(batch), targets, shard)
            images = images.contiguous(memory_format=MEMORY_FORMATS[self.plan.memory_format])
            weight_sum = len(targets) if self.class_weights is None else self.class_weights[targets].sum()
            is_usual = norms_are_warm and len(targets) == config.batch_size and self.micro_batch is None
            forward = self._compiled if self._compiled is not None and is_usual else self._distributed

            self.optimizer.zero_grad(set_to_none=True)
            loss, logits, self.micro_batch = sum_gradients(
                partial(self._add_gradients, forward, scaler, weight_sum),
                images,
                wanted,
                micro_batch=self.micro_batch,
                forget=self.optimizer.zero_grad,
                may_split=may_split,
            )
            if not self.uses_ddp:
                group.all_reduce_gradients(parameters)
            scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(parameters, MAX_GRADIENT_NORM)
            scaler.step(self.optimizer)
            scaler.update()
            self.average.update(find_decay(steps_done, len(batches)))
            if num_seen == 0:
                all_logits = logits.new_zeros(sum(map(len, batches)), logits.shape[1])
            all_logits[num_seen + shard.start : num_seen + shard.stop] = logits
            num_seen += len(targets)
            losses[step] = loss

        self.average.copy_counters()
        if self.renews_statistics:
            num = max(1, min(MAX_RENEWING, int(RENEWING_SHARE * len(pixels))))
            rows = torch.cat(batches)[:num].to(pixels.device)  # in the epoch's random order
            self.average.renew_statistics(self.model, to_input(pixels[rows].to(device)))
        group.all_reduce(losses)
        group.all_reduce(all_logits)
        _check_losses(losses, epoch)  # once an epoch: reading a loss makes a GPU wait
        targets = labels[torch.cat(batches).to(labels.device)].to(device)
        return EpochResult(
            loss=float(F.cross_entropy(all_logits, targets)),
            labels=targets.cpu().numpy(),
            probabilities=all_logits.softmax(dim=1).cpu().numpy(),
            num_images=len(targets),
            seconds=time.perf_counter() - began_s,
            learning_rate=learning_rate,
            micro_batch=self.micro_batch,
        )

    def evaluate(self, pixels: Tensor, labels: Tensor, *, raw: bool = False) -> tuple[float, np.ndarray]:
        """Loss and probabilities (`loop.evaluate`) by the average of the weights, or by the `raw` ones."""
        model = self.model if raw else self.average.model
        return evaluate(model, pixels, labels, device=self.device, process_group=self.process_group)

    def _prepare_epoch(self, epoch: int) -> None:
        """Lay everything out as the plan says, and let those layers train whose turn it is."""
        memory_format = MEMORY_FORMATS[self.plan.memory_format]
        lay_out(self.model, self.optimizer, memory_format)
        self.average.model.to(memory_format=memory_format)
        self.average.follow(self.model)
        progress = (epoch - 1) / self.max_epochs
        num_trained = count_trained(self.config, progress, len(split_head(self.model)[0]))
        frozen = freeze_layers(self.model, num_trained)
        self.model.train()
        for layer in frozen:
            layer.eval()
        self._distributed = self.process_group.distribute(self.model) if self.uses_ddp else self.model

    def _set_learning_rate(self, epochs_done: float) -> float:
        learning_rate = self.lr_at(epochs_done)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate * group.get("lr_factor", 1.0)
        return learning_rate

    def _add_gradients(
        self,
        forward: Callable[[Tensor], Tensor],
        scaler: torch.amp.GradScaler,
        weight_sum: Tensor | int,
        images: Tensor,
        targets: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Add the gradients of a part of the batch, whose classes weigh `weight_sum`; its loss and its logits."""
        precision, smoothing = self.plan.precision, self.config.label_smoothing
        with torch.autocast(self.device.type, dtype=DTYPES[precision], enabled=precision != "fp32"):
            logits = forward(images).float()
        losses = F.cross_entropy(logits, targets, self.class_weights, label_smoothing=smoothing, reduction="sum")
        loss = losses / weight_sum
        scaler.scale(loss * self.process_group.size if self.uses_ddp else loss).backward()
        return loss.detach(), logits.detach()


def _check_losses(losses: Tensor, epoch: int) -> None:
    bad_steps = torch.nonzero(~torch.isfinite(losses))
    if len(bad_steps) > 0:
        step = int(bad_steps[0])
        raise FloatingPointError(
            f"the loss is {float(losses[step])} in epoch {epoch}, step {step + 1} of {len(losses)}: "
            "a lower learning rate may help"
        )
