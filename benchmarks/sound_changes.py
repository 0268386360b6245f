"""What one change of the sound configuration gains on new patients: image size, augmentation, mixing, any entry.

    python benchmarks/sound_changes.py --data ../shared/data/covid-ct/manifest.csv --weights mobilenet_v2=FILE \
        --change image_size=160 --change cutout=0.3 --change mixup=0.2,cutmix=0.5 [--cuts 8] [--epochs 12]

The configuration is the first point of every search (`search/core/space.py`). Train and val are cut anew, by patient,
into 60 % for training, 20 % for validation and 20 % that stand for new patients: the sealed test is not opened. Each
change is trained on the same cuts with the same seeds, two trainings at a time on one core each, and scored by the
moving average of its weights after the last epoch.

Prints one JSON line a training, then for each change the mean gain in AUC over the unchanged configuration on
validation and on new patients, with half of their 95 % intervals (Student's t over cuts), and its seconds as a ratio.
Without --data it is the synthetic set. `--out FILE` keeps the lines, and goes on where an earlier call ended.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # as a script, benchmarks/ comes first on the path: the root must
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats

from benchmarks.signal_quality import CPU, TEST, TRAIN, VAL, cut_by_group
from search.core.space import DefaultSpace, Wish, configuration_of
from trainable.architectures import build_model
from trainable.config import TrialConfig
from trainable.images.prepare import TrainingData, prepare_data
from trainable.images.synthetic import write_synthetic_set
from trainable.loop import evaluate
from trainable.metrics import score
from trainable.step_plan import measure_step_plan
from trainable.trainer import Trainer
from trainable.weight_average import RENEWED
from trainable.worker_memory import keep_freed_memory

SAME = "as it is"


@dataclass(frozen=True, kw_only=True)
class Training:
    """One training: a change by its name, its configuration, and the data at its image size."""

    change: str
    cut: int
    config: TrialConfig
    data: TrainingData
    num_epochs: int
    weights: Path | None
    plans: Path


def find_sound(architecture: str, *, has_weights: bool) -> TrialConfig:
    """The first point of a search for an architecture."""
    pretrained = [architecture] if has_weights else []
    space = DefaultSpace((architecture,), fine_tuned=pretrained)
    (point,) = space.first_points(pretrained=pretrained)
    return TrialConfig.from_params(configuration_of(space(Wish(point)), point))


def read_change(text: str) -> dict[str, Any]:
    """`name=value,name=value`; numbers where they are numbers."""
    pairs = (part.partition("=") for part in text.split(",")) if text != SAME else ()
    return {name: _number(value) for name, _, value in pairs}


def _number(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def predict_all(
    config: TrialConfig,
    data: TrainingData,
    rows: NDArray[np.bool_],
    *,
    num_epochs: int,
    weights: Path | None,
    seed: int,
    plans: Path,
) -> NDArray[np.float64]:
    """Train on `rows` bool (N,), one core; probabilities float (N, C) of all slices by the moving average at the end.

    `plans` keeps the step plans that were measured.
    """
    keep_freed_memory()
    torch.set_num_threads(1)
    pixels, labels = torch.from_numpy(np.load(data.pixels_path)), torch.from_numpy(data.labels)
    plan = measure_step_plan(config, image_size=data.image_size, device=CPU, num_threads=1, cache_file=plans)
    torch.manual_seed(seed)
    trainer = Trainer(
        build_model(config, len(data.classes), weights=weights),
        config,
        max_epochs=num_epochs,
        device=CPU,
        seed=seed,
        plan=plan,
        renews_statistics=weights is None and config.architecture in RENEWED,
    )
    shown = pixels[rows], labels[rows]
    for epoch in range(1, num_epochs + 1):
        trainer.train_epoch(*shown, epoch)
    return np.asarray(evaluate(trainer.average.model, pixels, labels, device=CPU)[1], dtype=float)


def train(training: Training) -> dict[str, Any]:
    """AUC on validation and on new patients after the last epoch, and the seconds of it all."""
    data, began_s = training.data, time.perf_counter()
    parts = cut_by_group(data, training.cut)
    probabilities = predict_all(
        training.config,
        data,
        parts == TRAIN,
        num_epochs=training.num_epochs,
        weights=training.weights,
        seed=training.cut,
        plans=training.plans,
    )
    found = {"change": training.change, "cut": training.cut, "seconds": round(time.perf_counter() - began_s, 1)}
    for name, part in (("val", VAL), ("new", TEST)):
        rows = parts == part
        found[name] = round(score(data.labels[rows], probabilities[rows], data.positive)["auc"], 4)
    return found


def list_trainings(args: argparse.Namespace, folder: Path) -> Iterator[Training]:
    """Cut by cut, all changes of each."""
    architecture, _, file = args.weights.partition("=")
    base = find_sound(architecture, has_weights=bool(file))
    source = args.data or write_synthetic_set(folder / "synthetic", num_patients=args.patients, image_size=64)
    by_size: dict[int, TrainingData] = {}
    for cut in range(args.first_cut, args.first_cut + args.cuts):
        for change in (SAME, *args.change):
            entries = read_change(change)
            size = entries.pop("image_size", args.image_size)
            if size not in by_size:
                splits = folder / f"splits-{size}.csv"
                by_size[size] = prepare_data(
                    source, cache_dir=folder / "cache", splits_file=splits, image_size=size, seed=0
                ).training
            yield Training(
                change=change,
                cut=cut,
                config=replace(base, **entries),
                data=by_size[size],
                num_epochs=args.epochs,
                weights=Path(file) if file else None,
                plans=folder / "step_plans.json",
            )


def summarise(lines: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The gains of each change over the unchanged configuration, in the mean over cuts."""
    by = {(line["change"], line["cut"]): line for line in lines}
    found = []
    for change in dict.fromkeys(line["change"] for line in lines):
        cuts = sorted(cut for name, cut in by if name == change and (SAME, cut) in by)
        pairs = [(by[change, cut], by[SAME, cut]) for cut in cuts]
        summary: dict[str, Any] = {"change": change, "cuts": len(cuts)}
        for name in ("val", "new"):
            summary[name] = round(float(np.mean([mine[name] for mine, _ in pairs])), 4)
            gains = [mine[name] - same[name] for mine, same in pairs]
            half = float(stats.t.ppf(0.975, len(gains) - 1) * stats.sem(gains)) if len(gains) > 1 else float("nan")
            summary[f"{name}_gain"] = [round(float(np.mean(gains)), 4), round(half, 4)]
        summary["seconds_ratio"] = round(float(np.mean([mine["seconds"] / same["seconds"] for mine, same in pairs])), 2)
        found.append(summary)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a folder of classes or a manifest (default: the synthetic set)")
    parser.add_argument(
        "--weights", default="small_cnn", metavar="ARCH[=FILE]", help="the architecture, and its weights"
    )
    parser.add_argument("--change", action="append", default=[], metavar="NAME=VALUE[,...]")
    parser.add_argument("--image-size", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--cuts", type=int, default=8)
    parser.add_argument("--first-cut", type=int, default=0)
    parser.add_argument("--patients", type=int, default=60, help="of the synthetic set")
    parser.add_argument("--work", type=Path, default=Path("sound-changes"), help="a folder for caches")
    parser.add_argument("--out", type=Path, help="keeps the lines; those that are there are not trained again")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    known = args.out.read_text().splitlines() if args.out and args.out.exists() else []
    lines = [json.loads(line) for line in known]
    done = {(line["change"], line["cut"]) for line in lines}
    wanted = [each for each in list_trainings(args, args.work) if (each.change, each.cut) not in done]
    with ProcessPoolExecutor(2) as pool:
        for found in pool.map(train, wanted):
            lines.append(found)
            print(json.dumps(found), flush=True)
            if args.out:
                with args.out.open("a") as file:
                    file.write(json.dumps(found) + "\n")
    for summary in summarise(lines):
        print(json.dumps(summary))


if __name__ == "__main__":
    main()
