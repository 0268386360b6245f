"""How a champion should be made of the trials of a search, on patients that nothing has seen.

    python benchmarks/finish_rules.py --data ../shared/data [--cuts 30]

A substitute with power: the trials are linear heads on frozen features of mobilenet_v2 (the given weights) at three
image sizes, on COVID-CT's train and val slices, which are cut anew into 60 % train, 15 % val and 25 % new patients,
30 times; the set's own test split stays closed. In each cut a search of 28 drawn heads is finished by every rule, and
what that hands over is scored on the new patients. Prints one JSON line a rule: its mean AUC there, its gain over the
best trial by validation with a 95 % interval over cuts, the trainings that it costs, and by how much the value that it
reports flatters it.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupShuffleSplit

from trainable.architectures import build_model
from trainable.config import TrialConfig
from trainable.ensemble import mean_probabilities, select_greedily
from trainable.folds import split_patients
from trainable.images.prepare import prepare_data
from trainable.normalisation import to_input

SIZES = (64, 96, 128)
NUM_TRIALS, NUM_FINALISTS = 28, 5
LADDER = ((5, 5), (4, 5), (3, 5), (3, 3), (2, 3), (1, 5))
Fit = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Head:
    """A drawn trial: its features, their share that it sees, and its penalty; `seed` draws the share."""

    size: int
    share: float
    penalty: float
    seed: int

    def fit(self, features: dict[int, np.ndarray], labels: np.ndarray, train: np.ndarray) -> np.ndarray:
        """Probabilities (N, 2) of all slices by the head that the rows `train` gave."""
        rng = np.random.default_rng(self.seed)
        all_columns = features[self.size]
        columns = rng.permutation(all_columns.shape[1])[: int(self.share * all_columns.shape[1])]
        seen = rng.choice(np.flatnonzero(train), int(train.sum()))  # a seed moves a network as a draw of slices does
        x = all_columns[:, columns]
        mean, scale = x[train].mean(axis=0), x[train].std(axis=0) + 1e-6
        x = (x - mean) / scale
        model = LogisticRegression(C=self.penalty, max_iter=200)
        return np.asarray(model.fit(x[seen], labels[seen]).predict_proba(x))


def draw_heads(rng: np.random.Generator) -> list[Head]:
    return [
        Head(
            size=int(rng.choice(SIZES)),
            share=float(rng.uniform(0.05, 1)),
            penalty=float(10 ** rng.uniform(-5, 1)),
            seed=int(rng.integers(2**31)),
        )
        for _ in range(NUM_TRIALS)
    ]


def read_features(data: Path) -> tuple[dict[int, np.ndarray], np.ndarray, np.ndarray]:
    """Pooled features (N, 1280) by image size, labels and patients of train and val."""
    features: dict[int, np.ndarray] = {}
    with tempfile.TemporaryDirectory() as aside:
        for size in SIZES:
            training = prepare_data(
                data / "covid-ct/manifest.csv",
                cache_dir=Path(aside),
                splits_file=Path(aside) / "splits.csv",
                image_size=size,
                seed=0,
            ).training
            weights = np.frombuffer((data / "weights/mobilenet_v2-fp16.pth").read_bytes(), dtype=np.uint8)
            model = build_model(TrialConfig(architecture="mobilenet_v2"), 2, weights=weights).eval()
            pixels = torch.from_numpy(np.array(np.load(training.pixels_path)))
            with torch.inference_mode():
                parts = [model.features(to_input(part)).mean(dim=(2, 3)) for part in pixels.split(32)]
            features[size] = torch.cat(parts).numpy()
    return features, training.labels, training.groups


def auc(labels: np.ndarray, probabilities: np.ndarray) -> float:
    return float(roc_auc_score(labels, probabilities[:, 1]))


def finish(
    features: dict[int, np.ndarray], labels: np.ndarray, groups: np.ndarray, rng: np.random.Generator
) -> Iterator[tuple[str, int, float, float]]:
    """For one cut: each rule with its trainings, its AUC on new patients and the value that it reports."""
    seed = int(rng.integers(2**31))
    known, new = next(GroupShuffleSplit(1, test_size=0.25, random_state=seed).split(labels, groups=groups))
    inner, outer = next(GroupShuffleSplit(1, test_size=0.2, random_state=seed).split(known, groups=groups[known]))
    train, val = (np.isin(np.arange(len(labels)), known[rows]) for rows in (inner, outer))
    both = train | val
    heads = draw_heads(rng)
    scored = sorted(
        (
            (auc(labels[val], found[val]), i, found)
            for i, head in enumerate(heads)
            if (found := head.fit(features, labels, train)) is not None
        ),
        key=lambda entry: -entry[0],
    )
    best = [heads[i] for _, i, _ in scored[:NUM_FINALISTS]]
    yield "best by validation", 1, auc(labels[new], scored[0][2][new]), scored[0][0]
    for size in (3, 5):
        mean = mean_probabilities(np.stack([found for _, _, found in scored[:size]]))
        yield f"mean of {size}", size, auc(labels[new], mean[new]), auc(labels[val], mean[val])
    rows = np.flatnonzero(both)
    for num_folds in (5, 3):
        folds = split_patients(labels[rows], groups[rows], num_folds)
        held_out = np.full((len(best), len(rows), 2), np.nan)
        of_all = np.zeros((len(best), num_folds, len(labels), 2))
        for m, head in enumerate(best):
            for k, fold in enumerate(folds):
                seen = np.isin(np.arange(len(labels)), rows[~fold])
                of_all[m, k] = head.fit(features, labels, seen)
                held_out[m, fold] = of_all[m, k][rows[fold]]
        for members in sorted({members for members, folds in LADDER if folds == num_folds}, reverse=True):
            found = select_greedily(held_out[:members], labels[rows], groups[rows], 1)
            mean = np.average(of_all[:members].mean(axis=1), axis=0, weights=found.weights)
            name = f"{num_folds} folds of {members}"
            cost = members * num_folds
            yield f"{name}, greedy", cost, auc(labels[new], mean[new]), found.honest_value
            mean = of_all[:members].mean(axis=(0, 1))
            value = auc(labels[rows], held_out[:members].mean(axis=0))
            yield f"{name}, mean", cost, auc(labels[new], mean[new]), value
        crossed = np.stack([of_all[k % len(best), k] for k in range(num_folds)])
        value = auc(
            labels[rows],
            np.stack([np.where(fold[:, None], held_out[k % len(best)], 0) for k, fold in enumerate(folds)]).sum(axis=0),
        )
        yield f"{num_folds} folds, another trial in each", num_folds, auc(labels[new], crossed.mean(axis=0)[new]), value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds covid-ct/ and weights/")
    parser.add_argument("--cuts", type=int, default=30)
    args = parser.parse_args()
    features, labels, groups = read_features(args.data)
    rng = np.random.default_rng(0)
    found: dict[str, list[tuple[int, float, float]]] = {}
    for _ in range(args.cuts):
        for name, cost, value, reported in finish(features, labels, groups, rng):
            found.setdefault(name, []).append((cost, value, reported))
    base = np.array([value for _, value, _ in found["best by validation"]])
    for name, entries in found.items():
        values, reported = np.array([entry[1] for entry in entries]), np.array([entry[2] for entry in entries])
        gains = values - base
        line = {
            "rule": name,
            "trainings": entries[0][0],
            "auc": round(float(values.mean()), 4),
            "gain": round(float(gains.mean()), 4),
            "plus_minus": round(float(1.96 * gains.std(ddof=1) / len(gains) ** 0.5), 4),
            "better_in": round(float((gains > 0).mean()), 2),
            "flattered_by": round(float((reported - values).mean()), 4),
        }
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
