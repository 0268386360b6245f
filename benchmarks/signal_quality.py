"""What a validation value is worth: how well early values agree with the test value at the end of training.

    python benchmarks/signal_quality.py
    python benchmarks/signal_quality.py --data covid-ct/manifest.csv --weights mobilenet_v2=FILE
    python benchmarks/signal_quality.py --space --data covid-ct/manifest.csv --weights ...
    python benchmarks/signal_quality.py --summarise lines.jsonl

Configurations are drawn at random, the architectures in turns. The slices of train and val are cut anew, by patient,
into 60 % for training, 20 % for validation and 20 % that stand for a test: the sealed test is not opened. After every
epoch three models are scored on the last two parts: the weights (`raw`), their moving average as a trial keeps it
(`average`), and that with the statistics of batch normalisation computed anew on 64 slices of training, for all layers
(`anew`).

Prints one JSON line for each configuration (AUC by epoch, [validation, test]; `seconds` of all its epochs) and a
summary, within each cut and in the mean over cuts: the rank agreement (Spearman) of what is known after 1, 3 and 5
epochs with the average's test value at the end, for the last value, the means of the last two and three, the best, and
the end of a line fitted over log(epoch); the median step between epochs; the mean test value at the end; the test value
of the configuration that is best by each smoothing window, at the epoch that would be kept.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # as a script, benchmarks/ comes first on the path: the root must
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from search.core.proposals import SpaceProposals
from search.core.space import DefaultSpace, Wish, configuration_of
from trainable.architectures import build_model
from trainable.config import TrialConfig
from trainable.images.prepare import TrainingData, prepare_data
from trainable.images.synthetic import write_synthetic_set
from trainable.loop import evaluate, has_batch_norm
from trainable.metrics import score
from trainable.normalisation import to_input
from trainable.smoothing import find_best, smoothed_value
from trainable.trainer import Trainer
from trainable.worker_memory import keep_freed_memory

CPU = torch.device("cpu")
EARLY = (1, 3, 5)
NUM_ANEW = 64
KINDS = ("raw", "average", "anew")
TRAIN, VAL, TEST = 0, 1, 2


def fit_end(values: Mapping[int, float], last: int) -> float:
    """Where a line over log(epoch) through all values ends, at epoch `last`."""
    if len(values) < 2:
        return next(iter(values.values()))
    slope, start = np.polyfit(np.log(list(values)), list(values.values()), 1)
    return float(start + slope * np.log(last))


def list_rules(num_epochs: int) -> dict[str, Callable[[Mapping[int, float]], float]]:
    """What may be made of the values up to an epoch."""
    return {
        "last": lambda values: smoothed_value(values, window=1),
        "mean_of_2": lambda values: smoothed_value(values, window=2),
        "mean_of_3": lambda values: smoothed_value(values, window=3),
        "best": lambda values: max(values.values()),
        "fitted_end": lambda values: fit_end(values, num_epochs),
    }


def draw_config(architecture: str, number: int, *, has_weights: bool) -> TrialConfig:
    rng = np.random.default_rng([number, 1])
    return TrialConfig(
        architecture=architecture,
        optimizer=str(rng.choice(["adamw", "adam", "rmsprop"])),
        learning_rate=float(10 ** rng.uniform(-4, -2.3)) / (2 if has_weights else 1),
        weight_decay=float(10 ** rng.uniform(-5, -2)),
        lr_schedule=str(rng.choice(["constant", "cosine", "one_cycle"])),
        batch_size=int(rng.choice([8, 16, 32])),
        augmentation=float(rng.uniform(0, 0.8)),
        dropout=float(rng.uniform(0, 0.5)),
        cnn_depth=int(rng.integers(3, 5)),
        cnn_filters=int(rng.choice([8, 16])),
    )


def draw_from_space(architectures: Sequence[str], number: int, weights: Collection[str]) -> TrialConfig:
    """One of the default space: its first points, then draws."""
    space = DefaultSpace(architectures, fine_tuned=weights)
    points = space.first_points(pretrained=weights)
    drawn = SpaceProposals(space).draw(1, np.random.default_rng([number, 7]))
    params = points[number] if number < len(points) else drawn[0]
    return TrialConfig.from_params(configuration_of(space(Wish(params)), params))


def cut_by_group(data: TrainingData, seed: int) -> NDArray[np.int64]:
    """TRAIN, VAL or TEST for each slice: 60, 20 and 20 % of the groups of each class."""
    rng = np.random.default_rng([seed, 2])
    parts = np.zeros(len(data.labels), dtype=np.int64)
    for label in range(len(data.classes)):
        groups = np.unique(data.groups[data.labels == label])
        rng.shuffle(groups)
        fifth = len(groups) // 5
        parts[np.isin(data.groups, groups[:fifth])] = TEST
        parts[np.isin(data.groups, groups[fifth : 2 * fifth])] = VAL
    return parts


@torch.no_grad()
def compute_statistics_anew(model: nn.Module, pixels: Tensor, seed: int) -> nn.Module:
    """A copy whose batch normalisation has the statistics of one batch of `pixels`, unaugmented."""
    model = deepcopy(model).eval()
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.reset_running_stats()
            module.momentum = None
            module.train()
    rows = torch.randperm(len(pixels), generator=torch.Generator().manual_seed(seed))[:NUM_ANEW]
    model(to_input(pixels[rows]))
    return model.eval()


def run(config: TrialConfig, data: TrainingData, cut: int, number: int, num_epochs: int, weights: Path | None) -> Any:
    parts = cut_by_group(data, cut)
    pixels, labels = torch.from_numpy(np.load(data.pixels_path)), torch.from_numpy(data.labels)
    scored = np.flatnonzero(parts != TRAIN)
    is_val = parts[scored] == VAL
    train_pixels, train_labels = pixels[parts == TRAIN], labels[parts == TRAIN]
    torch.manual_seed(number)
    model = build_model(config, len(data.classes), weights=weights)
    trainer = Trainer(model, config, max_epochs=num_epochs, device=CPU, seed=number)
    aucs: dict[str, list[list[float]]] = {kind: [] for kind in KINDS}
    began_s = time.perf_counter()
    for epoch in range(1, num_epochs + 1):
        trainer.train_epoch(train_pixels, train_labels, epoch)
        models = {"raw": trainer.model, "average": trainer.average.model}
        if has_batch_norm(trainer.model):
            models["anew"] = compute_statistics_anew(trainer.average.model, train_pixels, epoch)
        for kind, scored_model in models.items():
            _, probabilities = evaluate(scored_model, pixels[scored], labels[scored], device=CPU)
            of_parts = [
                score(data.labels[scored][p], probabilities[p], data.positive)["auc"] for p in (is_val, ~is_val)
            ]
            aucs[kind].append([round(value, 4) for value in of_parts])
        if "anew" not in models:
            aucs["anew"].append(aucs["average"][-1])
    seconds = round(time.perf_counter() - began_s, 1)
    return {"number": number, "cut": cut, "config": config.to_params(), "seconds": seconds, "auc": aucs}


def summarise(lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    num_epochs = len(lines[0]["auc"]["raw"])
    rules = list_rules(num_epochs)
    cuts = sorted({line["cut"] for line in lines})
    summary: dict[str, Any] = {"benchmark": "signal_quality", "configurations": len(lines), "epochs": num_epochs}
    for kind in KINDS:
        curves = [{e: pair[0] for e, pair in enumerate(line["auc"][kind], 1)} for line in lines]
        ends = np.array([line["auc"]["average"][-1][1] for line in lines])
        of_cut = [np.array([line["cut"] == cut for line in lines]) for cut in cuts]
        agreements = {}
        for name, rule in rules.items():
            for epoch in (e for e in EARLY if e <= num_epochs):
                known = np.array([rule({e: v for e, v in curve.items() if e <= epoch}) for curve in curves])
                found = [spearmanr(known[rows], ends[rows]).statistic for rows in of_cut if rows.sum() > 2]
                agreements[f"{name}_{epoch}"] = round(float(np.mean(found)), 3)
        steps = [abs(curve[e + 1] - curve[e]) for curve in curves for e in range(1, num_epochs)]
        summary[kind] = {
            "agreement": agreements,
            "median_step": round(float(np.median(steps)), 4),
            "mean_test_at_end": round(float(np.mean([line["auc"][kind][-1][1] for line in lines])), 4),
            "mean_test_by_net": _mean_by_architecture(lines, kind),
            "winner_test": {f"window_{n}": _mean_winner(lines, curves, kind, of_cut, n) for n in (1, 2, 3)},
        }
    return summary


def _mean_by_architecture(lines: Sequence[Mapping[str, Any]], kind: str) -> dict[str, float]:
    architectures = sorted({line["config"]["architecture"] for line in lines})
    of_architecture = {
        architecture: [line for line in lines if line["config"]["architecture"] == architecture]
        for architecture in architectures
    }
    return {
        architecture: round(float(np.mean([line["auc"][kind][-1][1] for line in of_architecture[architecture]])), 4)
        for architecture in architectures
    }


def _mean_winner(
    lines: Sequence[Mapping[str, Any]],
    curves: Sequence[dict[int, float]],
    kind: str,
    of_cut: Sequence[NDArray[np.bool_]],
    window: int,
) -> float:
    """The mean over cuts of the test value of the best by its smoothed value, at the epoch that is kept."""
    found = []
    for rows in of_cut:
        best = {
            row: find_best(curves[row], higher_is_better=True, window=window) for row in np.flatnonzero(rows).tolist()
        }
        winner = max(best, key=lambda row: best[row][1])
        found.append(lines[winner]["auc"][kind][best[winner][0] - 1][1])
    return round(float(np.mean(found)), 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a folder of classes or a manifest (default: the synthetic set)")
    parser.add_argument("--nets", default="small_cnn,mobilenet_v3_small,squeezenet1_1,mobilenet_v2")
    parser.add_argument("--space", action="store_true", help="draw from the default space, its first points first")
    parser.add_argument("--weights", action="append", default=[], metavar="ARCH=FILE")
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--configurations", type=int, default=40)
    parser.add_argument("--first", type=int, default=0, help="the number of the first configuration")
    parser.add_argument("--cuts", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--patients", type=int, default=60, help="of the synthetic set")
    parser.add_argument("--summarise", type=Path, help="only summarise the lines of this file")
    args = parser.parse_args()
    if args.summarise is not None:
        found = [json.loads(line) for line in args.summarise.read_text().splitlines() if line.startswith('{"number"')]
        print(json.dumps(summarise(found)))
        return
    keep_freed_memory()
    torch.set_num_threads(1)
    weights = {architecture: Path(file) for architecture, _, file in (given.partition("=") for given in args.weights)}
    architectures = args.nets.split(",")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        source = args.data or write_synthetic_set(
            folder / "synthetic", num_patients=args.patients, image_size=args.image_size
        )
        data = prepare_data(
            source,
            cache_dir=folder / "cache",
            splits_file=folder / "splits.csv",
            image_size=args.image_size,
            seed=0,
        ).training
        lines = []
        for number in range(args.first, args.first + args.configurations):
            architecture = architectures[number // args.cuts % len(architectures)]
            config = draw_config(architecture, number, has_weights=architecture in weights)
            if args.space:
                config = draw_from_space(architectures, number // args.cuts, weights)
            lines.append(run(config, data, number % args.cuts, number, args.epochs, weights.get(config.architecture)))
            print(json.dumps(lines[-1]), flush=True)
    print(json.dumps({**summarise(lines), "data": data.name, "image_size": args.image_size}))


if __name__ == "__main__":
    main()
