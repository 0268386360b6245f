"""MLflow seen by the driver: one parent run a search, one child run a trial, and how each of them ended."""

from __future__ import annotations

import json
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

from mlflow import MlflowClient
from mlflow.entities import Metric, Run
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE

from search.core.machine_options import check_tracking_uri
from search.observers.mlflow_runs import (
    Runs,
    UnknownRunError,
    create_parent,
    describe_dataset,
    find_or_create_experiment,
    set_running,
)
from search.observers.questions import ask
from search.observers.trial_runs import TrialRuns, now_ms
from trainable.report import Direction, Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

TRAINING_VIEW = "workflowType=machine_learning"
"""Of MLflow's UI, which shows its GenAI side to whoever opens it for the first time."""


class Tracking(TrialRuns):
    """One search's runs: its own, and those of its trials. Built by `open`; used from one thread.

    `close_search` waits for all that was sent, as `flush` does. `open` and `view` need an answer, as `fix` does.
    """

    @classmethod
    def open(
        cls,
        uri: str,
        experiment: str,
        search_name: str,
        *,
        parent_run_id: str | None = None,
        metric: str = "val_auc",
        tags: Mapping[str, str] | None = None,
        description: str = "",
    ) -> Self:
        """Make the parent run of a search, or go on with `parent_run_id`; the experiment is made if missing.

        `metric` is the key among a trial's metrics by which its best epoch is chosen. Raises TrackingError
        when the server does not answer, or when the experiment or the parent run was deleted.
        """
        check_tracking_uri(uri)
        client = MlflowClient(uri)
        all_tags = {MLFLOW_RUN_NOTE: description, **(tags or {})}

        def find_or_create() -> Run:
            if parent_run_id is not None:
                find_or_create_experiment(client, experiment)
                with suppress(UnknownRunError):
                    return set_running(client, parent_run_id)
            return create_parent(client, experiment, search_name, all_tags)

        parent = ask(uri, find_or_create, patience_s=cls.patience_s)
        runs = Runs(client, parent, search_name=search_name, is_resumed=parent_run_id is not None)
        runs.description = description
        tracking = cls(uri, runs, metric=metric, direction=Direction.of(metric.removeprefix("val_")))
        tracking.is_rebuilt = parent_run_id not in (None, parent.info.run_id)
        return tracking

    @classmethod
    def view(cls, uri: str, search_name: str, parent_run_id: str, *, metric: str, numbered_by: str = "trial") -> Self:
        """The runs of a search that has ended or died, to complete them; the parent run stays as it is.

        `numbered_by` is the tag of its children that holds their numbers.
        Raises TrackingError when the server does not answer, or does not know the run.
        """
        client = MlflowClient(uri)
        parent = ask(uri, lambda: client.get_run(parent_run_id), patience_s=cls.patience_s)
        runs = Runs(client, parent, search_name=search_name, is_resumed=True, numbered_by=numbered_by)
        return cls(uri, runs, metric=metric, direction=Direction.of(metric.removeprefix("val_")))

    @property
    def parent_run_id(self) -> str:
        return self.runs.parent_run_id

    @property
    def experiment_id(self) -> str:
        return self.runs.experiment_id

    def log_dataset(self, name: str, digest: str, source: str) -> None:
        """Say what the search and all trials that begin from now on are trained on (`describe_dataset`)."""
        self.runs.dataset = describe_dataset(name, digest, source)
        self._queue.put("the dataset", lambda: self.runs.log_dataset(self.parent_run_id))

    def describe_champion(self, text: str, run_id: str | None) -> None:
        """Begin the description of the search's run with `text`, Markdown; also that of the champion's own run."""
        self._queue.put("the description of the champion", lambda: self.runs.describe_champion(text, run_id))

    def close_search(
        self,
        outcome: Outcome,
        *,
        tags: Mapping[str, str] | None = None,
        metrics: Mapping[str, float] | None = None,
        timeout_s: float = 60.0,
    ) -> bool:
        """End the parent run, and as interrupted every trial still open; deliver all that waits.

        Returns False, after a warning, when something could not be delivered within `timeout_s`.
        """
        for number in sorted(self._open):
            self._end(number, Outcome.INTERRUPTED)
        ended_ms = now_ms()
        summary = [Metric(key, value, ended_ms, 0) for key, value in (metrics or {}).items()]
        all_tags = {**(tags or {}), "outcome": str(outcome)}
        self._queue.put(
            "the end of the search", lambda: self.runs.end(self.parent_run_id, outcome, all_tags, summary, ended_ms)
        )
        return self.flush(timeout_s)

    @contextmanager
    def closing_on_error(self) -> Iterator[None]:
        """Whatever ends a search around its trials, a second Ctrl-C included: no run stays RUNNING."""
        try:
            yield
        except BaseException:
            self.close_search(Outcome.INTERRUPTED, timeout_s=5)
            raise

    def log_text(self, path: str, text: str) -> None:
        """Keep a text as an artifact of the parent run, under `path`."""
        self._queue.put(path, lambda: self.runs.client.log_text(self.parent_run_id, text, path))

    def log_metrics(self, metrics: Mapping[str, float]) -> None:
        """Log figures of the whole search to its parent run."""
        logged_ms, run_id = now_ms(), self.parent_run_id
        batch = [Metric(name, value, logged_ms, 0) for name, value in metrics.items()]
        self._queue.put("figures", lambda: self.runs.client.log_batch(run_id, metrics=batch, synchronous=True))

    def log_dict(self, path: str, content: dict[str, Any]) -> None:
        """Keep a dict as JSON or YAML, by the ending of `path`."""
        self._queue.put(path, lambda: self.runs.client.log_dict(self.parent_run_id, content, path))

    def log_file(self, file: Path, folder: str | None = None) -> None:
        """Keep a local file, under its own name in `folder`. It must stay until `close_search`."""
        run_id = self.parent_run_id
        self._queue.put(file.name, lambda: self.runs.client.log_artifact(run_id, str(file), folder))

    def run_url(self, run_id: str) -> str:
        """The page of a run in MLflow's UI, as it looks for model training."""
        return f"{self.uri}/#/experiments/{self.experiment_id}/runs/{run_id}?{TRAINING_VIEW}"

    def search_url(self) -> str:
        """The page of the parent run."""
        return self.run_url(self.parent_run_id)

    def compare_url(self, run_ids: Iterable[str]) -> str:
        """The page that compares runs, with parallel coordinates."""
        runs, experiments = (
            quote(json.dumps(ids, separators=(",", ":"))) for ids in (list(run_ids), [self.experiment_id])
        )
        return f"{self.uri}/#/compare-runs?runs={runs}&experiments={experiments}&{TRAINING_VIEW}"
