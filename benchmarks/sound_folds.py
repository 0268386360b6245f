"""What the sound configuration is worth alone, as the mean of several seeds, and as the mean of models of folds.

    python benchmarks/sound_folds.py --data ../shared/data/covid-ct/manifest.csv --weights mobilenet_v2=FILE
        [--cuts 5] [--epochs 12] [--members 5] [--image-size 128] [--out FILE]

As `sound_changes.py` it cuts train and val anew, by patient (the sealed test is not opened): 60 % for training, 20 %
for validation, 20 % that stand for new patients. On each cut the first point of every search is trained `--members`
times with other seeds on the first part, and in as many folds of the first two parts together, two trainings at a time
on one core each.

Prints a JSON line a cut, AUC on new patients: of a single training (in the mean), of the mean of all seeds, of the mean
of all folds, and of the first three of either; and what the folds say of patients that their models have not seen. At
the end the gains over a single training, with half of their 95 % intervals by Student's t over cuts.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # as a script, benchmarks/ comes first on the path: the root must
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats

from benchmarks.signal_quality import CPU, TEST, TRAIN, cut_by_group
from benchmarks.sound_changes import find_sound
from trainable.architectures import build_model
from trainable.config import TrialConfig
from trainable.folds import split_patients
from trainable.images.prepare import TrainingData, prepare_data
from trainable.images.synthetic import write_synthetic_set
from trainable.loop import evaluate
from trainable.metrics import score
from trainable.step_plan import measure_step_plan
from trainable.trainer import Trainer
from trainable.weight_average import RENEWED
from trainable.worker_memory import keep_freed_memory

FEW = 3


@dataclass(frozen=True, kw_only=True)
class Training:
    """One training: `rows` bool (N,) are trained on, all N slices are predicted."""

    kind: str
    cut: int
    member: int
    rows: NDArray[np.bool_]
    config: TrialConfig
    data: TrainingData
    num_epochs: int
    weights: Path | None
    plans: Path


def train(training: Training) -> NDArray[np.float64]:
    """Probabilities float (N,) of the positive class for all slices, by the moving average after the last epoch."""
    keep_freed_memory()
    torch.set_num_threads(1)
    config, data, seed = training.config, training.data, 100 * training.cut + training.member
    pixels, labels = torch.from_numpy(np.load(data.pixels_path)), torch.from_numpy(data.labels)
    plan = measure_step_plan(
        config, image_size=data.image_size, device=CPU, num_threads=1, cache_file=training.plans, num_channels=1
    )
    torch.manual_seed(seed)
    model = build_model(config, len(data.classes), weights=training.weights)
    trainer = Trainer(
        model,
        config,
        max_epochs=training.num_epochs,
        device=CPU,
        seed=seed,
        plan=plan,
        renews_statistics=training.weights is None and config.architecture in RENEWED,
    )
    shown = pixels[training.rows], labels[training.rows]
    for epoch in range(1, training.num_epochs + 1):
        trainer.train_epoch(*shown, epoch)
    return np.asarray(evaluate(trainer.average.model, pixels, labels, device=CPU)[1][:, data.positive], dtype=float)


def list_trainings(cut: int, args: argparse.Namespace, data: TrainingData) -> list[Training]:
    """The seeds on the first part, and the folds of the first two."""
    architecture, _, file = args.weights.partition("=")
    parts = cut_by_group(data, cut)
    known = np.flatnonzero(parts != TEST)
    folds = split_patients(data.labels[known], data.groups[known], args.members)
    wanted: list[tuple[str, int, NDArray[np.bool_]]] = []
    for member in range(args.members):
        in_fold = np.zeros(len(parts), dtype=bool)
        in_fold[known[~folds[member]]] = True
        wanted += [("seed", member, parts == TRAIN), ("fold", member, in_fold)]
    return [
        Training(
            kind=kind,
            cut=cut,
            member=member,
            rows=rows,
            config=find_sound(architecture, has_weights=bool(file)),
            data=data,
            num_epochs=args.epochs,
            weights=Path(file) if file else None,
            plans=args.work / "step_plans.json",
        )
        for kind, member, rows in wanted
    ]


def describe_cut(trainings: Sequence[Training], found: Sequence[NDArray[np.float64]]) -> dict[str, Any]:
    """AUC on new patients of each way to use the trainings of a cut."""
    data, cut = trainings[0].data, trainings[0].cut
    is_new = cut_by_group(data, cut) == TEST

    def auc(values: NDArray[np.float64], rows: NDArray[np.bool_]) -> float:
        both = np.stack([1 - values, values], axis=1)
        is_positive = (data.labels == data.positive).astype(int)
        return round(score(is_positive[rows], both[rows], 1)["auc"], 4)

    pairs = list(zip(trainings, found, strict=True))
    seeds = np.array([values for training, values in pairs if training.kind == "seed"])
    folds = np.array([values for training, values in pairs if training.kind == "fold"])
    unseen = np.full(len(is_new), np.nan)
    for training, values in pairs:
        if training.kind == "fold":
            rows = ~is_new & ~training.rows
            unseen[rows] = values[rows]
    return {
        "cut": cut,
        "single": round(float(np.mean([auc(values, is_new) for values in seeds])), 4),
        "single_fold": round(float(np.mean([auc(values, is_new) for values in folds])), 4),
        f"seeds_{FEW}": auc(seeds[:FEW].mean(0), is_new),
        "seeds": auc(seeds.mean(0), is_new),
        f"folds_{FEW}": auc(folds[:FEW].mean(0), is_new),
        "folds": auc(folds.mean(0), is_new),
        "out_of_fold": auc(unseen, ~is_new),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a folder of classes or a manifest (default: the synthetic set)")
    parser.add_argument("--weights", default="small_cnn", metavar="ARCH[=FILE]", help="the architecture, its weights")
    parser.add_argument("--image-size", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--members", type=int, default=5)
    parser.add_argument("--cuts", type=int, default=5)
    parser.add_argument("--first-cut", type=int, default=0)
    parser.add_argument("--patients", type=int, default=60, help="of the synthetic set")
    parser.add_argument("--work", type=Path, default=Path("sound-folds"), help="a folder for caches")
    parser.add_argument("--out", type=Path, help="keeps the lines of the cuts")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    source = args.data or write_synthetic_set(args.work / "synthetic", num_patients=args.patients, image_size=64)
    data = prepare_data(
        source,
        cache_dir=args.work / "cache",
        splits_file=args.work / f"splits-{args.image_size}.csv",
        image_size=args.image_size,
        seed=0,
    ).training
    lines = []
    with ProcessPoolExecutor(2) as pool:
        for cut in range(args.first_cut, args.first_cut + args.cuts):
            began_s = time.perf_counter()
            trainings = list_trainings(cut, args, data)
            line = describe_cut(trainings, list(pool.map(train, trainings)))
            lines.append(
                line | {"image_size": args.image_size, "minutes": round((time.perf_counter() - began_s) / 60, 1)}
            )
            print(json.dumps(lines[-1]), flush=True)
            if args.out:
                with args.out.open("a") as file:
                    file.write(json.dumps(lines[-1]) + "\n")
    gains = {}
    for name in ("single_fold", f"seeds_{FEW}", "seeds", f"folds_{FEW}", "folds"):
        found = [line[name] - line["single"] for line in lines]
        half = float(stats.t.ppf(0.975, len(found) - 1) * stats.sem(found)) if len(found) > 1 else float("nan")
        gains[name] = [round(float(np.mean(found)), 4), round(half, 4)]
    print(
        json.dumps(
            {"cuts": len(lines), "single": round(float(np.mean([x["single"] for x in lines])), 4), "gains": gains}
        )
    )


if __name__ == "__main__":
    main()
