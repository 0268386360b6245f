"""What the driver costs: a thousand stub trials, and sixty-four at once.

    python benchmarks/driver_scale.py

*Thousand*: stub trials of nine reports that take no time, two at once, through the real searcher (TPE), scheduler and
an MLflow server. Time per report, the sampler's own taken off, for each hundred trials; goal: the last hundred cost at
most 20 % more than the first. *Wide*: sixty-four stub trials with five-second epochs at once on as many fake GPUs;
goal: once all workers are up, training fills 90 % of the slots' time. No torch is imported. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # the script's folder comes first on the path: the root must
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import ray
from ray import tune

from benchmarks.stub_trial import NUM_REPORTS, Stub
from mlflow_server.serve import ensure_server
from search.core.budget import Budget
from search.core.events import Observer
from search.core.folder import create_search
from search.core.ledger import Ledger, TrialEntry
from search.core.rungs import Rungs, rung_levels
from search.core.space import DefaultSpace
from search.core.stopping import Stopping
from search.engine.cluster import Cluster, connect
from search.engine.fit import TrialPlan, run_trials
from search.engine.study import Study
from search.observers.surroundings import QUIET_MLFLOW
from search.observers.timings import Timings
from search.observers.tracking import Tracking
from trainable.report import Direction, Outcome, TrialReport


class Clock(Observer):
    """What has passed by each trial's start, and every epoch's span."""

    def __init__(self, study: Study) -> None:
        self.sampler_s = 0.0
        self.starts: list[tuple[float, float, float]] = []
        self.turn_rounds_s: list[float] = []
        self.epochs: dict[int, list[tuple[float, float]]] = defaultdict(list)
        sampler = study.study.sampler
        for name in ("infer_relative_search_space", "sample_relative", "sample_independent", "after_trial"):
            setattr(sampler, name, self._timed(getattr(sampler, name)))

    def trial_began(self, entry: TrialEntry) -> None:
        self.note_start()

    def epoch_reported(self, entry: TrialEntry, report: TrialReport) -> None:
        self.epochs[entry.number].append((report.began_at_s, report.ended_at_s))

    def note_start(self) -> None:
        self.starts.append((time.perf_counter(), time.process_time(), self.sampler_s))

    def _timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            began_s = time.perf_counter()
            try:
                return function(*args, **options)
            finally:
                self.sampler_s += time.perf_counter() - began_s

        return call


def run_stubs(
    name: str,
    *,
    home_folder: Path,
    uri: str,
    num_trials: int,
    epoch_s: float,
    cluster: Cluster | None = None,
    num_workers: int = 0,
) -> Clock:
    """One search of stub trials on the Ray that runs, or on `cluster`; what its clock saw.

    With `num_workers`, no trial begins before all of them are up, and as many may start at once as on a cluster.
    """
    cluster = cluster or connect(None, trial_cpus=1)
    if num_workers:
        os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(2 * num_workers)
    folder = create_search(home_folder, name, {})
    study = Study(folder.journal_file, sampler="tpe", seed=0, direction=Direction.MAXIMIZE)
    clock, ledger, timings = Clock(study), Ledger(), Timings()
    tracking = Tracking.open(uri, "driver-scale", name)
    timings.num_slots = cluster.num_slots
    ledger.observers = (clock, study, tracking, timings)
    stub = {"uri": uri, "folder": str(folder.folder), "epoch_s": epoch_s, "num_workers": num_workers}
    plan = TrialPlan(
        trainable=tune.with_parameters(Stub, **stub),
        space=DefaultSpace(("small_cnn", "mobilenet_v3_small", "resnet18"), {}),
        study=study,
        rule=Stopping(Rungs(rung_levels(NUM_REPORTS)), NUM_REPORTS),
        budget=Budget(folder.spent_file),
        num_trials=num_trials,
    )
    run_trials(plan, ledger, cluster, folder.folder)
    clock.note_start()
    assert tracking.close_search(Outcome.COMPLETED, timeout_s=600)
    assert ledger.counts()["completed"] == num_trials
    clock.turn_rounds_s = timings.turn_rounds_s
    return clock


def describe_thousand(clock: Clock, *, window: int) -> dict[str, Any]:
    """Milliseconds a report in every window of trials, without the sampler: on the clock and of the driver's CPU."""
    bounds = [clock.starts[at] for at in range(0, len(clock.starts), window)]
    spans = list(itertools.pairwise(bounds))
    scale = 1000 / (window * NUM_REPORTS)
    wall_ms = [((after[0] - before[0]) - (after[2] - before[2])) * scale for before, after in spans]
    cpu_ms = [((after[1] - before[1]) - (after[2] - before[2])) * scale for before, after in spans]
    sampler_ms = [(after[2] - before[2]) * 1000 / window for before, after in spans]
    return {
        "wall_ms_a_report": [round(value, 2) for value in wall_ms],
        "driver_cpu_ms_a_report": [round(value, 2) for value in cpu_ms],
        "sampler_ms_a_trial": [round(value, 1) for value in sampler_ms],
        "growth": round(wall_ms[-1] / wall_ms[0] - 1, 3),
        "cpu_growth": round(cpu_ms[-1] / cpu_ms[0] - 1, 3),
    }


def describe_wide(clock: Clock, *, num_slots: int, num_trials: int) -> dict[str, Any]:
    """The share of all slots' time that epochs fill, from the moment when every slot trains until trials run out.

    And where the rest went: median seconds between two epochs of a trial, and between two trials of a slot.
    """
    first_began_s = [clock.epochs[number][0][0] for number in range(num_trials)]
    begin_s, end_s = max(first_began_s[:num_slots]), max(first_began_s)
    spans = [span for spans in clock.epochs.values() for span in spans]
    gaps_s = [
        after[0] - before[1]
        for spans_of_trial in clock.epochs.values()
        for before, after in itertools.pairwise(spans_of_trial)
        if begin_s < before[1] < end_s
    ]
    trained_s = sum(max(0.0, min(ended_s, end_s) - max(began_s, begin_s)) for began_s, ended_s in spans)
    return {
        "num_trials": num_trials,
        "window_s": round(end_s - begin_s, 1),
        "epoch_gap_s": round(statistics.median(gaps_s), 3),
        "turn_round_s": round(statistics.median(clock.turn_rounds_s), 3),
        "training_share": round(trained_s / (num_slots * (end_s - begin_s)), 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-trials", type=int, default=1000)
    parser.add_argument("--window", type=int, default=100)
    parser.add_argument("--num-slots", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=4, help="trials a slot in the wide search; 0 leaves it out")
    parser.add_argument("--epoch-s", type=float, default=5.0)
    args = parser.parse_args()
    os.environ.update(QUIET_MLFLOW)
    line: dict[str, Any] = {"benchmark": "driver_scale"}
    with tempfile.TemporaryDirectory() as folder:
        home, num_wide = Path(folder), args.num_slots * args.rounds
        with ensure_server(home / "mlflow") as server:
            clock = run_stubs("thousand", home_folder=home, uri=server.uri, num_trials=args.num_trials, epoch_s=0)
            line["thousand"] = describe_thousand(clock, window=args.window)
            print(json.dumps(line), file=sys.stderr)
            ray.shutdown()
            if num_wide:
                ray.init(
                    address="local",
                    num_cpus=args.num_slots,
                    num_gpus=args.num_slots,
                    include_dashboard=False,
                    log_to_driver=False,
                )
                clock = run_stubs(
                    "wide",
                    home_folder=home,
                    uri=server.uri,
                    num_trials=num_wide,
                    epoch_s=args.epoch_s,
                    num_workers=args.num_slots,
                )
                line["wide"] = describe_wide(clock, num_slots=args.num_slots, num_trials=num_wide)
                ray.shutdown()
    print(json.dumps(line))


if __name__ == "__main__":
    main()
