"""A search of two thousand stub trials: what driver and server hold grows no more, and MLflow has it all.

    python benchmarks/soak.py --num-trials 2000
    python benchmarks/soak.py --killed

Stub trials of nine reports that take no time, two at once, through the real searcher (TPE), scheduler and an MLflow
server. Every two seconds: memory, open files and sockets of the driver, of the server's processes and of the workers;
`growth` is their slope over the last three quarters, in MB (or in number) per thousand trials, beside what each had at
the end. `lost` names what MLflow or the journal lacks.

With `--killed` 64 stub trials run at once, on as many fake cores, and the driver is killed with -9 twice. Prints one
JSON line; the exit status is 1 where anything was lost.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # the script's folder comes first on the path: the root must
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import psutil
from mlflow import MlflowClient
from optuna.trial import TrialState
from ray import tune

from benchmarks.chaos_search import read_command, read_trials
from benchmarks.stub_trial import NUM_REPORTS, Stub
from mlflow_server.serve import ensure_server
from search.core.budget import Budget
from search.core.folder import create_search, list_searches, reopen_search
from search.core.ledger import Ledger
from search.core.rungs import Rungs, rung_levels
from search.core.space import DefaultSpace
from search.core.stopping import Stopping
from search.engine.cluster import connect
from search.engine.fit import TrialPlan, run_trials
from search.engine.study import Study
from search.observers.surroundings import QUIET_MLFLOW
from search.observers.tracking import Tracking
from trainable.report import Direction, Outcome

NAME = "soak"
LOOK_S = 2.0
KINDS = ("driver", "server", "workers")
FACTS = ("mb", "files", "sockets")


class Watch(threading.Thread):
    """Samples what processes hold, until `ended` is set: rows of (trials begun, then `FACTS` of each of `KINDS`)."""

    def __init__(self, server: psutil.Process, ledger: Ledger) -> None:
        super().__init__(name="watch", daemon=True)
        self.server = server
        self.ledger = ledger
        self.rows: list[list[float]] = []
        self.ended = threading.Event()

    def run(self) -> None:
        while not self.ended.wait(LOOK_S):
            driver = psutil.Process()
            workers = [child for child in driver.children(recursive=True) if "Stub" in read_name(child)]
            groups = ([driver], [self.server, *self.server.children(recursive=True)], workers)
            self.rows.append([len(self.ledger.entries), *(fact for group in groups for fact in measure(group))])

    def describe(self) -> dict[str, Any]:
        """The slope of each fact over the last three quarters, per thousand trials, and its value at the end."""
        rows = np.array(self.rows[len(self.rows) // 4 :])
        names = [f"{kind}_{fact}" for kind in KINDS for fact in FACTS]
        slopes = {name: np.polyfit(rows[:, 0], rows[:, at], 1)[0] * 1000 for at, name in enumerate(names, start=1)}
        return {
            "growth": {name: round(float(slope), 2) for name, slope in slopes.items()},
            "end": {name: round(float(rows[-1, at]), 1) for at, name in enumerate(names, start=1)},
        }


def read_name(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline()[:1])
    except psutil.Error:
        return ""


def measure(processes: list[psutil.Process]) -> tuple[float, float, float]:
    """Resident MB, open files (sockets included) and sockets of these processes together."""
    mb = files = sockets = 0.0
    for process in processes:
        try:
            mb += process.memory_info().rss / 1e6
            files += process.num_fds()
            sockets += len(process.net_connections("inet"))
        except psutil.Error:  # it has just ended
            continue
    return mb, files, sockets


def run_session(home: Path, uri: str, *, num_trials: int, num_slots: int, epoch_s: float) -> dict[str, Any]:
    """Begin the search, or go on with it where an earlier driver was killed; what the watch has seen."""
    if num_slots > 2:
        import ray

        os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(2 * num_slots)
        ray.init(address="local", num_cpus=num_slots, include_dashboard=False, log_to_driver=False)
    cluster = connect(None, trial_cpus=1)
    folder = reopen_search(home, NAME) if NAME in list_searches(home) else create_search(home, NAME, {})
    study = Study(folder.journal_file, sampler="tpe", seed=0, direction=Direction.MAXIMIZE)
    ledger = Ledger()
    study.restore(ledger)
    tracking = Tracking.open(uri, "soak", NAME, parent_run_id=folder.read_record().get("parent_run_id"))
    folder.update_record(parent_run_id=tracking.parent_run_id)
    if folder.resumed:
        tracking.send_spools(sorted(folder.folder.glob("*.jsonl")), ledger.entries)
        tracking.fix(ledger.ended(), keep=ledger.interrupted())
    ledger.observers = (study, tracking)
    stub = {"uri": uri, "folder": str(folder.folder), "epoch_s": epoch_s}
    plan = TrialPlan(
        trainable=tune.with_parameters(Stub, **stub),
        space=DefaultSpace(("small_cnn", "mobilenet_v3_small", "resnet18"), {}),
        study=study,
        rule=Stopping(Rungs(rung_levels(NUM_REPORTS)), NUM_REPORTS),
        budget=Budget(folder.spent_file),
        num_trials=num_trials,
    )
    server = psutil.Process(json.loads((home / "mlflow" / "server.json").read_text())["pid"])
    watch = Watch(server, ledger)
    watch.start()
    run_trials(plan, ledger, cluster, folder.folder)
    watch.ended.set()
    watch.join()
    assert tracking.close_search(Outcome.COMPLETED, timeout_s=600)
    return watch.describe() if len(watch.rows) > 8 else {}


def find_losses(home: Path, uri: str, num_trials: int) -> list[str]:
    """What the journal or MLflow lacks, has twice or has left open, in words."""
    folder, lost = home / "searches" / NAME, list[str]()
    states = Counter(trial.state for trial in read_trials(folder) if "params" in trial.user_attrs)
    if states != {TrialState.COMPLETE: num_trials}:
        lost.append(f"trials of the journal by state: {dict(states)}")
    client = MlflowClient(uri)
    parent = client.get_run(json.loads((folder / "search.json").read_text())["parent_run_id"])
    numbers, token = Counter[int](), None
    while True:
        children = f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
        page = client.search_runs([parent.info.experiment_id], children, page_token=token)
        for run in page:
            number = int(run.data.tags["trial"])
            numbers[number] += 1
            steps = sorted(point.step for point in client.get_metric_history(run.info.run_id, "val_auc"))
            if run.info.status != "FINISHED" or steps != list(range(1, NUM_REPORTS + 1)):
                lost.append(f"run of trial {number}: {run.info.status}, epochs {steps}")
        if not (token := page.token):
            break
    if numbers != Counter(range(num_trials)):
        lost.append(f"runs by trial: {len(numbers)} trials, {numbers.total()} runs")
    return lost


def kill_drivers(home: Path, uri: str, *, num_trials: int, num_slots: int, epoch_s: float) -> list[int]:
    """The search in processes of its own, of which the first two are killed with -9 while nine of ten slots train.

    How many trials ran each time.
    """
    running = list[int]()
    command = [sys.executable, __file__, "--driver", str(home), uri, "--num-trials", str(num_trials)]
    command += ["--num-slots", str(num_slots), "--epoch-s", str(epoch_s)]
    for _ in range(2):
        driver = subprocess.Popen(command, start_new_session=True)
        num_running = 0
        while num_running < 0.9 * num_slots:
            assert driver.poll() is None, "the driver has ended"
            time.sleep(0.5)
            below = psutil.Process(driver.pid).children(recursive=True)
            num_running = sum(".train" in read_command(process) for process in below)
        driver.send_signal(signal.SIGKILL)
        driver.wait()
        running.append(num_running)
    subprocess.run(command, check=True)
    return running


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-trials", type=int, help="default: 2000, with --killed 128")
    parser.add_argument("--killed", action="store_true", help="64 trials at once, the driver killed twice")
    parser.add_argument("--num-slots", type=int, default=64, help="with --killed (default: 64)")
    parser.add_argument("--epoch-s", type=float, default=12.0, help="with --killed (default: 12)")
    parser.add_argument("--driver", nargs=2, metavar=("HOME", "URI"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    os.environ.update(QUIET_MLFLOW)
    num_trials = args.num_trials or (128 if args.killed else 2000)
    wide = {"num_trials": num_trials, "num_slots": args.num_slots, "epoch_s": args.epoch_s}
    if args.driver:
        run_session(Path(args.driver[0]), args.driver[1], **wide)
        return 0
    began_s = time.monotonic()
    line: dict[str, Any] = {"benchmark": "soak", "num_trials": num_trials}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        home = Path(folder)
        with ensure_server(home / "mlflow") as server:
            if args.killed:
                line |= {"killed": 2, "running_when_killed": kill_drivers(home, server.uri, **wide)}
            else:
                line |= run_session(home, server.uri, num_trials=num_trials, num_slots=2, epoch_s=0.0)
            line["lost"] = find_losses(home, server.uri, num_trials)
    print(json.dumps({**line, "total_s": round(time.monotonic() - began_s)}))
    return 1 if line["lost"] else 0


if __name__ == "__main__":
    sys.exit(main())
