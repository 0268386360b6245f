"""What checkpoints cost a trial: the same training with and without them.

    python benchmarks/checkpoints.py

Trains each architecture on noise of the size of a small CT set, with the checkpoints of a search (`newest` at most
every 30 s, `best` at every improvement, durable on disk) and without any, in turns; the validation loss improves most
of the time, the worst case. Goal: 2 % of the trial's time. Prints one JSON line.
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

from trainable.checkpoint import CheckpointStore
from trainable.checkpoint_writer import CheckpointWriter
from trainable.config import TrialConfig, TrialSettings
from trainable.images.prepare import TrainingData
from trainable.step_plan import measure_step_plan, pick_device
from trainable.train import train
from trainable.worker_memory import keep_freed_memory


def make_data(folder: Path, *, num_images: int, image_size: int) -> TrainingData:
    """Noise, a fifth of it for validation."""
    file = folder / "pixels.npy"
    np.save(file, np.random.default_rng(0).integers(0, 256, (num_images, image_size, image_size), dtype=np.uint8))
    return TrainingData(
        name="noise",
        data_hash="noise",
        classes=("covid", "normal"),
        positive=0,
        image_size=image_size,
        pixels_path=str(file),
        labels=np.arange(num_images, dtype=np.int64) % 2,
        is_val=np.arange(num_images) >= 0.8 * num_images,
        groups=np.arange(num_images, dtype=np.int64),
    )


def compare(architecture: str, args: argparse.Namespace) -> dict[str, object]:
    """The median over rounds of the share of time that checkpoints take."""
    config = TrialConfig(architecture=architecture, batch_size=32, learning_rate=1e-5)
    device = pick_device()
    plan = measure_step_plan(config, image_size=args.image_size, device=device, num_threads=1)
    with tempfile.TemporaryDirectory() as folder:
        data = make_data(Path(folder), num_images=args.num_images, image_size=args.image_size)
        settings = TrialSettings(
            classes=data.classes,
            positive=0,
            image_size=args.image_size,
            max_epochs=args.max_epochs,
            metric="loss",
        )

        def run_trial(name: str | None) -> tuple[float, int]:
            """Seconds, and how often `best` was written."""
            began_s = time.perf_counter()
            writer = CheckpointWriter(CheckpointStore(Path(folder) / name)) if name else None
            num_best = sum(report.is_best for report in train(config, settings, data, plan=plan, checkpoints=writer))
            if writer is not None:
                writer.close(keep_newest=False)
            return time.perf_counter() - began_s, num_best

        costs, seconds, num_best = [], [], 0
        for number in range(args.num_rounds):
            plain_s, _ = run_trial(None)
            saving_s, num_best = run_trial(f"{architecture}-{number}")
            costs.append(saving_s / plain_s - 1)
            seconds.append(plain_s)
    return {
        "architecture": architecture,
        "trial_s": round(statistics.median(seconds), 2),
        "best_epochs": num_best,
        "cost": round(statistics.median(costs), 4),
        "cost_quartiles": [round(float(np.quantile(costs, q)), 4) for q in (0.25, 0.75)],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nets", default="mobilenet_v3_small,mobilenet_v2")
    parser.add_argument("--image-size", type=int, default=96)
    parser.add_argument("--num-images", type=int, default=540)
    parser.add_argument("--max-epochs", type=int, default=3)
    parser.add_argument("--num-rounds", type=int, default=7)
    args = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(1)
    print(
        json.dumps(
            {"benchmark": "checkpoints", "nets": [compare(architecture, args) for architecture in args.nets.split(",")]}
        )
    )


if __name__ == "__main__":
    main()
