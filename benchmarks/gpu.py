"""The input pipeline: ours beside a user's DataLoader over the same files, and beside the bare training step.

    python benchmarks/gpu.py
    python benchmarks/gpu.py --device cpu --image-size 64 --num-images 64 --nets resnet18 --seconds 1

Images a second of four contenders, in turns, all with the plan (precision and layout) measured for the architecture:
`ours` is `Trainer.train_epoch` on cached pixels that lie on the device; `bare` the plain step on one batch that is
ready there, no gradient clipped, no random number drawn; `loader_0` and `loader_all` the plain step behind a DataLoader
with no worker and with one for each core: PIL decodes each file, torchvision augments each image as ours augments
batches. The loaders have warm, persistent workers, and files that the page cache holds, stored uncompressed. With
`--file-size 512` the files are as large as a scanner gives them and resized by the loaders too; by default they have
the size trained at, the least work for a loader.

Goals on a GPU: 0.95 of bare, 10 times loader_0; loader_all is reported. Prints one JSON line: medians of the rates,
and medians over the rounds of ours divided by each.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import math
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # as a script, benchmarks/ comes first on the path: the root must
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from trainable.architectures import build_model
from trainable.augment import MAX_FLIP_CHANCE, MAX_ROTATION, MAX_SHEAR, MAX_SHIFT, MAX_ZOOM
from trainable.config import StepPlan, TrialConfig
from trainable.images.batches import take_rows
from trainable.images.cache import build_cache
from trainable.images.mapped import open_pixels
from trainable.images.synthetic import POSITIVE, write_synthetic_set
from trainable.loop import DTYPES, MEMORY_FORMATS
from trainable.normalisation import GREY_MEAN, GREY_STD, to_input
from trainable.optimizers import build_optimizer
from trainable.step_plan import measure_step_plan, name_step, pick_device
from trainable.trainer import Trainer

NUM_CORES = len(os.sched_getaffinity(0))
NUM_DRAWN = 256  # different images; beyond them files are listed several times
ROUNDS = 3

RunEpoch = Callable[[], int]
"""Train one epoch to its end, and return how many images it had."""


class SliceFiles(Dataset[tuple[Tensor, int]]):
    """What a tutorial writes: a file is opened, augmented and normalised when its image is asked for."""

    def __init__(self, files: Sequence[Path], labels: Sequence[int], image_size: int, strength: float) -> None:
        self.files, self.labels = files, labels
        self.transform = transforms.Compose(
            [
                transforms.Resize((image_size, image_size)),
                transforms.RandomHorizontalFlip(min(MAX_FLIP_CHANCE, strength)),
                transforms.RandomAffine(
                    degrees=math.degrees(MAX_ROTATION) * strength,
                    translate=(MAX_SHIFT * strength, MAX_SHIFT * strength),
                    scale=(1 - MAX_ZOOM * strength, 1 + MAX_ZOOM * strength),
                    shear=math.degrees(MAX_SHEAR) * strength,
                    interpolation=transforms.InterpolationMode.BILINEAR,
                ),
                transforms.ToTensor(),
                transforms.Normalize([GREY_MEAN], [GREY_STD]),
            ]
        )

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        with Image.open(self.files[index]) as image:
            return self.transform(image.convert("L")), self.labels[index]


class PlainStep:
    """The training step that a user would write for one architecture and plan."""

    def __init__(self, config: TrialConfig, plan: StepPlan, device: torch.device) -> None:
        self.plan, self.device = plan, device
        self.model = build_model(config, 2).to(device).train()
        self.model.to(memory_format=MEMORY_FORMATS[plan.memory_format])
        self.optimizer = build_optimizer(self.model, config)
        self.scaler = torch.amp.GradScaler(device.type, enabled=plan.precision == "fp16")

    def __call__(self, images: Tensor, labels: Tensor) -> Tensor:
        precision = self.plan.precision
        images = images.contiguous(memory_format=MEMORY_FORMATS[self.plan.memory_format])
        with torch.autocast(self.device.type, dtype=DTYPES[precision], enabled=precision != "fp32"):
            logits = self.model(images)
        loss = F.cross_entropy(logits.float(), labels)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return loss.detach()


def run_ours(config: TrialConfig, plan: StepPlan, pixels: Tensor, labels: Tensor, device: torch.device) -> RunEpoch:
    trainer = Trainer(build_model(config, 2), config, max_epochs=1, device=device, plan=plan)
    trainer.lr_at = lambda _: config.learning_rate
    epochs = itertools.count(1)

    def run_epoch() -> int:
        return trainer.train_epoch(pixels, labels, next(epochs)).num_images

    return run_epoch


def run_bare(config: TrialConfig, plan: StepPlan, pixels: Tensor, labels: Tensor, device: torch.device) -> RunEpoch:
    step = PlainStep(config, plan, device)
    images = to_input(pixels[: config.batch_size].to(device))
    images = images.contiguous(memory_format=MEMORY_FORMATS[plan.memory_format])
    targets = labels[: config.batch_size]
    num_steps = math.ceil(len(pixels) / len(images))

    def run_epoch() -> int:
        float(torch.stack([step(images, targets) for _ in range(num_steps)]).mean())
        return num_steps * len(images)

    return run_epoch


def run_loader(
    config: TrialConfig, plan: StepPlan, files: SliceFiles, device: torch.device, num_workers: int
) -> RunEpoch:
    step = PlainStep(config, plan, device)
    loader = DataLoader(
        files,
        batch_size=config.batch_size,
        shuffle=True,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        pin_memory=device.type == "cuda",
    )

    def run_epoch() -> int:
        losses = [
            step(images.to(device, non_blocking=True), labels.to(device, non_blocking=True))
            for images, labels in loader
        ]
        float(torch.stack(losses).mean())
        return len(files)

    return run_epoch


def time_epochs(run_epoch: RunEpoch, seconds: float) -> float:
    """Images a second over whole epochs: as many as begin within `seconds`."""
    began_s, num_images = time.perf_counter(), 0
    while num_images == 0 or time.perf_counter() - began_s < seconds:
        num_images += run_epoch()
    return num_images / (time.perf_counter() - began_s)


def compare(contenders: dict[str, RunEpoch], seconds: float) -> dict[str, Any]:
    """Median rates, and median ratios of ours to each, over rounds in turns after one epoch to warm up."""
    for run_epoch in contenders.values():
        run_epoch()
    rounds = [{name: time_epochs(run, seconds) for name, run in contenders.items()} for _ in range(ROUNDS)]
    return {
        "images_per_s": {name: round(statistics.median(r[name] for r in rounds), 1) for name in contenders},
        "ours_to": {
            name: round(statistics.median(r["ours"] / r[name] for r in rounds), 3)
            for name in contenders
            if name != "ours"
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", type=torch.device, default=pick_device())
    parser.add_argument("--nets", default="resnet18,resnet50")
    parser.add_argument("--image-size", type=int, default=224, help="side of the images trained on, in pixels")
    parser.add_argument("--file-size", type=int, help="side of the images in the files (default: the same)")
    parser.add_argument("--num-images", type=int, default=4096, help="in an epoch")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=5, help="the least a turn lasts")
    args = parser.parse_args()
    device: torch.device = args.device
    file_size = args.file_size or args.image_size
    name, _ = name_step(
        TrialConfig(architecture="resnet18"), image_size=args.image_size, device=device, num_threads=NUM_CORES
    )
    result: dict[str, Any] = {"benchmark": "gpu", "device": name, "num_cores": NUM_CORES}
    result |= {"torch": torch.__version__, "python": platform.python_version()}
    result |= {"image_size": args.image_size, "file_size": file_size, "num_images": args.num_images}
    result |= {"batch_size": args.batch_size, "nets": {}}
    with tempfile.TemporaryDirectory() as scratch:
        print("drawing the images", file=sys.stderr)
        num_drawn = min(NUM_DRAWN, args.num_images)
        folder = write_synthetic_set(
            Path(scratch) / "synthetic", num_patients=math.ceil(num_drawn / 4), image_size=file_size
        )
        files = list(itertools.islice(itertools.cycle(sorted(folder.glob("*/*/*.png"))), args.num_images))
        classes = [int(file.parts[-3] == POSITIVE) for file in files]
        began_s = time.perf_counter()
        hashes = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
        cache = build_cache(
            files, hashes=hashes, size=args.image_size, folder=Path(scratch) / "cache", num_workers=NUM_CORES
        )
        result["cache_s"] = round(time.perf_counter() - began_s, 2)
        pixels = take_rows(open_pixels(cache), np.ones(len(files), dtype=bool), device)
        labels = torch.tensor(classes, device=device)
        for architecture in args.nets.split(","):
            config = TrialConfig(architecture=architecture, batch_size=args.batch_size, learning_rate=1e-4)
            plan = measure_step_plan(config, image_size=args.image_size, device=device, num_threads=NUM_CORES)
            print(f"{architecture}: {plan}", file=sys.stderr)
            dataset = SliceFiles(files, classes, args.image_size, config.augmentation)
            contenders = {
                "ours": run_ours(config, plan, pixels, labels, device),
                "bare": run_bare(config, plan, pixels, labels, device),
                "loader_0": run_loader(config, plan, dataset, device, 0),
                "loader_all": run_loader(config, plan, dataset, device, NUM_CORES),
            }
            result["nets"][architecture] = {"plan": asdict(plan), **compare(contenders, args.seconds)}
            print(result["nets"][architecture], file=sys.stderr)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
