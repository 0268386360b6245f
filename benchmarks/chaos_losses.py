"""What a search has lost under faults, in words, and which share of what it paid for counts."""

from __future__ import annotations

from pathlib import Path

from mlflow import MlflowClient
from optuna.trial import TrialState

from benchmarks.chaos_search import FINISHED, Chaos, read_json


def find_losses(chaos: Chaos, uri: str, *, num_openings: int = 1) -> list[str]:
    """What is missing, doubled or left open, in words. `num_openings` counts those of this home's searches so far."""
    folder, lost = chaos.folder, list[str]()

    def require(holds: bool, what: str) -> None:
        if not holds:
            lost.append(f"{chaos.name}: {what}")

    # A driver killed between the number of a trial and its configuration leaves the number alone: it is no trial.
    trials = {trial.number: trial for trial in chaos.trials() if "params" in trial.user_attrs}
    require(len(trials) == chaos.num_trials, f"not every trial once: {sorted(trials)}")
    require(all(trial.state in FINISHED for trial in trials.values()), "a trial is left open")
    failed = [number for number, trial in trials.items() if trial.state is TrialState.FAIL]
    require(not failed, f"trials {failed} failed for what was done to the search")
    for number, values in chaos.known.items():
        held = trials[number].intermediate_values if number in trials else {}
        require(values.items() <= held.items(), f"finished trial {number} was changed")
    record, opened = (read_json(folder / name) for name in ("search.json", "sealed_test.json"))
    require(record.get("phase") == "ended", f"the search has not ended: {record.get('phase')}")
    members = opened.get("champion")
    is_same = record.get("champion") in (members if isinstance(members, list) else [members])
    is_once = is_same and opened.get("num_openings") == num_openings
    require(is_once, f"the test was not opened once for it: {record.get('champion')}, {opened}")
    client = MlflowClient(uri)
    parent = client.get_run(record["parent_run_id"])
    below = client.search_runs([parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    running = [run.info.run_name for run in [parent, *below] if run.info.status == "RUNNING"]
    require(not running, f"still RUNNING: {', '.join(map(str, running))}")
    runs = [run for run in below if "trial" in run.data.tags]  # the others are of folds
    untold = [run.data.tags["trial"] for run in runs if run.data.tags.get("outcome") in (None, "interrupted")]
    require(not untold, f"without an outcome in MLflow: trials {', '.join(untold)}")
    numbers = sorted(int(run.data.tags["trial"]) for run in runs)
    require(numbers == sorted(trials), f"not one run a trial: {numbers}, {sorted(trials)}")
    for run in runs:
        logged = [point.step for point in client.get_metric_history(run.info.run_id, "val_auc")]
        trial = trials.get(int(run.data.tags["trial"]))
        missing = set(trial.intermediate_values) - set(logged) if trial else set[int]()
        require(not missing, f"epochs {sorted(missing)} of trial {run.data.tags['trial']} are not in MLflow")
        require(len(logged) == len(set(logged)), f"epochs of trial {run.data.tags['trial']} are twice in MLflow")
    return lost


def measure_time_share(chaos: Chaos) -> float:
    """Time of the epochs that count over the time that trials have held their workers.

    The second has repeated epochs in it, those that a worker was at when it died, and all that was set up before an
    epoch; it has not what a worker takes to start. A driver that is killed takes with it what it has not written yet.
    """
    epochs_s = [
        seconds
        for trial in chaos.trials()
        for seconds in trial.user_attrs.get("epochs", {}).get("seconds", {}).values()
    ]
    if not epochs_s:
        return 0.0
    paid_s = read_json(chaos.folder / "spent.json")["device_s"]
    return sum(epochs_s) / paid_s if paid_s else 0.0


def find_server(home: Path, uri: str) -> str:
    """Where the home's server answers now; a killed one may come back at another port."""
    return str(read_json(home / "mlflow" / "server.json").get("uri") or uri)
