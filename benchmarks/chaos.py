"""Faults really caused in a small real search of the synthetic set: what was caused, what was lost, what it cost.

    python benchmarks/chaos.py --quick --seed 1
    python benchmarks/chaos.py --kills 100 --seed 1

A seeded choice of faults hits one search, one after another; whenever its driver is dead it is resumed. With `--kills`
the driver is killed with -9, at random moments of its start, of the search and of its end, in as many searches as it
takes. One JSON line: `caused` counts the faults, `seconds` is how long each took until the search went on, `lost` names
what is missing afterwards (empty: nothing), `goodput` is the share of the trials' paid time that ended in an epoch that
counts. The exit status is 1 where anything was lost.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from mlflow import MlflowClient
from optuna.trial import FrozenTrial, TrialState

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from mlflow_server.serve import ensure_server  # noqa: E402
from search.core.folder import view_search  # noqa: E402

PATIENCE_S = 900.0
START_S = 30.0
"""A driver is killed while starting within so many seconds: about what it takes to the first epoch."""
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

    def __init__(self, home: Path, name: str, *, num_trials: int, max_epochs: int, seed: int) -> None:
        self.home = home
        self.name = name
        self.folder = home / "searches" / name
        self.options = ["--num-trials", str(num_trials), "--max-epochs", str(max_epochs), *OPTIONS]
        self.num_trials = num_trials
        self.random = random.Random(seed)
        self.caused: Counter[str] = Counter()
        self.seconds: defaultdict[str, list[float]] = defaultdict(list)
        self.known: dict[int, dict[int, float]] = {}
        self.lost: list[str] = []
        self.log = (home / f"{name}.log").open("w")
        self.driver = self.start()

    def start(self) -> subprocess.Popen[bytes]:
        """Begin, or go on where the search has a folder."""
        exists = (self.folder / "search.json").exists()
        how = ["--resume", self.name] if exists else ["--name", self.name, *self.options]
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

    @property
    def phase(self) -> str:
        """How far the search has come, as its record says; "preparing" before there is one."""
        return str(view_search(self.home, self.name).phase) if (self.folder / "search.json").exists() else "preparing"

    def cause(self, fault: str) -> bool:
        """Cause a fault at a random moment of the search; False where the search has ended by itself before."""
        goal = count_epochs(self.folder) + self.random.randint(0, 4)
        if fault == "driver killed while starting":
            time.sleep(self.random.uniform(0.5, START_S))
        elif fault == "driver killed at the end":
            if not self.wait(lambda: self.phase == "concluding"):
                return False
            time.sleep(self.random.uniform(0.0, 8.0))
        elif not self.wait(lambda: count_epochs(self.folder) > goal or self.phase == "concluding"):
            return False
        if self.driver.poll() is not None:
            return False
        began_s, before = time.monotonic(), count_epochs(self.folder)
        FAULTS[fault](self)
        self.caused[fault] += 1
        if self.driver.poll() is not None:
            self.driver = self.start()
            self.wait(lambda: count_epochs(self.folder) > before or self.phase == "concluding")
        self.seconds[fault].append(time.monotonic() - began_s)
        return True

    def kill(self) -> None:
        """Kill the driver with -9, and leave it dead."""
        self.end(signal.SIGKILL)

    def end(self, number: int) -> None:
        """Send the driver a signal, wait for its end, and note which trials had finished."""
        self.driver.send_signal(number)
        self.driver.wait(PATIENCE_S)
        self.note_finished()

    def note_finished(self) -> None:
        for trial in read_trials(self.folder):
            if trial.state in FINISHED:
                self.known[trial.number] = dict(trial.intermediate_values)

    def kill_worker(self) -> None:
        self.kill_below("Trainable", "ray::Trial")

    def kill_below(self, *words: str) -> bool:
        """Kill one of the processes below the driver whose command has one of these words."""
        below = psutil.Process(self.driver.pid).children(recursive=True)
        found = [process for process in below if any(word in read_command(process) for word in words)]
        if found:
            self.random.choice(found).kill()
        return bool(found)

    def kill_ray(self, *words: str) -> None:
        """Kill a part of Ray: the driver ends by itself, with a line that names what died."""
        if self.kill_below(*words):
            self.driver.wait(PATIENCE_S)
            self.note_finished()

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
            if self.phase == "ended":
                return
            self.driver = self.start()


def read_command(process: psutil.Process) -> str:
    try:
        return " ".join([process.name(), *process.cmdline()[:1]])
    except psutil.Error:
        return ""


FAULTS: dict[str, Callable[[Chaos], None]] = {
    "driver killed while starting": Chaos.kill,
    "driver killed": Chaos.kill,
    "terminal closed": lambda chaos: chaos.end(signal.SIGHUP),
    "SIGTERM": lambda chaos: chaos.end(signal.SIGTERM),
    "worker killed": Chaos.kill_worker,
    "Ray's raylet killed": lambda chaos: chaos.kill_ray("raylet/raylet"),
    "Ray's head killed": lambda chaos: chaos.kill_ray("gcs_server"),
    "Ray's agent killed": lambda chaos: chaos.kill_ray("DashboardAgent", "RuntimeEnvAgent"),
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


KILLS = ("driver killed while starting", "driver killed", "driver killed at the end")


def find_losses(chaos: Chaos, uri: str, *, num_openings: int = 1) -> list[str]:
    """What is missing, doubled or left open, in words. `num_openings` counts those of this home's searches so far."""
    folder, lost = chaos.folder, list[str]()

    def require(holds: bool, what: str) -> None:
        if not holds:
            lost.append(f"{chaos.name}: {what}")

    # A driver killed between the number of a trial and its configuration leaves the number alone: it is no trial.
    trials = {trial.number: trial for trial in read_trials(folder) if "params" in trial.user_attrs}
    require(len(trials) == chaos.num_trials, f"not every trial once: {sorted(trials)}")
    require(all(trial.state in FINISHED for trial in trials.values()), "a trial is left open")
    for number, values in chaos.known.items():
        held = trials[number].intermediate_values if number in trials else {}
        require(values.items() <= held.items(), f"finished trial {number} was changed")
    record, opened = (read_json(folder / name) for name in ("search.json", "sealed_test.json"))
    require(record.get("phase") == "ended", f"the search has not ended: {record.get('phase')}")
    champion = (opened.get("champion"), opened.get("num_openings"))
    require(champion == (record.get("champion"), num_openings), f"the test was not opened once for it: {champion}")
    client = MlflowClient(uri)
    parent = client.get_run(record["parent_run_id"])
    runs = client.search_runs([parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    require("RUNNING" not in {run.info.status for run in [parent, *runs]}, "a run is RUNNING")
    numbers = sorted(int(run.data.tags["trial"]) for run in runs)
    require(numbers == sorted(trials), f"not one run a trial: {numbers}, {sorted(trials)}")
    for run in runs:
        logged = {point.step for point in client.get_metric_history(run.info.run_id, "val_auc")}
        trial = trials.get(int(run.data.tags["trial"]))
        missing = set(trial.intermediate_values) - logged if trial else set[int]()
        require(not missing, f"epochs {sorted(missing)} of trial {run.data.tags['trial']} are not in MLflow")
    return lost


def read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.exists() else {}


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


def cause_faults(home: Path, server: str, *, seed: int, num_faults: int, quick: bool) -> dict[str, Any]:
    """One search under a choice of faults, in the order of a search's life."""
    chaos = Chaos(home, "chaos", num_trials=6 if quick else 12, max_epochs=9, seed=seed)
    with shown_on_error(chaos):
        chosen = chaos.random.sample(sorted(FAULTS), min(num_faults, len(FAULTS)))
        chosen += chaos.random.choices(sorted(FAULTS), k=num_faults - len(chosen))
        for fault in sorted(chosen, key=list(FAULTS).index):
            if not chaos.cause(fault):
                break
        chaos.finish()
        uri = find_server(home, server)
        chaos.lost = find_losses(chaos, uri)
        return report([chaos]) | {"lost": chaos.lost, "goodput": round(measure_goodput(chaos, uri), 3)}


def kill_drivers(home: Path, server: str, *, seed: int, num_kills: int) -> dict[str, Any]:
    """Searches one after another whose drivers are killed at random moments, until there were so many kills."""
    searches = list[Chaos]()
    while sum(sum(chaos.caused.values()) for chaos in searches) < num_kills:
        chaos = Chaos(home, f"kills-{len(searches)}", num_trials=4, max_epochs=6, seed=seed + len(searches))
        searches.append(chaos)
        with shown_on_error(chaos):
            while sum(sum(each.caused.values()) for each in searches) < num_kills:
                fault = KILLS[-1] if chaos.phase == "concluding" else chaos.random.choice(KILLS[:2])
                if sum(chaos.caused.values()) > 12 or not chaos.cause(fault):
                    break
            chaos.finish()
            chaos.lost = find_losses(chaos, find_server(home, server), num_openings=len(searches))
    lost = [what for chaos in searches for what in chaos.lost]
    return report(searches) | {"searches": len(searches), "lost": lost}


def report(searches: Sequence[Chaos]) -> dict[str, Any]:
    caused = sum((chaos.caused for chaos in searches), Counter[str]())
    seconds = {fault: [taken for chaos in searches for taken in chaos.seconds[fault]] for fault in caused}
    return {
        "caused": dict(caused),
        "seconds": {fault: round(statistics.median(taken), 1) for fault, taken in seconds.items() if taken},
    }


def find_server(home: Path, uri: str) -> str:
    """Where the home's server answers now; a killed one comes back at another port."""
    return str(read_json(home / "mlflow" / "server.json").get("uri") or uri)


@contextmanager
def shown_on_error(chaos: Chaos) -> Iterator[None]:
    """What a search has said where something was lost or fails here; its driver is ended in any case."""
    try:
        yield
    except BaseException:
        sys.stderr.write(Path(chaos.log.name).read_text())
        raise
    else:
        if chaos.lost:
            sys.stderr.write(Path(chaos.log.name).read_text())
    finally:
        if chaos.driver.poll() is None:
            chaos.driver.kill()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="four faults in a search of six trials")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--faults", type=int, help="how many (default: 4 with --quick, else 20)")
    parser.add_argument("--kills", type=int, help="instead: kill the driver so many times, in as many searches")
    args = parser.parse_args()
    began_s = time.monotonic()
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="ctsearch-chaos-", ignore_cleanup_errors=True) as folder:
        home = Path(folder)
        with ensure_server(home / "mlflow") as server:
            if args.kills:
                result = kill_drivers(home, server.uri, seed=args.seed, num_kills=args.kills)
            else:
                num_faults = args.faults or (4 if args.quick else 20)
                result = cause_faults(home, server.uri, seed=args.seed, num_faults=num_faults, quick=args.quick)
    print(json.dumps({"seed": args.seed, **result, "total_s": round(time.monotonic() - began_s)}))
    return 1 if result["lost"] else 0


if __name__ == "__main__":
    sys.exit(main())
