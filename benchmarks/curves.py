"""Searches on recorded learning curves, side by side: how good is what they hold after so many epochs?

    python benchmarks/curves.py --curves ../shared/data/curves/taskset --quick

Every contender searches every task under a folder (benchmarks/curve_tables.py says which files) with a simulated clock
and W workers; no model is trained. The rules are those of a real search (search/core). Random draws of a task
and seed are the same for all contenders, but for Syne Tune's, as long as they tried the same: luck is shared.

Prints one JSON line a contender, W and noise: the area of its regret over the first 10 full trainings, the regret after
some of them, the epochs to stock's last regret over stock's, and the difference in area to ours with a 95 % interval of
a paired bootstrap over tasks and seeds. Regret is of the true value of what is handed over: 0 is the best of the table,
1 what the median configuration has before it was trained.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path[0] = str(Path(__file__).resolve().parents[1])  # as a script, benchmarks/ comes first on the path
from benchmarks.curve_clock import noisy, simulate  # noqa: E402
from benchmarks.curve_contenders import CONTENDERS  # noqa: E402
from benchmarks.curve_tables import CurveTable, read_tables  # noqa: E402

OURS, STOCK = "freeze-thaw", "stock"
AREA_TRAININGS, STEPS = 10, 100
MARKS = (2, 5, 10, 20, 40)
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Case:
    """One search: who, where, and how."""

    contender: str
    table: CurveTable
    num_workers: int
    noise: float
    seed: int
    trainings: int


def run_case(case: Case) -> tuple[Array, int]:
    """Regret after each 1 / STEPS of a full training, (trainings * STEPS), and how many trials it took."""
    seed = case.table.own_seed(case.seed)
    rule, proposer = CONTENDERS[case.contender](case.table, seed)
    full = case.table.full_training_s / case.num_workers
    seen = noisy(case.table, case.noise, seed)
    trace = simulate(case.table, rule, proposer, num_workers=case.num_workers, seen=seen, seconds=case.trainings * full)
    grid = np.arange(1, case.trainings * STEPS + 1) / STEPS * full
    return trace.regrets_at(grid), trace.num_trials


def summary(regrets: Array, stock: Array | None, ours: Array | None) -> dict[str, Any]:
    """Of one contender's (tasks, seeds, steps) of regret, beside stock's and ours."""
    trainings = regrets.shape[-1] // STEPS
    line: dict[str, Any] = {"area": round(float(area_of(regrets).mean()), 4)}
    line["regret_at"] = {
        mark: round(float(regrets[..., mark * STEPS - 1].mean()), 4) for mark in MARKS if mark <= trainings
    }
    mean = regrets.mean(axis=(0, 1))
    if stock is not None:
        end = min(trainings, AREA_TRAININGS) * STEPS - 1
        reached = np.flatnonzero(mean <= stock.mean(axis=(0, 1))[end])
        line["epochs_to_stock"] = round(float((reached[0] + 1) / (end + 1)), 3) if len(reached) else None
    if ours is not None:
        difference = area_of(ours) - area_of(regrets)
        line["ours_minus_this"] = [round(value, 4) for value in (float(difference.mean()), *interval(difference))]
    return line


def area_of(regrets: Array) -> Array:
    return regrets[..., : AREA_TRAININGS * STEPS].mean(axis=-1)


def interval(differences: Array, *, num_draws: int = 10_000) -> tuple[float, float]:
    """95 % of the mean of (tasks, seeds), by a bootstrap over tasks and, within each, over seeds."""
    generator = np.random.default_rng(0)
    num_tasks, num_seeds = differences.shape
    tasks = generator.integers(num_tasks, size=(num_draws, num_tasks, 1))
    seeds = generator.integers(num_seeds, size=(num_draws, num_tasks, num_seeds))
    low, high = np.percentile(differences[tasks, seeds].mean(axis=(1, 2)), [2.5, 97.5])
    return float(low), float(high)


def compare(
    tables: Sequence[CurveTable],
    contenders: Sequence[str],
    *,
    workers: Iterable[int],
    noises: Iterable[float],
    seeds: range,
    trainings: int,
    num_jobs: int,
) -> Iterable[dict[str, Any]]:
    references = [name for name in (STOCK, OURS) if name in contenders]
    with ProcessPoolExecutor(num_jobs) as pool:
        for num_workers, noise in product(workers, noises):

            def run(name: str, num_workers: int = num_workers, noise: float = noise) -> tuple[Array, int]:
                cases = [Case(name, table, num_workers, noise, seed, trainings) for table in tables for seed in seeds]
                results = list(pool.map(run_case, cases))
                regrets = np.array([each for each, _ in results]).reshape(len(tables), len(seeds), -1)
                return regrets, round(float(np.mean([num for _, num in results])))

            found = {name: run(name) for name in references}  # what every line is set beside
            stock, ours = (found[name][0] if name in found else None for name in (STOCK, OURS))
            for name in [*references, *(name for name in contenders if name not in references)]:
                regrets, num_trials = found[name] if name in found else run(name)
                line = {"contender": name, "workers": num_workers, "noise": noise, "seeds": len(seeds)}
                line |= summary(regrets, stock, ours if name != OURS else None)
                yield line | {"trials": num_trials, "by_task": by_task(tables, regrets)}


def by_task(tables: Sequence[CurveTable], regrets: Array) -> dict[str, float]:
    areas = area_of(regrets).mean(axis=1)
    return {table.name: round(float(value), 3) for table, value in zip(tables, areas, strict=True)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--curves", type=Path, required=True)
    parser.add_argument("--quick", action="store_true", help="3 seeds, 4 workers, noise 0 and 0.05, 10 trainings")
    parser.add_argument("--seeds", type=int, help="how many")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--workers", default=None, help="such as 1,4,16,64")
    parser.add_argument("--noise", default=None, help="such as 0,0.05,0.1")
    parser.add_argument("--trainings", type=int, default=None, help="full trainings that a search may spend")
    parser.add_argument("--only", help="contenders, such as freeze-thaw,stock; all: " + ", ".join(CONTENDERS))
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    args = parser.parse_args()
    num_seeds = args.seeds or (3 if args.quick else 20)
    lines = compare(
        read_tables(args.curves),
        args.only.split(",") if args.only else list(CONTENDERS),
        workers=[int(text) for text in (args.workers or ("4" if args.quick else "1,4,16,64")).split(",")],
        noises=[float(text) for text in (args.noise or ("0,0.05" if args.quick else "0,0.05,0.1")).split(",")],
        seeds=range(args.first_seed, args.first_seed + num_seeds),
        trainings=args.trainings or (10 if args.quick else 40),
        num_jobs=args.jobs,
    )
    for line in lines:
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
