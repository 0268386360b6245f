"""Whether the first rung should be later, or a rung more lenient, where values are noisy: on recorded learning curves.

    python benchmarks/rung_noise.py --curves ../shared/data/curves

Random draws, with a simulated clock and W workers (benchmarks/curves.py). Of promotion, which pauses: its first rung
after one epoch; after three; after three once the noise seen (search/core/noise.py) is a fifth of the range; and passed
over wherever the scores of a rung differ by no more than their noise makes them. Of ASHA, which stops: as it is, and
stopping nobody who is within a standard error of the difference to those who go on. Prints one JSON line a rule and
noise: the area of regret, by how much it is above that of the first rule of its kind, with a 95 % interval of a paired
bootstrap over tasks and seeds, and the trials of a search.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path[0] = str(Path(__file__).resolve().parents[1])  # as a script, benchmarks/ comes first on the path
from benchmarks.curve_clock import noisy, simulate  # noqa: E402
from benchmarks.curve_contenders import RandomProposer  # noqa: E402
from benchmarks.curve_tables import CurveTable, read_tables  # noqa: E402
from benchmarks.curves import STEPS, area_of, interval  # noqa: E402
from search.core.board import WORST, Standing, geometric_levels  # noqa: E402
from search.core.decisions import Decision, Rule, Verdict  # noqa: E402
from search.core.noise import TO_DEVIATION, NoiseEstimate  # noqa: E402
from search.core.promotion import Promotion, find_promotion  # noqa: E402
from search.core.rungs import Rungs, rung_levels  # noqa: E402
from search.core.stopping import Stopping  # noqa: E402

FACTOR = 3
MUCH_NOISE = 0.2
LEAST_TRIALS = 6
TO_SPREAD = 1 / 1.349
"""From the distance between quartiles to the standard deviation of a normal distribution."""


class LaterRung(Promotion):
    """Promotion whose first rung is the one that `find_first` says; who waits below it goes on to it at once."""

    def __init__(self, max_epochs: int, find_first: Callable[[LaterRung], int]) -> None:
        super().__init__(geometric_levels(max_epochs, factor=FACTOR), factor=FACTOR)
        self.noise = NoiseEstimate()
        self.find_first = find_first

    def report(self, number: int, epoch: int, value: float, *facts: float | None) -> Verdict:
        verdict = self.board.report(number, epoch, value, *facts)
        self.noise.note(self.board.trials[number], epoch)
        return verdict

    def next(self, *, may_begin: bool = True) -> Decision:
        rungs = self.board.levels[self.find_first(self) :]
        trial = find_promotion(self.board, rungs, factor=FACTOR, at_least=0 if may_begin else 1)
        below = [t for t in self.board.trials.values() if t.is_waiting and t.last_score > WORST and t.epoch < rungs[0]]
        if trial is None and below:
            return self.board.resume(max(below, key=lambda t: t.last_score), rungs)
        return self.board.resume(trial) if trial is not None else self.board.new() if may_begin else None


def second_if_noisy(rule: LaterRung) -> int:
    """The noise is set beside the range from the median first value to the best."""
    curves = [[v for v in t.values.values() if math.isfinite(v)] for t in rule.board.trials.values()]
    first, best = [curve[0] for curve in curves if curve], [max(curve) for curve in curves if curve]
    return int(rule.noise.is_known and rule.noise.deviation() >= MUCH_NOISE * (max(best) - float(np.median(first))))


def first_that_tells(rule: LaterRung) -> int:
    """The first rung whose scores differ by more than their noise, or that few have come to."""
    deviation = float(np.median(rule.noise.differences or [0.0])) * TO_DEVIATION
    for place, level in enumerate(rule.board.levels[:-2]):
        there = [trial for trial in rule.board.trials.values() if trial.scores.get(level, WORST) > WORST]
        if len(there) < LEAST_TRIALS:
            return place
        low, high = np.percentile([trial.scores[level] for trial in there], [25, 75])
        if (high - low) * TO_SPREAD > deviation / math.sqrt(there[0].num_averaged[level]):
            return place
    return len(rule.board.levels) - 2


class WithinNoise(Stopping):
    """ASHA that stops nobody for a difference within its standard error."""

    def __init__(self, max_epochs: int) -> None:
        super().__init__(Rungs(rung_levels(max_epochs), reduction_factor=FACTOR), max_epochs)
        self.noise = NoiseEstimate()

    def report(self, number: int, epoch: int, value: float, *facts: float | None) -> Verdict:
        verdict = super().report(number, epoch, value, *facts)
        self.noise.note(Standing(number, {}, values=self.values[number]), epoch)
        if verdict is not Verdict.STOP or epoch >= self.max_epochs:
            return verdict
        rung, num_averaged = self.rungs.records[epoch], epoch - self.rungs.previous[epoch]
        last_kept = sorted(rung.values(), reverse=True)[max(len(rung) // FACTOR, 1) - 1]
        error = float(np.median(self.noise.differences or [0.0])) * TO_DEVIATION * math.sqrt(2 / num_averaged)
        return Verdict.CONTINUE if rung[number] + error >= last_kept else verdict


RULES: Mapping[str, Callable[[int], Rule]] = {
    "promotion": lambda end: LaterRung(end, lambda rule: 0),
    "promotion, from 3 on": lambda end: LaterRung(end, lambda rule: 1),
    "promotion, from 3 on if noisy": lambda end: LaterRung(end, second_if_noisy),
    "promotion, where a rung tells": lambda end: LaterRung(end, first_that_tells),
    "asha": lambda end: Stopping(Rungs(rung_levels(end), reduction_factor=FACTOR), end),
    "asha, within noise": WithinNoise,
}


def run_case(case: tuple[str, CurveTable, float, int, int, int]) -> tuple[NDArray[np.float64], int]:
    """Regret after each 1 / STEPS of a full training, and how many trials it took."""
    name, table, noise, seed, num_workers, trainings = case
    seed = table.own_seed(seed)
    full = table.full_training_s / num_workers
    trace = simulate(
        table,
        RULES[name](table.max_epochs),
        RandomProposer(seed, len(table.params)),
        num_workers=num_workers,
        seen=noisy(table, noise, seed),
        seconds=trainings * full,
    )
    return trace.regrets_at(np.arange(1, trainings * STEPS + 1) / STEPS * full), trace.num_trials


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--curves", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--noise", default="0,0.05,0.1,0.2,0.4,0.8")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--trainings", type=int, default=10)
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    args = parser.parse_args()
    tables = read_tables(args.curves)
    first: dict[tuple[str, float], NDArray[np.float64]] = {}
    with ProcessPoolExecutor(args.jobs) as pool:
        for noise, name in product(map(float, args.noise.split(",")), RULES):
            cases = [
                (name, table, noise, seed, args.workers, args.trainings)
                for table in tables
                for seed in range(args.seeds)
            ]
            results = list(pool.map(run_case, cases, chunksize=4))
            areas = area_of(np.array([regrets for regrets, _ in results])).reshape(len(tables), -1)
            above = areas - first.setdefault((name.partition(",")[0], noise), areas)
            line = {"noise": noise, "rule": name, "area": round(float(areas.mean()), 4)}
            line["above"] = [round(value, 3) for value in (float(above.mean()), *interval(above))]
            line["trials"] = round(float(np.mean([num_trials for _, num_trials in results])), 1)
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
