"""What the first points of an earlier search are worth to the next, on recorded curves: nothing is trained.

    python benchmarks/warm_start.py --curves ../shared/data/curves/taskset --seeds 2

Of each task one search (promotion with group TPE, 4 workers), and others that begin with three trials of an earlier
search: the best of one of the same task, the best of one of each other task, and the worst of one of the same task.
All tables must hold the same configurations in the same order. Prints one JSON line a kind of knowledge: the mean area
of regret, and its difference to the cold search with a 95 % interval of a bootstrap over tasks and seeds.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path[0] = str(Path(__file__).resolve().parents[1])  # as a script, benchmarks/ comes first on the path
from benchmarks.curve_clock import noisy, simulate  # noqa: E402
from benchmarks.curve_optuna import OptunaProposer, build_tpe  # noqa: E402
from benchmarks.curve_tables import CurveTable, read_tables  # noqa: E402
from benchmarks.curves import Array, interval  # noqa: E402
from search.core.board import geometric_levels  # noqa: E402
from search.core.promotion import Promotion  # noqa: E402
from search.engine.sampling import WARM, PausedCount  # noqa: E402

STEPS = 100


class Warm(OptunaProposer):
    """Proposes some rows first."""

    def __init__(self, table: CurveTable, seed: int, first: Sequence[int]) -> None:
        super().__init__(table, PausedCount(build_tpe(seed, is_group=True), ()), seed=seed)
        self.first = list(first)
        self.rows: dict[int, int] = {}

    def propose(self, number: int) -> int:
        if self.first:
            row = self.first.pop(0)
            self.adopt(number, row)
            trial = self.study.get_trials(deepcopy=False)[self.numbers[number]]
            self.storage.set_trial_user_attr(trial._trial_id, WARM, True)
        else:
            row = super().propose(number)
        self.rows[number] = row
        return row


def search(
    table: CurveTable, seed: int, noise: float, trainings: int, first: Sequence[int] = ()
) -> tuple[Array, list[int]]:
    """Regret over time, and the rows that it tried, best first."""
    seed = table.own_seed(seed)
    rule = Promotion(geometric_levels(table.max_epochs, factor=3), factor=3)
    full = table.full_training_s / 4
    proposer = Warm(table, seed, first)
    trace = simulate(table, rule, proposer, num_workers=4, seen=noisy(table, noise, seed), seconds=trainings * full)
    judged = [trial for trial in rule.board.trials.values() if trial.scores]
    judged.sort(key=lambda trial: (-trial.epoch, -trial.last_score))
    grid = np.arange(1, trainings * STEPS + 1) / STEPS * full
    return trace.regrets_at(grid), [proposer.rows[trial.number] for trial in judged]


def compare(
    tables: Sequence[CurveTable], num_seeds: int, noise: float, trainings: int, num_points: int
) -> list[dict[str, Any]]:
    areas: dict[str, list[list[float]]] = {"cold": [], "same task": [], "other tasks": [], "worst of the same": []}
    for task, table in enumerate(tables):
        rows: dict[str, list[float]] = {kind: [] for kind in areas}
        for seed in range(num_seeds):
            known = [search(other, seed + 100, noise, trainings)[1] for other in tables]
            best = [tried[:num_points] for tried in known]
            rows["cold"].append(search(table, seed, noise, trainings)[0].mean())
            rows["same task"].append(search(table, seed, noise, trainings, best[task])[0].mean())
            others = [points for other, points in enumerate(best) if other != task]
            rows["other tasks"].append(
                float(np.mean([search(table, seed, noise, trainings, points)[0].mean() for points in others]))
            )
            worst = known[task][-num_points:]
            rows["worst of the same"].append(search(table, seed, noise, trainings, worst)[0].mean())
        for kind, task_areas in rows.items():
            areas[kind].append(task_areas)
    cold = np.array(areas["cold"])
    lines = []
    for kind, values in areas.items():
        difference = np.array(values) - cold
        figures = [round(value, 4) for value in (float(difference.mean()), *interval(difference))]
        by_task = {table.name: round(float(row.mean()), 3) for table, row in zip(tables, difference, strict=True)}
        lines.append({"knowledge": kind, "area": round(float(np.mean(values)), 4), "minus_cold": figures} | by_task)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--curves", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--noise", type=float, default=0.05)
    parser.add_argument("--trainings", type=int, default=6, help="full trainings of each search")
    parser.add_argument("--points", type=int, default=3, help="trials of the earlier search that come first")
    args = parser.parse_args()
    for line in compare(read_tables(args.curves), args.seeds, args.noise, args.trainings, args.points):
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
