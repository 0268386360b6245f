"""K trials of one small_cnn trained as one, beside the same K one after another and in processes at once.

    python benchmarks/fused_trials.py [--num-images 16384 on a GPU]
    python benchmarks/fused_trials.py --counts 1,2 --image-size 32 --num-images 64 --batch-size 16

Images a second of all K trials together, in turns. Each trial has its own seed, order of images and learning rate.
`sequential` is `Trainer.train_epoch`, one trial on the whole device (K of them one after another have the same rate);
`processes` the same in warm processes at once, one for each core, at most K. `vmap` stacks the models by torch.func;
`grouped` lays them side by side in convolutions of K groups. Both take AdamW's step at a learning rate of 1 and scale
it for each trial, since that step is proportional to the rate. Each runs in the plan that is fastest for it; vmap
knows the stock layout alone.

Equal to training alone but for rounding: initial weights, order of images, loss, gradient clipping, step, and batch
norm, whose batch and running statistics each model has for itself. Not equal: augmentation and dropout draw other
numbers from the same distributions. The K trials must share model, batch size, augmentation, dropout and weight decay.
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
from torch import Tensor

from benchmarks.fused_models import FORMS, MAX_EPOCHS, FusedTrials, build_trial_model
from trainable.config import StepPlan, TrialConfig
from trainable.step_plan import STOCK, choose_plan, list_candidates, measure_step_plan, name_step, pick_device
from trainable.trainer import Trainer
from trainable.worker_memory import keep_freed_memory

NUM_CORES = len(os.sched_getaffinity(0))
CHECKED_STEPS = 10
ROUNDS = 3


@cache
def make_images(num_images: int, image_size: int, device: torch.device) -> tuple[Tensor, Tensor]:
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
        pixels, labels = make_images(self.num_images, self.image_size, self.device)
        model = build_trial_model(config, seed, self.device)
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
    pixels, labels = make_images(alone.num_images, alone.image_size, alone.device)
    losses = {
        "alone": torch.tensor([alone(seed, config) for seed, config in enumerate(configs)]),
        "channels_last": torch.tensor([other_layout(seed, config) for seed, config in enumerate(configs)]),
    }
    for form in FORMS:
        losses[form] = FusedTrials(form, configs, STOCK, alone.device).train_epoch(pixels, labels, 1)
    return {name: float((losses[name] - losses["alone"]).abs().max()) for name in losses if name != "alone"}


def compare(alone: Alone, configs: Sequence[TrialConfig]) -> dict[str, Any]:
    pixels, labels = make_images(alone.num_images, alone.image_size, alone.device)
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
