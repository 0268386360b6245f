"""What a rung should compare, on recorded learning curves: values there, best so far, or a mean; and from how many on.

    python benchmarks/rung_rules.py --curves ../shared/data/curves/taskset

Replays ASHA (search/core/rungs.py, and its rivals) on real curves of six tasks with 1000 settings, with noise
like that of a small validation split added to what ASHA sees. A search draws 20 settings; its champion is the one with
the best value seen. Prints one JSON line a rule: mean regret (true value of the champion against the best of the
drawn, each task's values scaled to [0, 1]) with its standard error, and epochs spent.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

MAX_EPOCHS, FACTOR, NUM_TRIALS, NUM_SEARCHES = 27, 3, 20, 200
Curves = NDArray[np.float64]

COMPARED: dict[str, Callable[[Sequence[float], int], float]] = {
    "best so far": lambda seen, previous: max(seen),
    "value there": lambda seen, previous: seen[-1],
    "mean since the last rung": lambda seen, previous: statistics.fmean(seen[previous:]),
}


def read_task(file: Path) -> Curves:
    """Values (1000, 27), higher is better: a task's losses, clipped at those of its median start, scaled to [0, 1]."""
    losses = np.nan_to_num(np.load(file)["valid_loss"][:, 1 : MAX_EPOCHS + 1], nan=np.inf, posinf=np.inf)
    worst, best = np.median(losses[:, 0]), losses.min()
    return (worst - np.minimum(losses, worst)) / (worst - best)


def search(true: Curves, seen: Curves, levels: Sequence[int], compared: str, least: int) -> tuple[float, int]:
    """Regret and epochs of one search over (trials, 27) curves, one trial after another."""
    rungs: dict[int, list[float]] = {level: [] for level in levels}
    best_seen, champion_value, num_epochs = -np.inf, 0.0, 0
    for trial in range(len(seen)):
        last = MAX_EPOCHS
        for previous, level in zip((0, *levels), levels, strict=False):
            value = COMPARED[compared](list(seen[trial, :level]), previous)
            rungs[level].append(value)
            num_better = sum(other > value for other in rungs[level])
            if len(rungs[level]) >= least and num_better >= max(1, len(rungs[level]) // FACTOR):
                last = level
                break
        num_epochs += last
        top = int(seen[trial, :last].argmax())
        if seen[trial, top] > best_seen:
            best_seen, champion_value = seen[trial, top], true[trial, top]
    return float(true.max() - champion_value), num_epochs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--curves", type=Path, required=True)
    tasks = [read_task(file) for file in sorted(parser.parse_args().curves.glob("*.npz"))]
    for noise, first, compared, least in product((0.0, 0.1, 0.2), (1, 3), COMPARED, (1, FACTOR)):
        generator = np.random.default_rng(0)
        levels = [first * FACTOR**power for power in range(3) if first * FACTOR**power < MAX_EPOCHS]
        results = []
        for task in tasks:
            for _ in range(NUM_SEARCHES):
                true = task[generator.choice(len(task), NUM_TRIALS, replace=False)]
                results.append(search(true, true + generator.normal(0, noise, true.shape), levels, compared, least))
        regrets = np.array([regret for regret, _ in results])
        line = {"noise": noise, "first_rung": first, "compared": compared, "judges_from": least}
        line |= {
            "regret": round(float(regrets.mean()), 4),
            "error": round(float(regrets.std() / len(regrets) ** 0.5), 4),
        }
        print(json.dumps(line | {"epochs": round(float(np.mean([epochs for _, epochs in results])))}), flush=True)


if __name__ == "__main__":
    main()
