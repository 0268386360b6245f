"""K models of one architecture trained as one: stacked by torch.func, or side by side in grouped convolutions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn import functional as F

from trainable.architectures import build_model
from trainable.augment import augment
from trainable.config import StepPlan, TrialConfig
from trainable.images.batches import draw_batches
from trainable.loop import DTYPES, MEMORY_FORMATS, NORM_MOMENTUM, derive_seed
from trainable.normalisation import to_input
from trainable.optimizers import build_lr_schedule
from trainable.trainer import MAX_GRADIENT_NORM

MAX_EPOCHS = 9  # of the learning-rate schedule


@dataclass(frozen=True, kw_only=True)
class Fused:
    """K models as one: `logits` maps float (K, B, 1, S, S) to (K, B, classes); a parameter is K shares in a row."""

    logits: Callable[[Tensor], Tensor]
    parameters: list[Tensor]
    norms: list[nn.BatchNorm2d]


def fuse_by_vmap(models: Sequence[nn.Module], plan: StepPlan) -> Fused:
    parameters, buffers = stack_module_state(models)

    def call(parameters: dict[str, Tensor], buffers: dict[str, Tensor], images: Tensor) -> Tensor:
        return functional_call(models[0], (parameters, buffers), (images,))

    return Fused(
        logits=partial(vmap(call, randomness="different"), parameters, buffers),
        parameters=list(parameters.values()),
        norms=[module for module in models[0].modules() if isinstance(module, nn.BatchNorm2d)],
    )


def fuse_by_groups(models: Sequence[nn.Module], plan: StepPlan) -> Fused:
    layers = zip(*(model.get_submodule("features").children() for model in models), strict=True)
    features = nn.Sequential(*(join_layers(list(copies)) for copies in layers))
    dropout, *heads = [
        models[0].get_submodule("classifier.0"),
        *(model.get_submodule("classifier.1") for model in models),
    ]
    memory_format = MEMORY_FORMATS[plan.memory_format]
    features.to(next(models[0].parameters()).device).to(memory_format=memory_format)
    weight, bias = (
        nn.Parameter(torch.stack([head.get_parameter(name).detach() for head in heads])) for name in ("weight", "bias")
    )

    def logits(images: Tensor) -> Tensor:
        side_by_side = images.squeeze(2).transpose(0, 1).contiguous(memory_format=memory_format)
        described = dropout(features(side_by_side).mean(dim=(2, 3)).unflatten(1, (len(models), -1)))
        return torch.einsum("bkf,kcf->kbc", described, weight) + bias.unsqueeze(1)

    return Fused(
        logits=logits,
        parameters=[*features.parameters(), weight, bias],
        norms=[module for module in features if isinstance(module, nn.BatchNorm2d)],
    )


def join_layers(copies: list[nn.Module]) -> nn.Module:
    """One layer that does to K blocks of channels what each of the K copies does to its own."""
    first, joined = copies[0], copies[0]
    if isinstance(first, nn.Conv2d):
        num_in, num_out = len(copies) * first.in_channels, len(copies) * first.out_channels
        kernel, padding = first.kernel_size[0], int(first.padding[0])
        joined = nn.Conv2d(num_in, num_out, kernel, padding=padding, groups=len(copies), bias=False)
    elif isinstance(first, nn.BatchNorm2d):
        joined = nn.BatchNorm2d(len(copies) * first.num_features)
    for name, tensor in joined.named_parameters():
        tensor.data = torch.cat([copy.get_parameter(name).detach() for copy in copies])
    return joined


FORMS = {"vmap": fuse_by_vmap, "grouped": fuse_by_groups}


class FusedTrials:
    """The trials of `configs` in training; trial k has the seed k, as in `train_alone`."""

    def __init__(self, form: str, configs: Sequence[TrialConfig], plan: StepPlan, device: torch.device) -> None:
        self.configs, self.plan, self.device = configs, plan, device
        self.model = FORMS[form]([build_trial_model(config, seed, device) for seed, config in enumerate(configs)], plan)
        groups = [
            {"params": [p for p in self.model.parameters if p.ndim > 2], "weight_decay": configs[0].weight_decay},
            {"params": [p for p in self.model.parameters if p.ndim <= 2], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=1.0, fused=True)

    def train_epoch(self, pixels: Tensor, labels: Tensor, epoch: int) -> Tensor:
        """The plain mean loss (K,) of each trial over an epoch, on the host."""
        config, num_trials = self.configs[0], len(self.configs)
        orders = [torch.Generator().manual_seed(derive_seed(seed, epoch, 1)) for seed in range(num_trials)]
        batches = list(zip(*(draw_batches(len(pixels), config.batch_size, order) for order in orders), strict=True))
        schedules = [build_lr_schedule(config, MAX_EPOCHS) for config in self.configs]
        progress = [epoch - 1 + step / len(batches) for step in range(len(batches))]
        rates = torch.tensor([[lr_at(done) for lr_at in schedules] for done in progress]).to(self.device)
        moves = torch.Generator(device=self.device).manual_seed(derive_seed(0, epoch, 2))
        losses = []
        for step, batch in enumerate(batches):
            for norm in self.model.norms:
                norm.momentum = max(NORM_MOMENTUM, 1 / ((epoch - 1) * len(batches) + step + 1))
            rows = torch.cat(batch).to(self.device)
            images = augment(to_input(pixels[rows]), config.augmentation, moves)
            losses.append(self._step(images.unflatten(0, (num_trials, -1)), labels[rows], rates[step]))
        return torch.cat(losses, dim=1).mean(dim=1).cpu()

    def _step(self, images: Tensor, targets: Tensor, rates: Tensor) -> Tensor:
        """The losses (K, B) of the images."""
        precision = self.plan.precision
        with torch.autocast(self.device.type, dtype=DTYPES[precision], enabled=precision != "fp32"):
            logits = self.model.logits(images)
        losses = F.cross_entropy(logits.float().flatten(0, 1), targets, reduction="none").view(len(rates), -1)
        self.optimizer.zero_grad(set_to_none=True)
        losses.mean(dim=1).sum().backward()
        with torch.no_grad():
            shares = [p.unflatten(0, (len(rates), -1)) for p in self.model.parameters]
            gradients = [p.grad.unflatten(0, (len(rates), -1)) for p in self.model.parameters if p.grad is not None]
            sums = [torch.linalg.vector_norm(g, dim=list(range(1, g.ndim))) for g in gradients]
            clip = (MAX_GRADIENT_NORM / (torch.linalg.vector_norm(torch.stack(sums), dim=0) + 1e-6)).clamp(max=1)
            for gradient in gradients:
                gradient.mul_(align(clip, gradient))
            before = [share.clone() for share in shares]
            self.optimizer.step()
            for share, old in zip(shares, before, strict=True):
                share.copy_(old.lerp(share, align(rates, share)))
        return losses.detach()


def align(values: Tensor, shares: Tensor) -> Tensor:
    """One value a trial, shaped so that it meets all of the trial's share."""
    return values.view(-1, *[1] * (shares.ndim - 1))


def build_trial_model(config: TrialConfig, seed: int, device: torch.device) -> nn.Module:
    torch.manual_seed(seed)
    return build_model(config, 2).to(device).train()
