"""K trials of one small_cnn trained as one, beside the same K one after another and in processes at once.

    python benchmarks/fused_trials.py [--num-images 16384 on a GPU]
    python benchmarks/fused_trials.py --counts 1,2 --image-size 32 --num-images 64 --batch-size 16

Images a second of all K trials together, in turns. Each trial has its own seed, order of pictures and learning rate.
`sequential` is `Trainer.train_epoch`, one trial on the whole device (K of them one after another have the same rate);
`processes` the same in warm processes at once, one for each core, at most K. `vmap` stacks the nets by torch.func;
`grouped` lays them side by side in convolutions of K groups. Both take AdamW's step at a learning rate of 1 and scale
it for each trial, since that step is proportional to the rate. Each runs in the plan that is fastest for it; vmap
knows the stock layout alone.

Equal to training alone but for rounding: initial weights, order of pictures, loss, gradient clipping, step, and batch
norm, whose batch and running statistics each net has for itself. Not equal: augmentation and dropout draw other numbers
from the same distributions. The K trials must share net, batch size, augmentation, dropout and weight decay.
`max_loss_difference` is the largest difference of a trial's mean loss over its first ten steps from training alone, in
fp32 without augmentation; its `channels_last` is training alone in the other layout, which differs by rounding only.

Prints one JSON line.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # as a script, benchmarks/ comes first on the path: the root must
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn import functional as F

from trainable.architectures import build_model
from trainable.augment import augment
from trainable.config import StepPlan, TrialConfig
from trainable.images.batches import draw_batches
from trainable.loop import DTYPES, MEMORY_FORMATS, NORM_MOMENTUM, derive_seed, to_input
from trainable.optimizers import build_lr_schedule
from trainable.step_plan import STOCK, choose_plan, list_candidates, measure_step_plan, name_step, pick_device
from trainable.trainer import MAX_GRADIENT_NORM, Trainer
from trainable.worker_memory import keep_freed_memory

NUM_CORES = len(os.sched_getaffinity(0))
MAX_EPOCHS = 9  # of the learning-rate schedule
CHECKED_STEPS = 10
ROUNDS = 3


@dataclass(frozen=True, kw_only=True)
class Fused:
    """K nets as one: `logits` maps float (K, B, 1, S, S) to (K, B, classes); a parameter is K shares in a row."""

    logits: Callable[[Tensor], Tensor]
    parameters: list[Tensor]
    norms: list[nn.BatchNorm2d]


def fuse_by_vmap(nets: Sequence[nn.Module], plan: StepPlan) -> Fused:
    parameters, buffers = stack_module_state(nets)

    def call(parameters: dict[str, Tensor], buffers: dict[str, Tensor], images: Tensor) -> Tensor:
        return functional_call(nets[0], (parameters, buffers), (images,))

    return Fused(
        logits=partial(vmap(call, randomness="different"), parameters, buffers),
        parameters=list(parameters.values()),
        norms=[module for module in nets[0].modules() if isinstance(module, nn.BatchNorm2d)],
    )


def fuse_by_groups(nets: Sequence[nn.Module], plan: StepPlan) -> Fused:
    layers = zip(*(net.get_submodule("features").children() for net in nets), strict=True)
    features = nn.Sequential(*(join_layers(list(copies)) for copies in layers))
    dropout, *heads = [nets[0].get_submodule("classifier.0"), *(net.get_submodule("classifier.1") for net in nets)]
    memory_format = MEMORY_FORMATS[plan.memory_format]
    features.to(next(nets[0].parameters()).device).to(memory_format=memory_format)
    weight, bias = (
        nn.Parameter(torch.stack([head.get_parameter(name).detach() for head in heads])) for name in ("weight", "bias")
    )

    def logits(images: Tensor) -> Tensor:
        side_by_side = images.squeeze(2).transpose(0, 1).contiguous(memory_format=memory_format)
        described = dropout(features(side_by_side).mean(dim=(2, 3)).unflatten(1, (len(nets), -1)))
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
        self.net = FORMS[form]([build_net(config, seed, device) for seed, config in enumerate(configs)], plan)
        groups = [
            {"params": [p for p in self.net.parameters if p.ndim > 2], "weight_decay": configs[0].weight_decay},
            {"params": [p for p in self.net.parameters if p.ndim <= 2], "weight_decay": 0.0},
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
            for norm in self.net.norms:
                norm.momentum = max(NORM_MOMENTUM, 1 / ((epoch - 1) * len(batches) + step + 1))
            rows = torch.cat(batch).to(self.device)
            images = augment(to_input(pixels[rows]), config.augmentation, moves)
            losses.append(self._step(images.unflatten(0, (num_trials, -1)), labels[rows], rates[step]))
        return torch.cat(losses, dim=1).mean(dim=1).cpu()

    def _step(self, images: Tensor, targets: Tensor, rates: Tensor) -> Tensor:
        """The losses (K, B) of the pictures."""
        precision = self.plan.precision
        with torch.autocast(self.device.type, dtype=DTYPES[precision], enabled=precision != "fp32"):
            logits = self.net.logits(images)
        losses = F.cross_entropy(logits.float().flatten(0, 1), targets, reduction="none").view(len(rates), -1)
        self.optimizer.zero_grad(set_to_none=True)
        losses.mean(dim=1).sum().backward()
        with torch.no_grad():
            shares = [p.unflatten(0, (len(rates), -1)) for p in self.net.parameters]
            gradients = [p.grad.unflatten(0, (len(rates), -1)) for p in self.net.parameters if p.grad is not None]
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


def build_net(config: TrialConfig, seed: int, device: torch.device) -> nn.Module:
    torch.manual_seed(seed)
    return build_model(config, 2).to(device).train()


@cache
def make_pictures(num_images: int, image_size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Noise and labels: what a step costs does not depend on what it learns."""
    noise = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (num_images, image_size, image_size), dtype=torch.uint8, generator=noise)
    return pixels.to(device), (torch.arange(num_images) % 2).to(device)


@dataclass(frozen=True, kw_only=True)
class Alone:
    """One epoch of one trial by itself, in this process or in another; gives its plain mean loss."""

    num_images: int
    image_size: int
    device: torch.device
    plan: StepPlan
    num_threads: int

    def __call__(self, seed: int, config: TrialConfig) -> float:
        keep_freed_memory()
        torch.set_num_threads(self.num_threads)
        pixels, labels = make_pictures(self.num_images, self.image_size, self.device)
        model = build_net(config, seed, self.device)
        trainer = Trainer(model, config, max_epochs=MAX_EPOCHS, device=self.device, plan=self.plan, seed=seed)
        return trainer.train_epoch(pixels, labels, 1).loss


def start_worker(ready: Barrier, alone: Alone, config: TrialConfig) -> None:
    alone(0, config)
    ready.wait(timeout=600)


def time_rate(train: Callable[[], object], num_images: int) -> float:
    began_s = time.perf_counter()
    train()
    return num_images / (time.perf_counter() - began_s)


def build_fastest(form: str, configs: Sequence[TrialConfig], pixels: Tensor, labels: Tensor) -> FusedTrials:
    """The fused trials in the plan whose step takes the least time."""
    fused: dict[StepPlan, FusedTrials] = {}
    rates: dict[StepPlan, float] = {}
    for plan in list_candidates(pixels.device):
        if plan.precision == "fp16" or (form == "vmap" and plan.memory_format != STOCK.memory_format):
            continue
        fused[plan] = FusedTrials(form, configs, plan, pixels.device)
        rates[plan] = max(time_rate(partial(fused[plan].train_epoch, pixels, labels, 1), 1) for _ in range(3))
    return fused[choose_plan({plan: 1 / rate for plan, rate in rates.items()})]


def check_losses(alone: Alone, configs: Sequence[TrialConfig]) -> dict[str, float]:
    """The largest difference from training alone, over the trials."""
    configs = [replace(config, augmentation=0) for config in configs]
    alone = replace(alone, num_images=CHECKED_STEPS * configs[0].batch_size, plan=STOCK)
    other_layout = replace(alone, plan=StepPlan(memory_format="channels_last"))
    pixels, labels = make_pictures(alone.num_images, alone.image_size, alone.device)
    losses = {
        "alone": torch.tensor([alone(seed, config) for seed, config in enumerate(configs)]),
        "channels_last": torch.tensor([other_layout(seed, config) for seed, config in enumerate(configs)]),
    }
    for form in FORMS:
        losses[form] = FusedTrials(form, configs, STOCK, alone.device).train_epoch(pixels, labels, 1)
    return {name: float((losses[name] - losses["alone"]).abs().max()) for name in losses if name != "alone"}


def compare(alone: Alone, configs: Sequence[TrialConfig]) -> dict[str, Any]:
    pixels, labels = make_pictures(alone.num_images, alone.image_size, alone.device)
    few = slice(0, 2 * configs[0].batch_size)
    fused = {form: build_fastest(form, configs, pixels[few], labels[few]) for form in FORMS}
    num_processes, num_images = min(len(configs), NUM_CORES), len(configs) * alone.num_images
    in_process = replace(alone, num_threads=max(1, NUM_CORES // num_processes))
    spawn = multiprocessing.get_context("spawn")
    ready = spawn.Barrier(num_processes + 1)
    with spawn.Pool(num_processes, start_worker, (ready, in_process, configs[0])) as pool:
        ready.wait(timeout=600)
        contenders: dict[str, tuple[Callable[[], object], int]] = {
            "sequential": (partial(alone, 0, configs[0]), alone.num_images),
            "processes": (partial(pool.starmap, in_process, list(enumerate(configs)), 1), num_images),
        }
        for form, trials in fused.items():
            contenders[form] = (partial(trials.train_epoch, pixels, labels, 1), num_images)
        rounds = [{name: time_rate(*contender) for name, contender in contenders.items()} for _ in range(ROUNDS)]
    pairs = itertools.product(FORMS, ("sequential", "processes"))
    return {
        "num_processes": num_processes,
        "plans": {form: asdict(trials.plan) for form, trials in fused.items()},
        "images_per_s": {name: round(statistics.median(r[name] for r in rounds), 1) for name in contenders},
        "ratios": {f"{a}_to_{b}": round(statistics.median(r[a] / r[b] for r in rounds), 3) for a, b in pairs},
        "max_loss_difference": check_losses(alone, configs),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", type=torch.device, default=pick_device())
    parser.add_argument("--counts", default="1,4,16", help="how many trials are trained as one")
    parser.add_argument("--image-size", type=int, default=96)
    parser.add_argument("--num-images", type=int, default=512, help="in an epoch of one trial; a turn is an epoch")
    parser.add_argument("--batch-size", type=int, default=32)
    args = parser.parse_args()
    keep_freed_memory()
    config = TrialConfig(architecture="small_cnn", batch_size=args.batch_size)
    step = {"image_size": args.image_size, "device": args.device, "num_threads": NUM_CORES}
    alone = Alone(num_images=args.num_images, plan=measure_step_plan(config, **step), **step)
    result: dict[str, Any] = {"benchmark": "fused_trials", "device": name_step(config, **step)[0]}
    result |= {"num_cores": NUM_CORES, "torch": torch.__version__, "python": platform.python_version()}
    result |= {"image_size": args.image_size, "num_images": args.num_images, "batch_size": args.batch_size}
    result |= {"plan_alone": asdict(alone.plan), "counts": {}}
    for num_trials in map(int, args.counts.split(",")):
        rates = torch.logspace(-4, -2, num_trials).tolist()
        found = compare(alone, [replace(config, learning_rate=rate) for rate in rates])
        print(f"{num_trials} trials: {found}", file=sys.stderr)
        result["counts"][num_trials] = found
    print(json.dumps(result))


if __name__ == "__main__":
    main()
