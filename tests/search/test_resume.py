"""A driver really killed with -9, twice in one search, its workers too, and terminated: nothing is lost or repeated."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from optuna.trial import FrozenTrial, TrialState

from mlflow_server.serve import ServerHandle
from search.cli import resume
from search.engine.study import Study
from trainable.report import Direction

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
import os
import sys
from pathlib import Path
from search.core.config import SearchConfig
from search.core.stop import StopRequest
from search.cli import resume, run
def ask_and_say(request, *reason, ask=StopRequest.ask):
    is_first = ask(request, *reason)
    os.write(1, b"an end is asked for\\n")
    return is_first
StopRequest.ask = ask_and_say
home, data, uri, name, verb = sys.argv[1:]
if verb == "resume":
    sys.exit(resume(name, home=Path(home)))
ranges = {"cnn_filters": "8", "cnn_depth": "2", "cnn_kernel": "3", "batch_size": "8"}
sys.exit(run(SearchConfig(
    name=name, home=Path(home), data=Path(data), tracking_uri=uri, architectures=("small_cnn",), ranges=ranges,
    num_trials=7, max_epochs=12, scheduler="asha", trial_cpus=1, image_size=64, deterministic=True,
    checkpoint_interval_s=0,
)))
"""


def read_trials(folder: Path) -> list[FrozenTrial]:
    """What the journal holds, read while another process writes it."""
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    if not (folder / "optuna.journal").exists():
        return []
    storage = JournalStorage(JournalFileBackend(str(folder / "optuna.journal")))
    studies = storage.get_all_studies()
    return storage.get_all_trials(studies[0]._study_id) if studies else []


def parent_run_id(folder: Path) -> str:
    return str(json.loads((folder / "search.json").read_text())["parent_run_id"])


def count_epochs(trials: list[FrozenTrial]) -> int:
    return sum(len(trial.intermediate_values) for trial in trials)


@dataclass(frozen=True)
class Drive:
    """Starts a search, or goes on with it, in a process of its own."""

    home: Path
    data: Path
    uri: str

    def command(self, verb: str, name: str = "first") -> list[str]:
        return [sys.executable, "-c", SCRIPT, str(self.home), str(self.data), self.uri, name, verb]

    def __call__(self, verb: str, name: str = "first") -> subprocess.Popen[str]:
        command = self.command(verb, name)
        return subprocess.Popen(
            command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
        )


@pytest.fixture
def drive(tmp_path: Path, synthetic_folder: Path, mlflow_server: ServerHandle) -> Drive:
    return Drive(tmp_path, synthetic_folder, mlflow_server.uri)


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Until something holds of a running search; its output is shown where it ends before."""
    end = time.monotonic() + 600
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end, "the search did not get there in 600 s"
        time.sleep(0.2)


def finish(process: subprocess.Popen[str]) -> str:
    output = process.communicate(timeout=900)[0]
    assert process.returncode == 0, output
    return output


def find_workers(driver: int) -> list[int]:
    """Processes below the driver in which a trial trains."""
    parents: dict[int, int] = {}
    names: dict[int, str] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            names[int(folder.name)] = (folder / "cmdline").read_text()
            parents[int(folder.name)] = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue

    def is_below(process: int) -> bool:
        return process == driver or (parents.get(process, 0) > 1 and is_below(parents[process]))

    return [process for process, name in names.items() if "Trainable" in name and is_below(process)]


@pytest.mark.timeout(1800)
def test_a_search_killed_twice_and_robbed_of_its_workers_keeps_its_trials_runs_rungs_and_budget(
    drive: Drive, tmp_path: Path, mlflow_server: ServerHandle
) -> None:
    folder = tmp_path / "searches" / "first"
    process = drive("run")
    known: dict[int, dict[str, Any]] = {}
    spent_s: list[float] = []
    for num_epochs in (8, 16):
        wait_until(lambda goal=num_epochs: count_epochs(read_trials(folder)) >= goal, process)  # type: ignore[misc]
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        trials = read_trials(folder)
        assert TrialState.RUNNING in {trial.state for trial in trials}
        for trial in trials:
            if "params" not in trial.user_attrs:
                continue
            if trial.number in known:
                assert known[trial.number]["params"] == trial.params
                assert known[trial.number]["run_id"] == trial.user_attrs["run_id"]
            known[trial.number] = {
                "params": trial.params,
                "run_id": trial.user_attrs.get("run_id"),
                "values": dict(trial.intermediate_values),
                "state": trial.state,
            }
        spent_s.append(json.loads((folder / "spent.json").read_text())["wall_s"])
        process = drive("resume")
    num_known = count_epochs(trials)
    wait_until(lambda: count_epochs(read_trials(folder)) > num_known, process)
    workers = find_workers(process.pid)
    assert workers
    for worker in workers:
        os.kill(worker, signal.SIGKILL)
    output = finish(process)
    assert "lost its worker" in output, "that costs its trial an epoch at most"

    ended = {trial.number: trial for trial in read_trials(folder) if "params" in trial.user_attrs}
    assert len(ended) == 7, "one whose driver died before it had its configuration is none"
    assert {trial.state for trial in ended.values()} <= {TrialState.COMPLETE, TrialState.PRUNED}
    for number, before in known.items():
        after = ended[number]
        assert before["params"].items() <= after.params.items()
        assert before["values"].items() <= after.intermediate_values.items()
        if before["state"] in (TrialState.COMPLETE, TrialState.PRUNED):
            assert before["values"] == after.intermediate_values
    assert json.loads((folder / "spent.json").read_text())["wall_s"] > spent_s[1] > spent_s[0]

    client = MlflowClient(mlflow_server.uri)
    record = json.loads((folder / "search.json").read_text())
    parent = client.get_run(record["parent_run_id"])
    assert parent.info.status == "FINISHED"
    children = client.search_runs([parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    assert sorted(int(run.data.tags["trial"]) for run in children) == sorted(ended)
    for run in children:
        trial = ended[int(run.data.tags["trial"])]
        assert run.info.run_id == trial.user_attrs["run_id"]
        assert run.data.tags["outcome"] == {"COMPLETE": "completed", "PRUNED": "stopped"}[trial.state.name]
        history = client.get_metric_history(run.info.run_id, "val_auc")
        epochs = sorted(trial.intermediate_values)
        assert sorted(point.step for point in history) == epochs == list(range(1, len(epochs) + 1))
        for point in history:
            assert point.value == pytest.approx(trial.intermediate_values[point.step], abs=1e-9)
    opened_for = json.loads((folder / "sealed_test.json").read_text())["champion"]
    assert record["champion"] in (opened_for if isinstance(opened_for, list) else [opened_for])
    assert "Sealed test" in output
    assert not list((folder / "trials").rglob("newest*"))

    with pytest.raises(ValueError, match="has ended"):
        resume("first", home=tmp_path)


class Terminal:
    """A terminal that can be closed; what is written to it is read and thrown away, as a window does."""

    def __init__(self) -> None:
        self.ours, self.theirs = pty.openpty()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def start(self, command: list[str]) -> subprocess.Popen[str]:
        """A process of this terminal, as a shell starts one in the foreground: a closed terminal signals its group."""
        begin = f"import fcntl, os, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv({command[0]!r}, {command})"
        theirs, begin_command = self.theirs, [sys.executable, "-c", begin]
        process = subprocess.Popen(
            begin_command, cwd=ROOT, text=True, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
        )
        os.close(self.theirs)
        return process

    def close(self) -> None:
        self.is_open = False
        self.reader.join()
        os.close(self.ours)

    def _read(self) -> None:
        self.is_open = True
        while self.is_open:
            if select.select([self.ours], [], [], 0.1)[0]:
                os.read(self.ours, 65536)


@pytest.mark.timeout(1800)
def test_ctrl_c_ends_with_the_champion_so_far_and_sigterm_leaves_a_search_to_resume(
    drive: Drive, tmp_path: Path, mlflow_server: ServerHandle
) -> None:
    folder = tmp_path / "searches" / "first"
    process = drive("run")
    wait_until(lambda: count_epochs(read_trials(folder)) >= 13, process)
    process.send_signal(signal.SIGTERM)
    output = process.communicate(timeout=600)[0]
    assert process.returncode == 143, output
    assert "--resume first" in output
    trials = read_trials(folder)
    assert TrialState.WAITING in {trial.state for trial in trials}
    assert TrialState.RUNNING not in {trial.state for trial in trials}
    assert not (folder / "sealed_test.json").exists()
    client = MlflowClient(mlflow_server.uri)
    waiting = [trial for trial in trials if trial.state == TrialState.WAITING]
    for trial in waiting:
        run = client.get_run(trial.user_attrs["run_id"])
        assert (run.info.status, run.data.tags["outcome"]) == ("KILLED", "interrupted")

    terminal, before = Terminal(), count_epochs(trials)
    process = terminal.start(drive.command("resume"))
    wait_until(lambda: count_epochs(read_trials(folder)) > before, process)
    terminal.close()
    assert process.wait(timeout=600) == 143, "a closed terminal is as SIGTERM"
    assert TrialState.RUNNING not in {trial.state for trial in read_trials(folder)}
    assert client.get_run(parent_run_id(folder)).info.status == "KILLED"

    process = drive("resume")
    before = count_epochs(read_trials(folder))
    wait_until(lambda: count_epochs(read_trials(folder)) >= before + 3, process)
    process.send_signal(signal.SIGINT)
    output = finish(process)
    assert "Registered" in output
    statuses = {
        run.info.status for run in client.search_runs([client.get_experiment_by_name("ctsearch-demo").experiment_id])
    }
    assert "RUNNING" not in statuses
    resumed = Study(folder / "optuna.journal", sampler="tpe", seed=0, direction=Direction.MAXIMIZE)
    assert [trial.number for trial in resumed.trials()] == list(range(len(resumed.trials())))


@pytest.mark.timeout(1800)
def test_a_second_ctrl_c_ends_at_once_and_leaves_nothing_running(
    drive: Drive, tmp_path: Path, mlflow_server: ServerHandle
) -> None:
    folder = tmp_path / "searches" / "twice"
    process = drive("run", "twice")
    wait_until(lambda: count_epochs(read_trials(folder)) >= 2, process)
    process.send_signal(signal.SIGINT)
    assert process.stdout is not None
    while "an end is asked for" not in (line := process.stdout.readline()):  # two that wait for the driver would be one
        assert line, "the search has ended"
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=600)[0]
    assert process.returncode in (130, -signal.SIGINT), output
    assert TrialState.RUNNING not in {trial.state for trial in read_trials(folder)}
    client = MlflowClient(mlflow_server.uri)
    parent = client.get_run(parent_run_id(folder))
    children = client.search_runs([parent.info.experiment_id], "tags.search = 'twice'")
    assert "RUNNING" not in {run.info.status for run in children}
    assert not (folder / "sealed_test.json").exists()
