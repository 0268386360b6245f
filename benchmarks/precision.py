"""What the measured plan costs in quality: validation AUC trained in it and in fp32 with the stock layout.

    python benchmarks/precision.py
    python benchmarks/precision.py --nets small_cnn --seeds 2 --epochs 2 --image-size 32
    python benchmarks/precision.py --data covid-ct/manifest.csv --image-size 128 --weights squeezenet1_1=FILE

For each architecture and seed, one after the other, the same configuration is trained in both plans by
`trainable.train`; a trial's figure is its best validation AUC, scored in fp32 as always. Where the measured plan is the
stock one, the last candidate of the device (reduced precision where it has one, channels last) is compared instead, and
`forced` is true. Without --data: the synthetic set. The sealed test is not opened.

Prints one JSON line: for each architecture and plan the mean and range over the seeds, `difference` the mean of the
plan's AUC less the stock one's over the seeds with its standard error, and the ratio of images a second.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # as a script, benchmarks/ comes first on the path: the root must
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import torch

from trainable.config import StepPlan, TrialConfig, TrialSettings
from trainable.images.prepare import TrainingData, prepare_data
from trainable.images.synthetic import write_synthetic_set
from trainable.step_plan import STOCK, list_candidates, measure_step_plan, name_step, pick_device
from trainable.train import train
from trainable.worker_memory import keep_freed_memory

NUM_CORES = len(os.sched_getaffinity(0))


@dataclass(frozen=True, kw_only=True)
class Trained:
    auc: float
    images_per_s: float


def train_once(
    config: TrialConfig, settings: TrialSettings, data: TrainingData, plan: StepPlan, weights: Path | None
) -> Trained:
    reports = list(train(config, settings, data, plan=plan, weights=weights))
    rates = [report.metrics["images_per_s"] for report in reports]
    return Trained(auc=reports[-1].best_value, images_per_s=statistics.median(rates))


def choose_plan(config: TrialConfig, image_size: int, device: torch.device) -> tuple[StepPlan, bool]:
    """The plan to compare with the stock one, and whether it was forced."""
    plan = measure_step_plan(config, image_size=image_size, device=device, num_threads=NUM_CORES)
    return (list_candidates(device)[-1], True) if plan == STOCK else (plan, False)


def describe(aucs: Sequence[float]) -> dict[str, float]:
    figures = {"mean": statistics.mean(aucs), "least": min(aucs), "most": max(aucs)}
    return {name: round(value, 4) for name, value in figures.items()}


def compare(
    config: TrialConfig, settings: TrialSettings, data: TrainingData, weights: Path | None, num_seeds: int
) -> dict[str, Any]:
    plan, forced = choose_plan(config, settings.image_size, pick_device())
    pairs = []
    for seed in range(num_seeds):
        seeded = replace(settings, seed=seed)
        stock, other = (train_once(config, seeded, data, p, weights) for p in (STOCK, plan))
        print(f"{config.architecture}, seed {seed}: stock {stock}, {plan} {other}", file=sys.stderr)
        pairs.append((stock, other))
    differences = [other.auc - stock.auc for stock, other in pairs]
    return {
        "plan": asdict(plan),
        "forced": forced,
        "stock_auc": describe([stock.auc for stock, _ in pairs]),
        "plan_auc": describe([other.auc for _, other in pairs]),
        "difference": round(statistics.mean(differences), 4),
        "standard_error": round(statistics.stdev(differences) / len(differences) ** 0.5, 4),
        "rate_to_stock": round(statistics.median(other.images_per_s / stock.images_per_s for stock, other in pairs), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a folder of classes or a manifest (default: the synthetic set)")
    parser.add_argument("--nets", default="squeezenet1_1,small_cnn,resnet18")
    parser.add_argument("--weights", action="append", default=[], metavar="ARCH=FILE")
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--seeds", type=int, default=5, help="how many; two or more")
    parser.add_argument("--epochs", type=int, default=6)
    args = parser.parse_args()
    keep_freed_memory()
    if args.seeds < 2:
        parser.error(f"--seeds is {args.seeds}; a standard error needs two or more")
    weights = {architecture: Path(file) for architecture, _, file in (given.partition("=") for given in args.weights)}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        data = prepare_data(
            args.data or write_synthetic_set(folder / "synthetic", image_size=args.image_size),
            cache_dir=folder / "cache",
            splits_file=folder / "splits.csv",
            image_size=args.image_size,
            seed=0,
            num_workers=NUM_CORES,
        ).training
        settings = TrialSettings(
            classes=data.classes,
            positive=data.positive,
            image_size=args.image_size,
            max_epochs=args.epochs,
            num_threads=NUM_CORES,
        )
        device, _ = name_step(
            TrialConfig(architecture="small_cnn"),
            image_size=args.image_size,
            device=pick_device(),
            num_threads=NUM_CORES,
        )
        result: dict[str, Any] = {"benchmark": "precision", "device": device, "torch": torch.__version__}
        result |= {"python": platform.python_version(), "data": data.name, "num_val": int(data.is_val.sum())}
        result |= {"image_size": args.image_size, "seeds": args.seeds, "epochs": args.epochs, "nets": {}}
        for architecture in args.nets.split(","):
            config = TrialConfig(architecture=architecture)
            result["nets"][architecture] = compare(config, settings, data, weights.get(architecture), args.seeds)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
