"""What the sound configuration is worth: alone, as a mean of seeds or of folds, and beside draws of the space.

    python benchmarks/sound_folds.py --data ../shared/data/covid-ct/manifest.csv --weights mobilenet_v2=FILE
        [--kinds seed,fold,third,fourth,near,drawn] [--cuts 5] [--epochs 12] [--members 5] [--image-size 128]
        [--out FILE]

As `sound_changes.py` it cuts train and val anew, by patient (the sealed test is not opened): 60 % for training, 20 %
for validation, 20 % that stand for new patients. On each cut `--members` trainings of each kind are made, two at a time
on one core each:

    seed    the first point of every search, with other seeds
    fold    the same in folds of the first two parts together
    third   the same in three folds, fourth in four
    near    configurations near the first point (`SpaceProposals.near`)
    drawn   configurations drawn evenly from the default space of that architecture

Prints a JSON line a cut, AUC on new patients by kind: of a single training (in the mean), of the mean of all and of the
first three, and, but for folds, of the best by validation and of the mean of the best three; for five folds what they
say of patients that their models have not seen; of folds also with the first of the seeds among them. What was trained
is kept under --work, and not trained again. At the end the gains over a single training of the first kind, with
half of their 95 % intervals by Student's t over cuts.
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
from numpy.typing import NDArray
from scipy import stats

from benchmarks.signal_quality import TEST, TRAIN, VAL, cut_by_group
from benchmarks.sound_changes import find_sound, predict_all
from search.core.proposals import SpaceProposals
from search.core.space import DefaultSpace, Wish, configuration_of
from trainable.config import TrialConfig
from trainable.folds import split_patients
from trainable.images.prepare import TrainingData, prepare_data
from trainable.images.synthetic import write_synthetic_set
from trainable.metrics import score

FEW = 3
FOLDS = {"third": FEW, "fourth": 4}


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
    """Probabilities float (N,) of the positive class for all slices, kept in a file."""
    name = f"{training.kind}-{training.cut}-{training.member}-{training.data.image_size}px-{training.num_epochs}"
    file = training.plans.parent / "kept" / f"{training.config.architecture}-{name}.npy"
    if file.exists():
        return np.asarray(np.load(file))
    probabilities = predict_all(
        training.config,
        training.data,
        training.rows,
        num_epochs=training.num_epochs,
        weights=training.weights,
        seed=100 * training.cut + training.member,
        plans=training.plans,
    )
    file.parent.mkdir(exist_ok=True)
    np.save(file, probabilities[:, training.data.positive])
    return probabilities[:, training.data.positive]


def list_trainings(cut: int, args: argparse.Namespace, data: TrainingData) -> list[Training]:
    """The trainings of every kind."""
    architecture, _, file = args.weights.partition("=")
    pretrained = [architecture] if file else []
    sound = find_sound(architecture, has_weights=bool(file))
    space = DefaultSpace((architecture,), fine_tuned=pretrained)
    proposals, (point,) = SpaceProposals(space), space.first_points(pretrained=pretrained)
    rng = np.random.default_rng([cut, 3])
    parts = cut_by_group(data, cut)
    known = np.flatnonzero(parts != TEST)
    num_folds = FOLDS | {"fold": args.members}
    points = {"near": proposals.near(point, args.members, rng), "drawn": proposals.draw(args.members, rng)}
    found = []
    for kind in args.kinds.split(","):
        folds = split_patients(data.labels[known], data.groups[known], num_folds.get(kind, args.members))
        for member in range(num_folds.get(kind, args.members)):
            rows, config = parts == TRAIN, sound
            if kind in num_folds:
                rows = np.zeros(len(parts), dtype=bool)
                rows[known[~folds[member]]] = True
            if kind in points:
                params = points[kind][member]
                config = TrialConfig.from_params(configuration_of(space(Wish(params)), params))
            found.append(
                Training(
                    kind=kind,
                    cut=cut,
                    member=member,
                    rows=rows,
                    config=config,
                    data=data,
                    num_epochs=args.epochs,
                    weights=Path(file) if file else None,
                    plans=args.work / "step_plans.json",
                )
            )
    return found


def describe_cut(trainings: Sequence[Training], found: Sequence[NDArray[np.float64]]) -> dict[str, Any]:
    """AUC on new patients of each way to use the trainings of a cut."""
    data, cut = trainings[0].data, trainings[0].cut
    parts = cut_by_group(data, cut)
    is_new, is_val = parts == TEST, parts == VAL
    is_positive = (data.labels == data.positive).astype(int)

    def auc(values: NDArray[np.float64], rows: NDArray[np.bool_]) -> float:
        both = np.stack([1 - values, values], axis=1)
        return round(score(is_positive[rows], both[rows], 1)["auc"], 4)

    line: dict[str, Any] = {"cut": cut}
    for kind in dict.fromkeys(training.kind for training in trainings):
        pairs = [(t, values) for t, values in zip(trainings, found, strict=True) if t.kind == kind]
        each = np.array([values for _, values in pairs])
        line[kind] = round(float(np.mean([auc(values, is_new) for values in each])), 4)
        line[f"{kind}_mean"], line[f"{kind}_mean_of_{FEW}"] = auc(each.mean(0), is_new), auc(each[:FEW].mean(0), is_new)
        if kind in ("fold", *FOLDS):
            unseen = np.sum([np.where(t.rows, 0.0, values) for t, values in pairs], axis=0)
            line[f"{kind}_unseen"] = auc(unseen, ~is_new)
            seeds = [values for t, values in zip(trainings, found, strict=True) if t.kind == "seed"]
            if seeds:
                line[f"{kind}_and_seed"] = auc(np.array([*each, seeds[0]]).mean(0), is_new)
        else:
            order = np.argsort([-auc(values, is_val) for values in each], kind="stable")
            line[f"{kind}_best"] = auc(each[order[0]], is_new)
            line[f"{kind}_best_{FEW}"] = auc(each[order[:FEW]].mean(0), is_new)
    return line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a folder of classes or a manifest (default: the synthetic set)")
    parser.add_argument("--weights", default="small_cnn", metavar="ARCH[=FILE]", help="the architecture, its weights")
    parser.add_argument("--kinds", default="seed,fold,near,drawn")
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
    first = args.kinds.partition(",")[0]
    gains = {}
    ways = [name for name in lines[0] if name.startswith(tuple(args.kinds.split(","))) and not name.endswith("unseen")]
    for name in ways:
        found = [line[name] - line[first] for line in lines]
        half = round(float(stats.t.ppf(0.975, len(found) - 1) * stats.sem(found)), 4) if len(found) > 1 else None
        gains[name] = [round(float(np.mean(found)), 4), half]
    print(json.dumps({"cuts": len(lines), first: round(float(np.mean([x[first] for x in lines])), 4), "gains": gains}))


if __name__ == "__main__":
    main()
