"""How a time budget should end on recorded curves: what its champion's members are worth, and what is left unused.

    python benchmarks/finishing.py --curves ../shared/data/curves/taskset --seeds 5

Every search hands over its best five full-length trials, whose mean is the champion. Prints one JSON line a budget,
noise and way to end: the mean regret of these five where they ended (a member that is missing counts 1), how many
trials came to their end, and the share of the workers' time that was left. Beside it the difference in regret to the
first way with a 95 % interval of a bootstrap over tasks and seeds.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

sys.path[0] = str(Path(__file__).resolve().parents[1])  # as a script, benchmarks/ comes first on the path
from benchmarks.curve_clock import noisy, simulate  # noqa: E402
from benchmarks.curve_contenders import TableSampler  # noqa: E402
from benchmarks.curve_optuna import build_tpe  # noqa: E402
from benchmarks.curve_tables import CurveTable, read_tables  # noqa: E402
from benchmarks.curves import interval  # noqa: E402
from search.core.budget import Left  # noqa: E402
from search.core.decisions import Decision  # noqa: E402
from search.core.finishing import Finishing  # noqa: E402
from search.core.freeze_thaw import FreezeThaw  # noqa: E402

NUM_MEMBERS = 5


class FixedShare(Finishing):
    """A fifth of the budget is kept for the finalists, however little they need: the rule until November 2026."""

    def next(self, *, may_begin: bool = True) -> Decision:
        if self.left(1).share <= 0.2:
            return self._go_on(self.finalists())
        return self.inner.next(may_begin=may_begin)


class Unfinished(Finishing):
    """Nothing is kept: the rule decides until the time is up."""

    def next(self, *, may_begin: bool = True) -> Decision:
        return self.inner.next(may_begin=may_begin)


WAYS: dict[str, Callable[..., Finishing]] = {"kept as needed": Finishing, "fixed share": FixedShare, "none": Unfinished}


def search(
    table: CurveTable, way: Callable[..., Finishing], *, seed: int, noise: float, workers: int, trainings: int
) -> tuple[float, int, float]:
    """One search: the regret of its members, how many trials came to their end, and the share of time left."""
    seed = table.own_seed(seed)
    proposals = TableSampler(table, build_tpe(seed, is_group=True), seed=seed)
    clock = [0.0]
    budget_s = trainings * table.full_training_s / workers

    def left(num_workers: int) -> Left:
        return Left(budget_s - clock[0], 1 - clock[0] / budget_s)

    rule = way(FreezeThaw(proposals, max_epochs=table.max_epochs, seed=seed), NUM_MEMBERS, left=left)
    seen = noisy(table, noise, seed)
    trace = simulate(
        table,
        rule,
        proposals,
        num_workers=workers,
        seen=seen,
        seconds=budget_s,
        tick=partial(clock.__setitem__, 0),
    )
    ended = [trial for trial in rule.board.trials.values() if trial.epoch >= table.lengths[trace.rows[trial.number]]]
    ended.sort(key=lambda trial: -trial.last_score)
    worth = [float(table.values[trace.rows[trial.number], trial.epoch - 1]) for trial in ended[:NUM_MEMBERS]]
    worth += [0.0] * (NUM_MEMBERS - len(worth))
    return 1 - float(np.mean(np.clip(worth, 0, 1))), len(ended), 1 - trace.busy_s / (budget_s * workers)


def compare(
    tables: Sequence[CurveTable], *, seeds: int, noises: Sequence[float], workers: int, budgets: Sequence[int]
) -> Iterator[dict[str, Any]]:
    for trainings in budgets:
        for noise in noises:
            first: np.ndarray | None = None
            for name, way in WAYS.items():
                found = np.array(
                    [
                        [
                            search(table, way, seed=seed, noise=noise, workers=workers, trainings=trainings)
                            for seed in range(seeds)
                        ]
                        for table in tables
                    ]
                )
                regrets = found[..., 0]
                line = {
                    "trainings": trainings,
                    "workers": workers,
                    "noise": noise,
                    "way": name,
                    "regret_of_members": round(float(regrets.mean()), 4),
                    "ended": round(float(found[..., 1].mean()), 1),
                    "left": round(float(found[..., 2].mean()), 3),
                }
                if first is None:
                    first = regrets
                else:
                    difference = first - regrets
                    line["first_minus_this"] = [
                        round(value, 4) for value in (float(difference.mean()), *interval(difference))
                    ]
                yield line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--curves", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--noise", default="0,0.05")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--trainings", default="8,16", help="full trainings that a search may spend")
    args = parser.parse_args()
    lines = compare(
        read_tables(args.curves),
        seeds=args.seeds,
        noises=[float(text) for text in args.noise.split(",")],
        workers=args.workers,
        budgets=[int(text) for text in args.trainings.split(",")],
    )
    for line in lines:
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
