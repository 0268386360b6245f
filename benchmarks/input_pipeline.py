"""Training with the full input pipeline against the bare step on data already in place.

    python benchmarks/input_pipeline.py [--image-size 224]

The bare step is forward, loss, backward and update on one normalised batch, in the plan that was measured as fastest
for the architecture; the pipeline's epoch adds shuffling, the cache, normalisation, augmentation, layout, clipping and
the epoch's own figures. Both in turns in one process, one thread. Goal: 0.95 for mobilenet_v3_small at 96 px on a CPU,
for resnet18 and resnet50 at 224 px on a GPU. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

if __name__ == "__main__":  # the script's folder comes first on the path: the root must
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import torch
from torch.nn import functional as F

from trainable.architectures import build_model
from trainable.config import TrialConfig
from trainable.images.batches import take_rows
from trainable.images.mapped import open_pixels
from trainable.loop import DTYPES, MEMORY_FORMATS
from trainable.normalisation import to_input
from trainable.step_plan import measure_step_plan, pick_device
from trainable.trainer import Trainer
from trainable.worker_memory import keep_freed_memory


def compare(
    architecture: str, image_size: int, *, num_images: int, batch_size: int, num_rounds: int
) -> dict[str, object]:
    """Median images a second of both, and the median of their ratio a round."""
    device = pick_device()
    config = TrialConfig(architecture=architecture, batch_size=batch_size, augmentation=0.5)
    plan = measure_step_plan(config, image_size=image_size, device=device, num_threads=1)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "pixels.npy"
        np.save(file, np.random.default_rng(0).integers(0, 256, (num_images, image_size, image_size), dtype=np.uint8))
        pixels = take_rows(open_pixels(file), np.ones(num_images, dtype=bool), device)
        labels = (torch.arange(num_images) % 2).to(device)
        trainer = Trainer(build_model(config, 2), config, max_epochs=2 * num_rounds, device=device, plan=plan)
        model, optimizer = trainer.model, trainer.optimizer
        in_place = to_input(pixels[:batch_size]).contiguous(memory_format=MEMORY_FORMATS[plan.memory_format])
        targets = labels[:batch_size]

        def run_bare_steps() -> None:
            model.to(memory_format=MEMORY_FORMATS[plan.memory_format])
            model.train()
            for _ in range(num_images // batch_size):
                with torch.autocast(device.type, dtype=DTYPES[plan.precision], enabled=plan.precision != "fp32"):
                    loss = F.cross_entropy(model(in_place), targets)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
            if device.type == "cuda":
                torch.cuda.synchronize(device)

        def run_epoch(epoch: int) -> None:
            trainer.train_epoch(pixels, labels, epoch)

        rates: dict[str, list[float]] = {"bare": [], "pipeline": []}
        for number in range(-1, num_rounds):
            for name in ("bare", "pipeline") if number % 2 else ("pipeline", "bare"):
                began_s = time.perf_counter()
                run_bare_steps() if name == "bare" else run_epoch(number + 2)
                if number >= 0:
                    rates[name].append(num_images / (time.perf_counter() - began_s))
    ratios = [pipeline / bare for pipeline, bare in zip(rates["pipeline"], rates["bare"], strict=True)]
    return {
        "architecture": architecture,
        "image_size": image_size,
        "device": str(device),
        "plan": f"{plan.precision}, {plan.memory_format}",
        "bare_per_s": round(statistics.median(rates["bare"]), 1),
        "pipeline_per_s": round(statistics.median(rates["pipeline"]), 1),
        "ratio": round(statistics.median(ratios), 3),
        "ratio_quartiles": [round(float(np.quantile(ratios, q)), 3) for q in (0.25, 0.75)],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nets", default="mobilenet_v3_small")
    parser.add_argument("--image-size", type=int, default=96)
    parser.add_argument("--num-images", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--num-rounds", type=int, default=15)
    args = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(1)
    architectures = [
        compare(
            architecture,
            args.image_size,
            num_images=args.num_images,
            batch_size=args.batch_size,
            num_rounds=args.num_rounds,
        )
        for architecture in args.nets.split(",")
    ]
    print(json.dumps({"benchmark": "input_pipeline", "nets": architectures}))


if __name__ == "__main__":
    main()
