"""Over how many epochs a validation value is to be averaged, on recorded learning curves: nothing is trained.

    python benchmarks/smoothing_windows.py --curves curves/medquicktune
    python benchmarks/smoothing_windows.py --curves curves/medquicktune --draws 100 --pool 30

The curves are fine-tunings of 3D medical image classifiers (`curve.csv`: validation accuracy in percent by epoch,
padded with its last value from where training ended; `config.csv` names the set). Those of 15 epochs or more are taken,
of sets that have ten. Ten epochs are seen; what a configuration is worth is its mean over the last five that were
trained. For each window: the rank agreement (Spearman) of the mean of the last so many epochs, after 3, 5 and 9, with
the worth, in the mean over sets, `ours` being that of `smoothed_value`; and, over random pools of configurations, what
the one is worth that is best by `find_best` in that window, and how much its own value flatters it, in percent of
accuracy. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":  # as a script, benchmarks/ comes first on the path: the root must
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
from scipy.stats import spearmanr

from trainable.smoothing import find_best, smoothed_value

WINDOWS = (1, 2, 3, 5)
EARLY = (3, 5, 9)
NUM_SEEN = 10
NUM_LAST = 5
LEAST_CURVES = 10


def read_curves(folder: Path) -> dict[str, list[list[float]]]:
    """Curves by the set they are of, each as long as it was trained."""
    with (folder / "config.csv").open() as file:
        sets = {row[""]: row["dataset"] for row in csv.DictReader(file)}
    found: dict[str, list[list[float]]] = {}
    with (folder / "curve.csv").open() as file:
        reader = csv.reader(file)
        next(reader)
        for number, *values in reader:
            curve = [float(value) for value in values if value]
            while len(curve) > 1 and curve[-1] == curve[-2]:
                curve.pop()
            if len(curve) >= NUM_SEEN + NUM_LAST:
                found.setdefault(sets[number], []).append(curve)
    return {name: curves for name, curves in sorted(found.items()) if len(curves) >= LEAST_CURVES}


def by_epoch(curve: Sequence[float], num_epochs: int) -> dict[int, float]:
    return dict(enumerate(curve[:num_epochs], 1))


def measure(
    sets: dict[str, list[list[float]]], window: int, num_draws: int, num_pool: int
) -> dict[str, dict[str, float] | float]:
    agreements: dict[str, list[float]] = {}
    worths, flattery = [], []
    rng = np.random.default_rng(0)
    for curves in sets.values():
        worth = [float(np.mean(curve[-NUM_LAST:])) for curve in curves]
        for epoch in EARLY:
            plain = [float(np.mean(curve[max(0, epoch - window) : epoch])) for curve in curves]
            ours = [smoothed_value(by_epoch(curve, epoch), window=window) for curve in curves]
            for name, known in (("plain", plain), ("ours", ours)):
                agreements.setdefault(f"{name}_{epoch}", []).append(float(spearmanr(known, worth).statistic))
        best = [find_best(by_epoch(c, NUM_SEEN), higher_is_better=True, window=window)[1] for c in curves]
        for _ in range(num_draws):
            pool = rng.choice(len(curves), min(num_pool, len(curves)), replace=False)
            winner = max(pool, key=lambda row: best[row])
            worths.append(worth[winner])
            flattery.append(best[winner] - worth[winner])
    return {
        "agreement": {name: round(float(np.mean(values)), 3) for name, values in agreements.items()},
        "winner_worth": round(float(np.mean(worths)), 2),
        "flattery": round(float(np.mean(flattery)), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--curves", type=Path, required=True)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--pool", type=int, default=20)
    args = parser.parse_args()
    sets = read_curves(args.curves)
    result = {f"window_{window}": measure(sets, window, args.draws, args.pool) for window in WINDOWS}
    counts = {name: len(curves) for name, curves in sets.items()}
    print(json.dumps({"benchmark": "smoothing_windows", "curves": counts, "pool": args.pool, **result}))


if __name__ == "__main__":
    main()
