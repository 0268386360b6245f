"""How a champion should be made of the trials of a search, on patients that nothing has seen.

    python benchmarks/finish_rules.py --data ../shared/data [--cuts 30] [--unlike] [--trials 28] [--synthetic] [--means]

A substitute with power: the trials are linear heads on frozen features of mobilenet_v2 (the given weights) at three
image sizes, on COVID-CT's train and val slices, which are cut anew into 60 % train, 15 % val and 25 % new patients,
30 times; the set's own test split stays closed. In each cut a search of 28 drawn heads is finished by every rule, and
what that hands over is scored on the new patients. With `--unlike` a head may see as little as 2 features of 1,280, so
that the five best differ more; with `--synthetic` the slices are those of the synthetic set, on which validation tells
more. `--means` leaves out what trains again. Prints one JSON line a rule: its mean AUC there, its gain over the best
trial by validation with a 95 % interval over cuts, the trainings that it costs, and by how much the value that it
reports flatters it.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupShuffleSplit

if __name__ == "__main__":  # as a script, benchmarks/ comes first on the path: the root must
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks.contenders import make_manifest
from trainable.architectures import build_model
from trainable.comparisons import compare_aucs
from trainable.config import TrialConfig
from trainable.ensemble import mean_probabilities, select_greedily, weigh_by_score
from trainable.folds import split_patients
from trainable.images.prepare import prepare_data
from trainable.normalisation import to_input
from trainable.standard_errors import standard_error

SIZES = (64, 96, 128)
NUM_FINALISTS = 5
LEAST_SHARE, LEAST_SHARE_UNLIKE = 0.05, 0.002
LADDER = ((5, 5), (4, 5), (3, 5), (3, 3), (2, 3), (1, 5))


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


def draw_heads(rng: np.random.Generator, num_trials: int, is_unlike: bool) -> list[Head]:
    return [
        Head(
            size=int(rng.choice(SIZES)),
            share=float(
                10 ** rng.uniform(np.log10(LEAST_SHARE_UNLIKE), 0) if is_unlike else rng.uniform(LEAST_SHARE, 1)
            ),
            penalty=float(10 ** rng.uniform(-5, 1)),
            seed=int(rng.integers(2**31)),
        )
        for _ in range(num_trials)
    ]


def read_features(data: Path, *, is_synthetic: bool = False) -> tuple[dict[int, np.ndarray], np.ndarray, np.ndarray]:
    """Pooled features (N, 1280) by image size, labels and patients of train and val."""
    features: dict[int, np.ndarray] = {}
    with tempfile.TemporaryDirectory() as aside:
        manifest = make_manifest(Path(aside)) if is_synthetic else data / "covid-ct/manifest.csv"
        for size in SIZES:
            training = prepare_data(
                manifest,
                cache_dir=Path(aside),
                splits_file=Path(aside) / "splits.csv",
                image_size=size,
                seed=0,
            ).training
            weights = np.frombuffer((data / "weights/mobilenet_v2-fp16.pth").read_bytes(), dtype=np.uint8)
            layers = (
                build_model(TrialConfig(architecture="mobilenet_v2"), 2, weights=weights)
                .eval()
                .get_submodule("features")
            )
            pixels = torch.from_numpy(np.array(np.load(training.pixels_path)))
            with torch.inference_mode():
                parts = [layers(to_input(part)).mean(dim=(2, 3)) for part in pixels.split(32)]
            features[size] = torch.cat(parts).numpy()
    return features, training.labels, training.groups


def auc(labels: np.ndarray, probabilities: np.ndarray) -> float:
    return float(roc_auc_score(labels, probabilities[:, 1]))


@dataclass(frozen=True, kw_only=True)
class Finished:
    """What a rule handed over in one cut: its AUC on new patients and the value that it reports of itself."""

    rule: str
    num_trainings: int
    value: float
    reported: float


@dataclass(frozen=True, kw_only=True)
class Cut:
    """One search on its own cut of the patients: rows of train, val and new, and the drawn heads, best first.

    `found` (trials, N, 2) are what the heads say after training on train alone.
    """

    features: dict[int, np.ndarray]
    labels: np.ndarray
    groups: np.ndarray
    train: np.ndarray
    val: np.ndarray
    new: np.ndarray
    heads: list[Head]
    found: np.ndarray

    @classmethod
    def draw(
        cls,
        features: dict[int, np.ndarray],
        labels: np.ndarray,
        groups: np.ndarray,
        rng: np.random.Generator,
        *,
        num_trials: int,
        is_unlike: bool,
    ) -> Cut:
        seed = int(rng.integers(2**31))
        known, new = next(GroupShuffleSplit(1, test_size=0.25, random_state=seed).split(labels, groups=groups))
        inner, outer = next(GroupShuffleSplit(1, test_size=0.2, random_state=seed).split(known, groups=groups[known]))
        train, val, unseen = (np.isin(np.arange(len(labels)), rows) for rows in (known[inner], known[outer], new))
        heads = draw_heads(rng, num_trials, is_unlike)
        found = np.stack([head.fit(features, labels, train) for head in heads])
        ranks = np.argsort([-auc(labels[val], each[val]) for each in found])
        return cls(
            features=features,
            labels=labels,
            groups=groups,
            train=train,
            val=val,
            new=unseen,
            heads=[heads[rank] for rank in ranks],
            found=found[ranks],
        )

    def finish(self, *, in_folds: bool = True) -> Iterator[Finished]:
        """By every rule, or those that train nothing again."""
        for size in (1, 3, 5):
            mean = mean_probabilities(self.found[:size])
            rule = "best by validation" if size == 1 else f"mean of {size}"
            yield self.score(rule, size, mean, auc(self.labels[self.val], mean[self.val]))
        yield from self.finish_guarded()
        for num_folds in (5, 3) if in_folds else ():
            yield from self.finish_in_folds(num_folds)

    def finish_guarded(self) -> Iterator[Finished]:
        """Means that are to keep weak members out, by what validation says of them."""
        labels, of_val = self.labels[self.val], self.found[:NUM_FINALISTS][:, self.val]
        values = np.array([auc(labels, each) for each in of_val])
        error = standard_error("auc", labels, of_val[0], self.groups[self.val])
        best, patients = of_val[0][:, 1], self.groups[self.val]
        told = [compare_aucs(labels == 1, each[:, 1], best, patients).is_told_apart for each in of_val[1:]]
        for name, is_member in (
            ("within one standard error of the best", values >= values[0] - error),
            ("within two standard errors of the best", values >= values[0] - 2 * error),
            ("more than half as far from chance as the best", values >= (values[0] + 0.5) / 2),
            ("that validation does not tell apart from the best", ~np.array([False, *told])),
        ):
            mean = mean_probabilities(self.found[:NUM_FINALISTS][is_member])
            yield self.score(f"mean of those of five {name}", NUM_FINALISTS, mean, auc(labels, mean[self.val]))
        weights = np.exp((values - values[0]) / error)
        mean = mean_probabilities(self.found[:NUM_FINALISTS], weights.tolist())
        yield self.score("mean of five by exp(value / error)", NUM_FINALISTS, mean, auc(labels, mean[self.val]))
        mean = mean_probabilities(self.found[:NUM_FINALISTS], weigh_by_score(values.tolist(), error))
        yield self.score("the same without those far behind", NUM_FINALISTS, mean, auc(labels, mean[self.val]))
        mean = mean_probabilities(self.found[:NUM_FINALISTS])
        if auc(labels, mean[self.val]) < values[0]:
            mean = self.found[0]
        yield self.score(
            "mean of five, or the best where it is better", NUM_FINALISTS, mean, auc(labels, mean[self.val])
        )

    def finish_in_folds(self, num_folds: int) -> Iterator[Finished]:
        """The best trials trained again: greedy choice and plain mean of some, and another trial in each fold."""
        rows = np.flatnonzero(self.train | self.val)
        labels, groups = self.labels[rows], self.groups[rows]
        folds = split_patients(labels, groups, num_folds)
        held_out = np.full((NUM_FINALISTS, len(rows), 2), np.nan)
        of_all = np.zeros((NUM_FINALISTS, num_folds, len(self.labels), 2))
        for m, head in enumerate(self.heads[:NUM_FINALISTS]):
            for k, fold in enumerate(folds):
                seen = np.isin(np.arange(len(self.labels)), rows[~fold])
                of_all[m, k] = head.fit(self.features, self.labels, seen)
                held_out[m, fold] = of_all[m, k][rows[fold]]
        for members in [members for members, of in LADDER if of == num_folds]:
            name, cost = f"{num_folds} folds of {members}", members * num_folds
            chosen = select_greedily(held_out[:members], labels, groups, 1)
            weighted = mean_probabilities(of_all[:members].mean(axis=1), chosen.weights)
            yield self.score(f"{name}, greedy", cost, weighted, chosen.honest_value)
            plain = of_all[:members].mean(axis=(0, 1))
            yield self.score(f"{name}, mean", cost, plain, auc(labels, held_out[:members].mean(axis=0)))
        crossed = np.stack([of_all[k % NUM_FINALISTS, k] for k in range(num_folds)]).mean(axis=0)
        each = np.zeros((len(rows), 2))
        for k, fold in enumerate(folds):
            each[fold] = held_out[k % NUM_FINALISTS][fold]
        yield self.score(f"{num_folds} folds, another trial in each", num_folds, crossed, auc(labels, each))

    def score(self, rule: str, num_trainings: int, probabilities: np.ndarray, reported: float) -> Finished:
        value = auc(self.labels[self.new], probabilities[self.new])
        return Finished(rule=rule, num_trainings=num_trainings, value=value, reported=reported)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds covid-ct/ and weights/")
    parser.add_argument("--cuts", type=int, default=30)
    parser.add_argument("--trials", type=int, default=28)
    parser.add_argument("--unlike", action="store_true")
    parser.add_argument("--synthetic", action="store_true")
    parser.add_argument("--means", action="store_true")
    args = parser.parse_args()
    features, labels, groups = read_features(args.data, is_synthetic=args.synthetic)
    rng = np.random.default_rng(0)
    found: dict[str, list[Finished]] = {}
    for _ in range(args.cuts):
        cut = Cut.draw(features, labels, groups, rng, num_trials=args.trials, is_unlike=args.unlike)
        for finished in cut.finish(in_folds=not args.means):
            found.setdefault(finished.rule, []).append(finished)
    base = np.array([finished.value for finished in found["best by validation"]])
    for rule, entries in found.items():
        values = np.array([finished.value for finished in entries])
        reported = np.array([finished.reported for finished in entries])
        gains = values - base
        line = {
            "rule": rule,
            "trainings": entries[0].num_trainings,
            "auc": round(float(values.mean()), 4),
            "gain": round(float(gains.mean()), 4),
            "plus_minus": round(float(1.96 * gains.std(ddof=1) / len(gains) ** 0.5), 4),
            "better_in": round(float((gains > 0).mean()), 2),
            "flattered_by": round(float((reported - values).mean()), 4),
        }
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
