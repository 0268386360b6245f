"""Faults really caused in a small real search of the synthetic set: what was caused, what was lost, what it cost.

    python benchmarks/chaos.py --quick --seed 1

A seeded choice of faults hits one search, one after another; whenever its driver is dead it is resumed. One JSON line:
`caused` counts the faults, `lost` names what is missing afterwards (empty: nothing), `goodput` is the share of the
trials' paid time that ended in an epoch that counts. The exit status is 1 where anything was lost.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from mlflow import MlflowClient
from optuna.trial import FrozenTrial, TrialState

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from mlflow_server.serve import ensure_server  # noqa: E402
from search.core.folder import view_search  # noqa: E402

NAME, PATIENCE_S = "chaos", 900.0
OPTIONS = ("--arch", "small_cnn", "--image-size", "64", "--trial-cpus", "1", "--range", "cnn_filters=8")
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


def read_trials(folder: Path) -> list[FrozenTrial]:
    """What the journal holds, also while it is written."""
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    journal = folder / "optuna.journal"
    if not journal.exists():
        return []
    storage = JournalStorage(JournalFileBackend(str(journal)))
    return storage.get_all_trials(study._study_id) if (study := next(iter(storage.get_all_studies()), None)) else []


def count_epochs(folder: Path) -> int:
    return sum(len(trial.intermediate_values) for trial in read_trials(folder))


class Chaos:
    """One search and what is done to it. `known` are the trials that had finished, with their values."""

    def __init__(self, home: Path, *, num_trials: int, max_epochs: int, seed: int) -> None:
        self.home = home
        self.folder = home / "searches" / NAME
        self.options = ["--num-trials", str(num_trials), "--max-epochs", str(max_epochs), *OPTIONS]
        self.num_trials = num_trials
        self.random = random.Random(seed)
        self.caused: Counter[str] = Counter()
        self.known: dict[int, dict[int, float]] = {}
        self.log = (home / "chaos.log").open("w")
        self.driver = self.start()

    def start(self) -> subprocess.Popen[bytes]:
        """Begin, or go on where the search has a folder."""
        exists = (self.folder / "search.json").exists()
        how = ["--resume", NAME] if exists else ["--name", NAME, *self.options]
        command = [sys.executable, "-m", "search.cli", "search", "--home", str(self.home), *how]
        return subprocess.Popen(command, cwd=ROOT, stdout=self.log, stderr=subprocess.STDOUT, start_new_session=True)

    def wait(self, holds: Callable[[], bool]) -> bool:
        """Until something holds; False where the driver ended before."""
        until_s = time.monotonic() + PATIENCE_S
        while not holds():
            if self.driver.poll() is not None:
                return False
            if time.monotonic() > until_s:
                raise TimeoutError(f"the search stands still; see {self.log.name}")
            time.sleep(0.2)
        return True

    def cause(self, fault: str) -> bool:
        """Cause a fault at a random moment of the search; False where the search has ended by itself before."""
        goal = count_epochs(self.folder) + self.random.randint(0, 4)
        if fault == "driver killed while starting":
            time.sleep(self.random.uniform(0.5, 8.0))
        elif fault == "driver killed at the end":
            if not self.wait(lambda: b"concluding" in (self.folder / "search.json").read_bytes()):
                return False
            time.sleep(self.random.uniform(0.0, 4.0))
        elif not self.wait(lambda: count_epochs(self.folder) > goal):
            return False
        if self.driver.poll() is not None:
            return False
        FAULTS[fault](self)
        self.caused[fault] += 1
        return True

    def kill(self) -> None:
        """Kill the driver with -9, note what had finished, and leave it dead."""
        self.driver.kill()
        self.driver.wait()
        for trial in read_trials(self.folder):
            if trial.state in FINISHED:
                self.known[trial.number] = dict(trial.intermediate_values)

    def kill_worker(self) -> None:
        below = psutil.Process(self.driver.pid).children(recursive=True)
        if workers := [process for process in below if "Trainable" in " ".join(process.cmdline())]:
            self.random.choice(workers).kill()

    def mlflow(self) -> psutil.Process:
        """The supervisor of the home's server; below it are those that answer."""
        return psutil.Process(json.loads((self.home / "mlflow" / "server.json").read_text())["pid"])

    def stop_mlflow(self) -> None:
        stopped = self.mlflow().children(recursive=True)
        for process in stopped:
            process.suspend()
        goal = count_epochs(self.folder) + 2
        self.wait(lambda: count_epochs(self.folder) >= goal)
        for process in stopped:
            process.resume()

    def kill_mlflow(self) -> None:
        for process in self.mlflow().children(recursive=True):
            process.kill()

    def damage(self, pattern: str, *, below: Path) -> None:
        """Kill the driver, and damage one file of a kind: half of it is gone, or a byte is another."""
        self.kill()
        files = sorted(path for path in below.rglob(pattern) if path.is_file() and path.stat().st_size > 8)
        if not files:
            return
        file = self.random.choice(files)
        content = bytearray(file.read_bytes())
        if self.random.random() < 0.5:
            del content[len(content) // 2 :]
        else:
            content[self.random.randrange(len(content))] ^= 0xFF
        file.write_bytes(content)

    def tear_journal(self) -> None:
        self.kill()
        with (self.folder / "optuna.journal").open("ab") as journal:
            journal.write(b'{"op_code": 6, "worker_id": "torn')

    def finish(self) -> None:
        """Resume until the search has ended."""
        for _ in range(5):
            self.wait(lambda: False)
            if view_search(self.home, NAME).phase == "ended":
                return
            self.driver = self.start()


FAULTS: dict[str, Callable[[Chaos], None]] = {
    "driver killed while starting": Chaos.kill,
    "driver killed": Chaos.kill,
    "worker killed": Chaos.kill_worker,
    "MLflow stopped": Chaos.stop_mlflow,
    "MLflow killed": Chaos.kill_mlflow,
    "journal torn": Chaos.tear_journal,
    "record damaged": lambda chaos: chaos.damage(
        chaos.random.choice(["search.json", "spent.json", "splits.csv"]), below=chaos.folder
    ),
    "checkpoint damaged": lambda chaos: chaos.damage("best*", below=chaos.folder / "trials"),
    "cache damaged": lambda chaos: chaos.damage("*.npy", below=chaos.home / "cache"),
    "driver killed at the end": Chaos.kill,
}


def find_losses(chaos: Chaos, uri: str) -> list[str]:
    """What is missing, doubled or left open, in words."""
    folder, lost = chaos.folder, list[str]()

    def require(holds: bool, what: str) -> None:
        if not holds:
            lost.append(what)

    trials = read_trials(folder)
    require([trial.number for trial in trials] == list(range(chaos.num_trials)), "not every trial once")
    require(all(trial.state in FINISHED for trial in trials), "a trial is left open")
    for number, values in chaos.known.items():
        require(values.items() <= trials[number].intermediate_values.items(), f"finished trial {number} was changed")
    record, opened = (json.loads((folder / name).read_text()) for name in ("search.json", "sealed_test.json"))
    require((opened["champion"], opened["num_openings"]) == (record["champion"], 1), "the test was not opened once")
    client = MlflowClient(uri)
    parent = client.get_run(record["parent_run_id"])
    runs = client.search_runs([parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    require("RUNNING" not in {run.info.status for run in [parent, *runs]}, "a run is RUNNING")
    numbers = sorted(int(run.data.tags["trial"]) for run in runs)
    require(numbers == list(range(chaos.num_trials)), f"not one run a trial: {numbers}")
    for run in runs:
        held = {point.step for point in client.get_metric_history(run.info.run_id, "val_auc")}
        missing = set(trials[int(run.data.tags["trial"])].intermediate_values) - held
        require(not missing, f"epochs {sorted(missing)} of trial {run.data.tags['trial']} are not in MLflow")
    return lost


def measure_goodput(chaos: Chaos, uri: str) -> float:
    """Time of the epochs that count over the time that trials have held their workers."""
    client = MlflowClient(uri)
    kept_s = sum(
        sum(point.value for point in client.get_metric_history(trial.user_attrs["run_id"], "epoch_s"))
        for trial in read_trials(chaos.folder)
        if "run_id" in trial.user_attrs
    )
    paid_s = json.loads((chaos.folder / "spent.json").read_text())["device_s"]
    return kept_s / paid_s if paid_s else 0.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="four faults in a search of six trials")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--faults", type=int, help="how many (default: 4 with --quick, else 20)")
    args = parser.parse_args()
    num_faults = args.faults or (4 if args.quick else 20)
    began_s = time.monotonic()
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="ctsearch-chaos-", ignore_cleanup_errors=True) as folder:
        home = Path(folder)
        with ensure_server(home / "mlflow") as server:
            chaos = Chaos(home, num_trials=6 if args.quick else 12, max_epochs=9, seed=args.seed)
            try:
                chosen = chaos.random.sample(sorted(FAULTS), min(num_faults, len(FAULTS)))
                chosen += chaos.random.choices(sorted(FAULTS), k=num_faults - len(chosen))
                for fault in sorted(chosen, key=list(FAULTS).index):
                    if not chaos.cause(fault):
                        break
                    if chaos.driver.poll() is not None:
                        chaos.driver = chaos.start()
                chaos.finish()
                uri = json.loads((home / "mlflow" / "server.json").read_text())["uri"] or server.uri
                result: dict[str, Any] = {
                    "seed": args.seed,
                    "caused": dict(chaos.caused),
                    "lost": find_losses(chaos, uri),
                    "goodput": round(measure_goodput(chaos, uri), 3),
                    "seconds": round(time.monotonic() - began_s),
                }
            except BaseException:
                sys.stderr.write(Path(chaos.log.name).read_text()[-4000:])
                raise
            finally:
                if chaos.driver.poll() is None:
                    chaos.driver.kill()
    print(json.dumps(result))
    return 1 if result["lost"] else 0


if __name__ == "__main__":
    sys.exit(main())
