"""One search under faults: its driver is begun, watched, ended and begun again."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from optuna.trial import FrozenTrial, TrialState

from search.core.folder import view_search

ROOT = Path(__file__).resolve().parents[1]
PATIENCE_S = 900.0
OPTIONS = ("--trial-cpus", "1")
SMALL = ("--arch", "small_cnn", "--image-size", "64", "--range", "cnn_filters=8")
"""What trains an epoch in less than a second."""
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


class Chaos:
    """One search and what is done to it. `known` are the trials that had finished, with their values; `repairs` what a
    user would have done, as our own lines said; `environ` goes to the next driver."""

    def __init__(
        self, home: Path, name: str, *, num_trials: int, max_epochs: int, seed: int, options: tuple[str, ...] = SMALL
    ) -> None:
        self.home = home
        self.name = name
        self.folder = home / "searches" / name
        self.storage = home / "storage"
        self.storage.mkdir(exist_ok=True)
        self.options = ["--num-trials", str(num_trials), "--max-epochs", str(max_epochs), *OPTIONS, *options]
        self.num_trials = num_trials
        self.random = random.Random(seed)
        self.environ: dict[str, str] = {}
        self.caused: Counter[str] = Counter()
        self.seconds: defaultdict[str, list[float]] = defaultdict(list)
        self.known: dict[int, dict[int, float]] = {}
        self.lost: list[str] = []
        self.log_file = home / f"{name}.log"
        self.log = self.log_file.open("w")
        self.driver = self.start()

    @property
    def trials_folder(self) -> Path:
        return self.storage / self.name / "trials"

    def start(self) -> subprocess.Popen[bytes]:
        """Begin, or go on where the search has a folder."""
        exists = (self.folder / "search.json").exists()
        how = ["--resume", self.name] if exists else ["--name", self.name, *self.options]
        command = [sys.executable, "-m", "search.cli", "search", "--home", str(self.home)]
        command += ["--storage", str(self.storage), *how]
        print(f"\n--- {' '.join(how)} {self.environ or ''}", file=self.log, flush=True)
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **self.environ},
            stdout=self.log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def start_again(self) -> None:
        """Begin another driver where there is none, and wait for its first epoch, or for the conclusion."""
        before = self.count_epochs()
        if self.driver.poll() is not None:
            self.driver = self.start()
            self.wait(lambda: self.count_epochs() > before or self.phase in ("confirming", "concluding", "ended"))

    def wait(self, holds: Callable[[], bool], patience_s: float = PATIENCE_S) -> bool:
        """Until something holds; False where the driver ended before."""
        until_s = time.monotonic() + patience_s
        while not holds():
            if self.driver.poll() is not None:
                return False
            if time.monotonic() > until_s:
                raise TimeoutError(f"the search stands still; see {self.log_file}")
            time.sleep(0.2)
        return True

    def wait_for_epochs(self, number: int) -> bool:
        """Until so many more epochs have ended, or the trials have; False where the driver ended before."""
        goal = self.count_epochs() + number
        return self.wait(lambda: self.count_epochs() >= goal or self.phase in ("confirming", "concluding", "ended"))

    @property
    def phase(self) -> str:
        """How far the search has come, as its record says; "preparing" before there is one."""
        return str(view_search(self.home, self.name).phase) if (self.folder / "search.json").exists() else "preparing"

    @property
    def is_starting(self) -> bool:
        """Whether its driver has not come to its trials yet, as its output says."""
        return " running, " not in self.log_file.read_text().rpartition("\n---")[2]

    def trials(self) -> list[FrozenTrial]:
        return read_trials(self.folder)

    def count_epochs(self) -> int:
        return sum(len(trial.intermediate_values) for trial in self.trials())

    def end(self, number: int) -> None:
        """Send the driver a signal, wait for its end, and note which trials had finished."""
        self.driver.send_signal(number)
        self.wait_for_end()

    def kill(self) -> None:
        """Kill the driver with -9, and leave it dead."""
        self.end(signal.SIGKILL)

    def wait_for_end(self) -> None:
        self.driver.wait(PATIENCE_S)
        self.note_finished()

    def note_finished(self) -> None:
        for trial in self.trials():
            if trial.state in FINISHED:
                self.known[trial.number] = dict(trial.intermediate_values)

    def workers(self) -> list[psutil.Process]:
        return self.find_below("Trainable", "ray::Trial")

    def find_below(self, *words: str) -> list[psutil.Process]:
        """The processes below the driver whose command has one of these words."""
        try:
            below = psutil.Process(self.driver.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []
        return [process for process in below if any(word in read_command(process) for word in words)]

    def kill_below(self, *words: str) -> bool:
        if found := self.find_below(*words):
            self.random.choice(found).kill()
        return bool(found)

    def mlflow(self) -> psutil.Process:
        """The supervisor of the home's server; below it are those that answer."""
        return psutil.Process(read_json(self.home / "mlflow" / "server.json")["pid"])

    def finish(self) -> None:
        """Resume until the search has ended."""
        for _ in range(5):
            self.wait(lambda: False)
            if self.phase == "ended":
                return
            self.driver = self.start()


@contextmanager
def shown_on_error(chaos: Chaos) -> Iterator[None]:
    """What a search has said where something was lost or fails here; its driver is ended in any case."""
    try:
        yield
    except BaseException:
        sys.stderr.write(chaos.log_file.read_text())
        raise
    else:
        if chaos.lost:
            sys.stderr.write(chaos.log_file.read_text())
    finally:
        if chaos.driver.poll() is None:
            chaos.driver.kill()


def read_trials(folder: Path) -> list[FrozenTrial]:
    """What the journal holds, also while it is written."""
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    journal = folder / "optuna.journal"
    if not journal.exists():
        return []
    storage = JournalStorage(JournalFileBackend(str(journal)))
    return storage.get_all_trials(study._study_id) if (study := next(iter(storage.get_all_studies()), None)) else []


def read_command(process: psutil.Process) -> str:
    try:
        return " ".join([process.name(), *process.cmdline()[:1]])
    except psutil.Error:
        return ""


def read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.exists() else {}
