"""MLflow seen by the driver: one parent run a search, one child run a trial, and how each of them ended."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from functools import partial
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

from mlflow import MlflowClient
from mlflow.entities import Metric, Run

from search.core.config import check_tracking_uri
from search.observers.mlflow_runs import (
    MAX_TAG_CHARS,
    STATUSES,
    Runs,
    find_or_create_experiment,
    set_running,
)
from search.observers.outbox import Outbox, ask
from trainable.run_log import send_missing

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping
    from pathlib import Path


class Tracking:
    """One search's runs. Built by `open`; used from one thread.

    What tells MLflow something (`close_trial`, `log_...`) is sent by a thread, in order, while the search goes on;
    `flush` and `close_search` wait for it. While the server is away it is kept in memory. What needs an answer
    (`open`, `open_trial`, `mend`) is tried for `patience_s` seconds, in the middle of a search for `trial_patience_s`,
    unless `is_over` says that the search ends: a server that is started anew shall end no search. Then TrackingError is
    raised. What the server refuses for good is dropped with a warning.
    """

    patience_s = 30.0
    trial_patience_s = 600.0

    def __init__(
        self,
        uri: str,
        *,
        experiment_id: str,
        parent_run_id: str,
        search_name: str,
        metric: str,
        higher_is_better: bool,
        is_resumed: bool,
    ) -> None:
        self.uri = uri.rstrip("/")
        self.experiment_id = experiment_id
        self.parent_run_id = parent_run_id
        self.search_name = search_name
        self._client = MlflowClient(uri)
        self._runs = Runs(
            self._client, experiment_id=experiment_id, parent_run_id=parent_run_id, search_name=search_name
        )
        self._outbox = Outbox(uri)
        self._metric = metric
        self._higher_is_better = higher_is_better
        self._is_resumed = is_resumed
        self._open: dict[int, str] = {}  # trial number -> run id
        self._closed: set[int] = set()
        self.speaks_for_trials = False
        self.is_over: Callable[[], bool] = lambda: False
        self._heard: dict[int, dict[int, tuple[int, dict[str, float]]]] = defaultdict(dict)

    @classmethod
    def open(
        cls,
        uri: str,
        experiment: str,
        search_name: str,
        *,
        parent_run_id: str | None = None,
        metric: str = "val_auc",
        higher_is_better: bool = True,
        tags: Mapping[str, str] | None = None,
        description: str = "",
    ) -> Self:
        """Make the parent run of a search, or go on with `parent_run_id`; the experiment is made if missing.

        `metric` is the key among a trial's metrics by which its best epoch is chosen. Raises TrackingError
        when the server does not answer, or when the experiment or the parent run was deleted.
        """
        check_tracking_uri(uri)
        client = MlflowClient(uri)
        all_tags = {"search": search_name, "mlflow.note.content": description, **(tags or {})}

        def find_or_create() -> Run:
            found = find_or_create_experiment(client, experiment)
            if parent_run_id is not None:
                return set_running(client, parent_run_id)
            return client.create_run(found.experiment_id, run_name=search_name, tags=all_tags)

        run = ask(uri, find_or_create, patience_s=cls.patience_s)
        return cls(
            uri,
            experiment_id=run.info.experiment_id,
            parent_run_id=run.info.run_id,
            search_name=search_name,
            metric=metric,
            higher_is_better=higher_is_better,
            is_resumed=parent_run_id is not None,
        )

    def open_trial(self, number: int, params: Mapping[str, Any], tags: Mapping[str, str] | None = None) -> str:
        """Make the child run of a trial and log its configuration; returns the run's id.

        A trial number has one run: one that exists already (resume, or an answer that was lost) goes on.
        Raises TrackingError when the server stays away for `trial_patience_s`.
        """
        may_exist = self._is_resumed

        def find_or_create() -> str:
            nonlocal may_exist
            run = self._runs.find_trial(number) if may_exist else None
            may_exist = True
            if run is None:
                run = self._runs.create_trial(number, tags or {})
            else:
                set_running(self._client, run.info.run_id)
            self._runs.log_params(run, params)
            return run.info.run_id

        run_id = ask(self.uri, find_or_create, patience_s=self.trial_patience_s, is_over=self.is_over)
        self._open[number] = run_id
        self._closed.discard(number)
        return run_id

    def adopt_trial(self, number: int, run_id: str) -> None:
        """Go on with a trial's run of an earlier session: it is RUNNING again, without an outcome.

        MLflow offers no way to clear its old end time; its next end replaces it.
        """
        self._open[number] = run_id
        self._closed.discard(number)
        self._outbox.tell(f"that trial {number} goes on", lambda: set_running(self._client, run_id))

    def hear(self, number: int, epoch: int, timestamp_ms: int, metrics: Mapping[str, float]) -> None:
        """Remember what a trial reported; `close_trial` sends what its own log did not. The first stays.

        With `speaks_for_trials` it is sent at once: trials on other nodes cannot reach a server on 127.0.0.1.
        """
        heard = self._heard[number]
        if epoch in heard:
            return
        heard[epoch] = (timestamp_ms, dict(metrics))
        if self.speaks_for_trials and (run_id := self._open.get(number)):
            send = partial(send_missing, self._client, run_id, {epoch: heard[epoch]})
            self._outbox.tell(f"epoch {epoch} of trial {number}", send)

    def close_trial(
        self, number: int, outcome: str, *, tags: Mapping[str, str] | None = None, error: str | None = None
    ) -> None:
        """End a trial's run: gaps filled, best epoch noted, outcome and status set. The first outcome stays.

        Logs `best_<metric>` and `best_epoch`, the end of `error` as a tag.
        """
        _check_outcome(outcome)
        if number in self._closed:
            return
        if number not in self._open:
            raise ValueError(f"trial {number} was not opened; open are: {sorted(self._open)}")
        self._closed.add(number)
        run_id, heard = self._open.pop(number), self._heard.pop(number, {})
        all_tags = {
            **(tags or {}),
            "outcome": outcome,
            **({"error": error[-MAX_TAG_CHARS:]} if error else {}),
        }
        now_ms = _now_ms()
        self._outbox.tell(f"epochs of trial {number}", lambda: send_missing(self._client, run_id, heard))
        self._outbox.tell(
            f"the end of trial {number}",
            lambda: self._runs.end(run_id, outcome, all_tags, self._summarize(run_id), now_ms),
        )

    def mend(self, outcomes: Mapping[int, str], *, keep: Collection[int] = ()) -> list[int]:
        """After a driver died: end every child run still RUNNING, but for the trials in `keep`.

        `outcomes` says what is known of how they ended, by trial number; the others were interrupted. What
        was heard of them is sent. Returns the numbers of the trials that were mended.
        """
        runs = ask(self.uri, self._runs.find_running, patience_s=self.patience_s)
        mended = sorted(set(runs) - set(keep) - set(self._open))
        for number in mended:
            self._open[number] = runs[number]
            self._closed.discard(number)
            self.close_trial(number, outcomes.get(number, "interrupted"))
        self.flush(self.patience_s)
        return mended

    def close_search(
        self,
        outcome: str,
        *,
        tags: Mapping[str, str] | None = None,
        metrics: Mapping[str, float] | None = None,
        timeout_s: float = 60.0,
    ) -> bool:
        """End the parent run, and as interrupted every trial still open; deliver all that waits.

        Returns False, after a warning, when something could not be delivered within `timeout_s`.
        """
        _check_outcome(outcome)
        for number in list(self._open):
            self.close_trial(number, "interrupted")
        now_ms = _now_ms()
        summary = [Metric(key, value, now_ms, 0) for key, value in (metrics or {}).items()]
        all_tags = {**(tags or {}), "outcome": outcome}
        self._outbox.tell(
            "the end of the search",
            lambda: self._runs.end(self.parent_run_id, outcome, all_tags, summary, now_ms),
        )
        return self._outbox.empty(timeout_s)

    def flush(self, timeout_s: float = 60.0) -> bool:
        """Return when MLflow knows all that it was told; False, after a warning, when it stayed away."""
        return self._outbox.empty(timeout_s)

    def log_text(self, path: str, text: str) -> None:
        """Keep a text as an artifact of the parent run, under `path`."""
        self._outbox.tell(path, lambda: self._client.log_text(self.parent_run_id, text, path))

    def log_dict(self, path: str, content: dict[str, Any]) -> None:
        """Keep a dict as JSON or YAML, by the ending of `path`."""
        self._outbox.tell(path, lambda: self._client.log_dict(self.parent_run_id, content, path))

    def log_file(self, file: Path, folder: str | None = None) -> None:
        """Keep a local file, under its own name in `folder`. It must stay until `close_search`."""
        run_id = self.parent_run_id
        self._outbox.tell(file.name, lambda: self._client.log_artifact(run_id, str(file), folder))

    def run_url(self, run_id: str) -> str:
        """The page of a run in MLflow's UI."""
        return f"{self.uri}/#/experiments/{self.experiment_id}/runs/{run_id}"

    def search_url(self) -> str:
        """The page of the parent run."""
        return self.run_url(self.parent_run_id)

    def compare_url(self, run_ids: Iterable[str]) -> str:
        """The page that compares runs, with parallel coordinates."""
        runs, experiments = (
            quote(json.dumps(ids, separators=(",", ":"))) for ids in (list(run_ids), [self.experiment_id])
        )
        return f"{self.uri}/#/compare-runs?runs={runs}&experiments={experiments}"

    def _summarize(self, run_id: str) -> list[Metric]:
        return self._runs.summarize(run_id, self._metric, higher_is_better=self._higher_is_better)


def _check_outcome(outcome: str) -> None:
    if outcome not in STATUSES:
        raise ValueError(f"the outcome is {outcome!r}; it must be one of {', '.join(STATUSES)}")


def _now_ms() -> int:
    return int(time.time() * 1000)
