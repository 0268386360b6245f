"""When `--stop-when converged` ends a search on recorded curves, and what it forgoes by that.

    python benchmarks/converged.py --curves ../shared/data/curves/taskset --seeds 3

Prints one JSON line a noise and rule: the full trainings after which the median search ended (of those that it might
have spent), the regret where it ended, and the regret of the same search that went on to the end of its budget.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

sys.path[0] = str(Path(__file__).resolve().parents[1])  # as a script, benchmarks/ comes first on the path
from benchmarks.curve_clock import Trace, noisy, simulate  # noqa: E402
from benchmarks.curve_contenders import TableSampler  # noqa: E402
from benchmarks.curve_optuna import build_tpe  # noqa: E402
from benchmarks.curve_tables import CurveTable, read_tables  # noqa: E402
from search.core.board import geometric_levels  # noqa: E402
from search.core.convergence import Converging  # noqa: E402
from search.core.decisions import Rule  # noqa: E402
from search.core.finishing import Finishing  # noqa: E402
from search.core.freeze_thaw import FreezeThaw  # noqa: E402
from search.core.promotion import Promotion  # noqa: E402


def search(table: CurveTable, name: str, seed: int, noise: float, trainings: int, *, ends: bool) -> tuple[Trace, Any]:
    """One search with 4 workers, which may end by itself."""
    seed = table.own_seed(seed)
    proposals = TableSampler(table, build_tpe(seed, is_group=True), seed=seed)
    model = FreezeThaw(proposals, max_epochs=table.max_epochs, seed=seed)
    inner: Promotion | FreezeThaw = Promotion(geometric_levels(table.max_epochs, factor=3), factor=3)
    if name == "freeze-thaw":
        inner = FreezeThaw(proposals, max_epochs=table.max_epochs, seed=seed)
    rule: Rule = inner
    if ends:
        watched = Converging(inner, model)
        watched.inner = Finishing(inner, 1, is_end=lambda: watched.is_reached)
        rule = watched
    seen, full = noisy(table, noise, seed), table.full_training_s / 4
    return simulate(table, rule, proposals, num_workers=4, seen=seen, seconds=trainings * full), rule


def compare(tables: list[CurveTable], seeds: int, noises: list[float], trainings: int) -> Iterator[dict[str, Any]]:
    for noise in noises:
        for name in ("promotion", "freeze-thaw"):
            rows = []
            for table in tables:
                for seed in range(seeds):
                    ended, rule = search(table, name, seed, noise, trainings, ends=True)
                    whole, _ = search(table, name, seed, noise, trainings, ends=False)
                    full = np.array([trainings * table.full_training_s / 4])
                    spent = ended.num_epochs / table.max_epochs
                    rows.append((spent, rule.is_reached, ended.regrets_at(full)[0], whole.regrets_at(full)[0]))
            found = np.array(rows, dtype=float)
            forgone = found[:, 2] - found[:, 3]
            yield {
                "rule": name,
                "noise": noise,
                "ended": round(float(found[:, 1].mean()), 3),
                "trainings_spent": np.percentile(found[:, 0], [10, 50, 90]).round(1).tolist(),
                "regret_ended": round(float(found[:, 2].mean()), 4),
                "regret_whole": round(float(found[:, 3].mean()), 4),
                "forgone_worst": round(float(forgone.max()), 4),
            }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--curves", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--noise", default="0,0.05")
    parser.add_argument("--trainings", type=int, default=20, help="full trainings that a search may spend")
    args = parser.parse_args()
    noises = [float(text) for text in args.noise.split(",")]
    for line in compare(read_tables(args.curves), args.seeds, noises, args.trainings):
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
