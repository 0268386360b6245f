"""The runs of trials in MLflow: opened as they begin, filled as they report, ended with their outcome."""

from __future__ import annotations

import logging
import threading
import time
from functools import partial
from typing import TYPE_CHECKING

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from search.core.events import Observer
from search.observers.mlflow_runs import (
    MAX_TAG_CHARS,
    Runs,
    name_best,
    set_running,
)
from search.observers.questions import TrackingError, ask
from search.observers.rebuilding import rebuild_runs
from trainable.recipes import name_recipe
from trainable.report import Direction, Outcome, TrialReport
from trainable.retry_queue import IMPATIENCE, RetryQueue, is_lost_connection
from trainable.run_log import read_spool, send_missing, send_spool

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping
    from pathlib import Path

    from mlflow.entities import Metric

    from search.core.ledger import TrialEntry

_log = logging.getLogger(__name__)
OPENING_S = 3.0
"""How long a trial waits for its run; where the server is slower, the driver logs for it."""


class TrialRuns(Observer):
    """The runs of a search's trials. Used from one thread.

    What MLflow has to know is sent by a thread, in order, while the search goes on; `flush` waits for it. While the
    server is away it is kept in memory, the opening of runs included: a trial that has to begin without its run trains
    all the same, and the driver logs what it reports. `fix` needs an answer and is tried for `patience_s` seconds, then
    TrackingError is raised. What the server refuses for good is dropped with a warning, but for a run that it will not
    open: that raises TrackingError.
    """

    patience_s = 30.0

    def __init__(self, uri: str, runs: Runs, *, metric: str, direction: Direction) -> None:
        self.uri = uri.rstrip("/")
        self.runs = runs
        self.metric = metric
        self.direction = direction
        self.logs_for_trials = False
        """Whether the driver logs for all trials: those on other nodes cannot reach a server on 127.0.0.1."""
        self.tag_trial: Callable[[TrialEntry], Mapping[str, str]] = _tag_recipe
        self.find_server: Callable[[], str] = lambda: self.uri
        """Where the server answers by now; asked while it is away."""
        self.is_rebuilt = False
        """Whether MLflow had lost the search's run, so that another one was made."""
        self._queue = RetryQueue("tracking", self._say_away)
        self._queue.look_again, self._queue.is_known = self._look_again, self._knows_the_search
        self._open: set[int] = set()
        self._begun: set[int] = set()
        self._logged_for: set[int] = set()  # trials that began without their run
        self._run_ids: dict[int, str] = {}

    @property
    def is_away(self) -> bool:
        """Whether the server did not answer the last call."""
        return self._queue.is_away

    def trial_began(self, entry: TrialEntry) -> None:
        """Open the run of a trial, or let the one of an earlier session go on: RUNNING again, without an outcome.

        A trial number has one run. MLflow offers no way to clear the end time of one that goes on; its next end
        replaces it. Sets the entry's `run_id`, as soon as the server has given it.
        """
        number = entry.number
        self._open.add(number)
        self._logged_for.discard(number)
        if (run_id := entry.run_id) is not None:
            self._run_ids[number] = run_id
            self._queue.put(f"that trial {number} goes on", lambda: set_running(self.runs.client, run_id))
            return
        opened, refused = threading.Event(), list[Exception]()

        def take(run_id: str) -> None:
            self._run_ids[number] = entry.run_id = run_id
            opened.set()

        def refuse(error: Exception) -> None:
            if not opened.is_set():
                refused.append(error)
                opened.set()

        # A worker waits for it; but the run of a trial that begins anew is not opened before its end has been sent.
        self._queue.put(
            f"the run of trial {number}",
            lambda: self.runs.open_trial(number, entry.params, self.tag_trial(entry), take),
            is_urgent=number not in self._begun,
            refused=refuse,
        )
        self._begun.add(number)
        if self.runs.dataset is not None:
            self._send_to_run(number, f"the dataset of trial {number}", self.runs.log_dataset)
        opened.wait(0.0 if self._queue.is_away else OPENING_S)
        if refused:
            raise TrackingError(f"MLflow at {self.uri} refused the run of trial {number}: {refused[0]}")
        if entry.run_id is None:
            self._logged_for.add(number)

    def epoch_reported(self, entry: TrialEntry, report: TrialReport) -> None:
        """A trial logs itself (`trial_ended` sends what its own log did not), but for those that cannot."""
        if self.logs_for_trials or entry.number in self._logged_for:
            self._send(entry.number, {report.epoch: report}, f"epoch {report.epoch} of trial {entry.number}")

    def trial_paused(self, entry: TrialEntry) -> None:
        self._tag_state(entry.number, "paused")

    def trial_resumed(self, entry: TrialEntry) -> None:
        self._tag_state(entry.number, "running")

    def trial_ended(self, entry: TrialEntry) -> None:
        """End a trial's run: gaps filled, best epoch noted, tags, outcome and status set.

        Logs `best_<metric>` and `best_epoch`, the end of its traceback or error as a tag. A trial of an earlier session
        that ends without having gone on in this one has its run too.
        """
        assert entry.outcome is not None
        if entry.number not in self._open:
            if not entry.outcome.is_final:
                return
            if entry.run_id is not None:
                self._run_ids.setdefault(entry.number, entry.run_id)
        self._send(entry.number, entry.reports, f"epochs of trial {entry.number}")
        self._end(entry.number, entry.outcome, entry.tags, entry.traceback or entry.error, self._summarize(entry))

    def rebuild(self, entries: Mapping[int, TrialEntry]) -> dict[int, str]:
        """Make the run of every trial anew, where MLflow has lost them; their ids by number, as the entries have them.

        Raises TrackingError when the server does not answer.
        """
        _log.warning(
            "MLflow at %s does not know this search any more (another database?): its runs are made anew from the "
            "search's own record, with %s alone of their metrics",
            self.uri,
            self.metric,
        )
        rebuilt_ms = now_ms()

        def make() -> dict[int, str]:
            return rebuild_runs(self.runs, entries, metric=self.metric, direction=self.direction, now_ms=rebuilt_ms)

        made = ask(self.uri, make, patience_s=self.patience_s)
        for number, run_id in made.items():
            entries[number].run_id = run_id
        return made

    def fix(self, outcomes: Mapping[int, Outcome], *, keep: Collection[int] = ()) -> list[int]:
        """After a driver died: end every child run still RUNNING, but for the trials in `keep`.

        `outcomes` says what is known of how they ended, by trial number; the others were interrupted. Those that count
        as interrupted in MLflow, and have ended since, get their outcome. Returns the numbers of the trials that were
        fixed.
        """
        running = ask(self.uri, self.runs.find_running, patience_s=self.patience_s)
        interrupted = ask(self.uri, self.runs.find_interrupted, patience_s=self.patience_s)
        self._run_ids = {number: running[number] for number in set(running) & set(keep)} | self._run_ids
        ended = {number for number in interrupted if outcomes.get(number, Outcome.INTERRUPTED).is_final}
        runs = interrupted | running
        fixed = sorted((set(running) | ended) - set(keep) - self._open)
        for number in fixed:
            self._open.add(number)
            self._run_ids[number] = runs[number]
            self._end(number, outcomes.get(number, Outcome.INTERRUPTED))
        self.flush(self.patience_s)
        return fixed

    def send_spools(self, files: Iterable[Path], entries: Mapping[int, TrialEntry]) -> None:
        """Send what dead processes could not: the spool of each trial, named by its number, into its run.

        Those of trials that have ended are deleted then; the others are still their trials'. To be called before
        `fix`, which sums the runs up.
        """
        for path in files:
            if not path.stem.isdecimal() or (entry := entries.get(int(path.stem))) is None:
                continue
            self._queue.put(f"the spool {path.name}", partial(self._send_spool, path, entry))

    def _send_spool(self, path: Path, entry: TrialEntry) -> None:
        _, known, _ = read_spool(path)
        if None not in (known, entry.run_id) and known != entry.run_id:  # of a run that MLflow has lost
            path.unlink(missing_ok=True)
            return
        run_id = send_spool(self.runs.client, path, entry.run_id, self.metric)
        if run_id is None or entry.outcome is None or not entry.outcome.is_final:
            return
        summary = self.runs.summarize(run_id, self.metric, self.direction)
        self.runs.client.log_batch(run_id, metrics=summary, synchronous=True)
        path.unlink(missing_ok=True)

    def flush(self, timeout_s: float = 60.0) -> bool:
        """Return when MLflow knows all that it was sent; False, after a warning, when it stayed away."""
        if missing := self._queue.flush(timeout_s):
            _log.warning("MLflow at %s stayed away and did not get: %s", self.uri, "; ".join(missing))
        return not missing

    def _look_again(self) -> None:
        """Go on with a server that is back at another address. Trials know the old one: the driver logs for them."""
        try:
            uri = self.find_server().rstrip("/")
        except Exception as error:  # asked again after the next pause
            _log.debug("the server was not found again: %s", error)
            return
        if uri != self.uri:
            _log.warning("MLflow is at %s now, not at %s", uri, self.uri)
            self.uri, self.runs.client = uri, MlflowClient(uri)
            self.logs_for_trials = True

    def _knows_the_search(self) -> bool:
        """Whether the server that answers is this search's: another one may have taken the port of one that died."""
        try:
            with IMPATIENCE:
                self.runs.client.get_run(self.runs.parent_run_id)
        except Exception as error:
            is_unknown = isinstance(error, MlflowException) and error.error_code == "RESOURCE_DOES_NOT_EXIST"
            return not (is_unknown or is_lost_connection(error))
        return True

    def _say_away(self, error: Exception) -> None:
        _log.warning("MLflow at %s is away; its records wait in memory: %s", self.uri, error)

    def _tag_state(self, number: int, state: str) -> None:
        """Whether a trial without an outcome trains or waits, for people."""
        what = f"that trial {number} is {state}"
        self._send_to_run(number, what, lambda run_id: self.runs.client.set_tag(run_id, "state", state))

    def _send(self, number: int, reports: Mapping[int, TrialReport], what: str) -> None:
        epochs = {epoch: (report.timestamp_ms, report.metrics) for epoch, report in reports.items()}
        self._send_to_run(number, what, lambda run_id: send_missing(self.runs.client, run_id, epochs, self.metric))

    def _send_to_run(self, number: int, what: str, action: Callable[[str], object]) -> None:
        """Call `action` with the run of a trial, once it has one; not at all where its run was refused."""

        def act() -> None:
            if (run_id := self._run_ids.get(number)) is not None:
                action(run_id)

        self._queue.put(what, act)

    def _summarize(self, entry: TrialEntry) -> list[Metric]:
        """What a trial was best, as the ledger knows it; MLflow need not be asked."""
        report = entry.reports.get(entry.best_epoch or 0)
        return name_best(
            self.metric, entry.best_value, entry.best_epoch, report.timestamp_ms if report is not None else now_ms()
        )

    def _end(
        self,
        number: int,
        outcome: Outcome,
        tags: Mapping[str, str] | None = None,
        error: str | None = None,
        summary: list[Metric] | None = None,
    ) -> None:
        """End a run; without a `summary` its own metrics are summed up."""
        self._open.discard(number)
        said = {"error": error[-MAX_TAG_CHARS:]} if error else {}
        all_tags = {**(tags or {}), "outcome": str(outcome), "state": str(outcome), **said}
        ended_ms = now_ms()

        def end() -> None:
            if (run_id := self._run_ids.pop(number, None)) is None:
                return
            try:
                best = self.runs.summarize(run_id, self.metric, self.direction) if summary is None else summary
                self.runs.end(run_id, outcome, all_tags, best, ended_ms)
            except BaseException:
                self._run_ids.setdefault(number, run_id)  # for when the server is back
                raise

        self._queue.put(f"the end of trial {number}", end)


def _tag_recipe(entry: TrialEntry) -> dict[str, str]:
    recipe = name_recipe(entry.params)
    return {"recipe": recipe} if recipe else {}


def now_ms() -> int:
    """Milliseconds since 1970, as MLflow counts time."""
    return int(time.time() * 1000)
