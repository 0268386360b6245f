"""Runs made anew where MLflow has lost them: its database was damaged, or is another one now."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from mlflow.entities import Metric

from search.observers.mlflow_runs import Runs, as_tags
from trainable.report import Direction
from trainable.run_log import find_held_epochs

if TYPE_CHECKING:
    from search.core.ledger import TrialEntry


def rebuild_runs(
    runs: Runs, entries: Mapping[int, TrialEntry], *, metric: str, direction: Direction, now_ms: int
) -> dict[int, str]:
    """A run for each trial, from what the search's own record holds of it; the ids by the trials' numbers.

    That is its configuration, its outcome and the search's metric of each epoch: all other metrics are lost. `now_ms`
    (Unix time) stands for when an epoch ended. Raises what MLflow's client raises; called again it makes none twice.
    """
    made: dict[int, str] = {}
    for number, entry in entries.items():
        run_id = made[number] = runs.open_trial(number, entry.params, {"rebuilt": "true"})
        missing = sorted(set(entry.values) - find_held_epochs(runs.client, run_id, [metric]))
        values = [Metric(metric, entry.values[epoch], now_ms, epoch) for epoch in missing]
        for at in range(0, len(values), 1000):
            runs.client.log_batch(run_id, metrics=values[at : at + 1000], synchronous=True)
        if entry.outcome is not None:
            tags = {**entry.tags, "outcome": str(entry.outcome), "state": str(entry.outcome)}
            runs.end(run_id, entry.outcome, tags, runs.summarize(run_id, metric, direction), now_ms)
    runs.client.log_batch(runs.parent_run_id, tags=as_tags({"rebuilt": "true"}), synchronous=True)
    return made


def adopt_runs(entries: Mapping[int, TrialEntry], recorded: Mapping[str, str]) -> None:
    """Let the trials go on in the runs that were made anew for them, by their numbers as the record has them."""
    for number, run_id in recorded.items():
        if (entry := entries.get(int(number))) is not None:
            entry.run_id = run_id
