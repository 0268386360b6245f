"""MLflow seen by a trial: each epoch goes to a file first, then to the server, never in training's way."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from trainable.retry_queue import IMPATIENCE, RetryQueue, is_lost_connection, is_no_mlflow

Epochs = Mapping[int, tuple[int, Mapping[str, float]]]  # epoch -> timestamp in ms, metrics

MAX_METRICS = 1000
"""Of a batch, in MLflow's REST interface."""
_log = logging.getLogger(__name__)


class RunLog:
    """Logs the epochs of one trial into its MLflow run, which the driver made and ends.

    `log_epoch` appends to `spool_path` and returns; a thread sends all that waits in one batch, and tries again while
    the server is away (`RetryQueue`). What was not confirmed is sent again with its first timestamp, also by the next
    RunLog on the same spool: MLflow then stores it once. Epochs that the run already holds are skipped: a resumed trial
    repeats some; `by` is the metric that says which (`find_held_epochs`). Without a `tracking_uri` nothing happens.
    """

    def __init__(self, tracking_uri: str | None, run_id: str, spool_path: Path, by: str | None = None) -> None:
        self._uri = tracking_uri
        self._by = by
        self._run_id = run_id
        self._spool_path = Path(spool_path)
        self._known: set[int] = set()
        self._waiting: dict[int, tuple[int, Mapping[str, float]]] = {}
        self._client: Any = None
        self._held: set[int] | None = None
        self._queue = RetryQueue("run-log")
        self._closing: threading.Thread | None = None
        if self._uri is not None:
            for epoch, (timestamp_ms, metrics) in sorted(self._open_spool().items()):
                self._put(epoch, timestamp_ms, metrics)

    def log_epoch(self, epoch: int, metrics: Mapping[str, float], timestamp_ms: int | None = None) -> None:
        """Take the metrics of one epoch (1-based; it becomes MLflow's step). Never raises for a lost server.

        `timestamp_ms` is Unix time, by default now. An epoch that was taken before is left as it is.
        """
        if self._uri is None or epoch in self._known:
            return
        timestamp_ms = int(time.time() * 1000) if timestamp_ms is None else timestamp_ms
        taken = {name: float(metrics[name]) for name in metrics}
        line = {"run_id": self._run_id, "epoch": epoch, "timestamp_ms": timestamp_ms, "metrics": taken}
        try:
            with self._spool_path.open("a") as spool:
                spool.write(json.dumps(line) + "\n")
        except OSError as error:
            _log.warning("the spool %s cannot be written: %s", self._spool_path, error)
        self._put(epoch, timestamp_ms, taken)

    def close(self, timeout_s: float = 5.0, *, wait: bool = True) -> None:
        """Send what waits, for at most `timeout_s`. What remains stays in the spool. Safe to call twice.

        Without `wait` a thread does so by itself, while the next trial trains.
        """
        if self._uri is None:
            return
        if self._closing is None:
            self._closing = threading.Thread(target=self._end, args=(timeout_s,), name="run-log-end", daemon=True)
            self._closing.start()
        if wait:
            self._closing.join()

    def _end(self, timeout_s: float) -> None:
        if rest := self._queue.flush(timeout_s):
            self._queue.drop()
            _log.warning("%s did not reach MLflow; they are in %s", ", ".join(rest), self._spool_path)
        else:
            self._spool_path.unlink(missing_ok=True)

    def _put(self, epoch: int, timestamp_ms: int, metrics: Mapping[str, float]) -> None:
        self._known.add(epoch)
        self._waiting[epoch] = timestamp_ms, metrics
        self._queue.put(f"epoch {epoch} of run {self._run_id}", partial(self._send, epoch))

    def _send(self, epoch: int) -> None:
        """Send an epoch and those that wait behind it; nothing where it went with one before it.

        Where a batch of several is refused, each goes by itself: the others are not lost with it.
        """
        if epoch not in self._waiting:
            return
        self._client = self._client or _make_client(self._uri)
        if self._held is None:
            self._held = find_held_epochs(self._client, self._run_id, self._waiting[epoch][1], self._by)
        waiting = dict(self._waiting)
        for batch in (waiting, {epoch: waiting[epoch]}):
            try:
                _send_epochs(self._client, self._run_id, {e: batch[e] for e in sorted(batch.keys() - self._held)})
            except Exception as error:
                is_refused = not (is_lost_connection(error) or is_no_mlflow(error))
                if is_refused and len(batch) > 1:
                    continue
                if is_refused:
                    del self._waiting[epoch]
                raise
            for sent in batch:
                del self._waiting[sent]
            return

    def _open_spool(self) -> dict[int, tuple[int, dict[str, float]]]:
        """What an earlier process of this trial could not confirm."""
        self._spool_path.parent.mkdir(parents=True, exist_ok=True)
        text, _, found = read_spool(self._spool_path)
        if text and not text.endswith("\n"):  # its writer was killed within a line
            with self._spool_path.open("a") as spool:
                spool.write("\n")
        return found


def read_spool(path: Path) -> tuple[str, str | None, dict[int, tuple[int, dict[str, float]]]]:
    """The text of a spool, "" where there is none; the run it is for, None in those of older versions; its epochs."""
    found: dict[int, tuple[int, dict[str, float]]] = {}
    run_id: str | None = None
    text = path.read_text(errors="replace") if path.exists() else ""
    for line in text.splitlines():
        try:
            entry = json.loads(line)
            found.setdefault(entry["epoch"], (entry["timestamp_ms"], entry["metrics"]))
            run_id = entry.get("run_id", run_id)
        except (ValueError, TypeError, KeyError, AttributeError):
            _log.warning("a broken line of the spool %s is skipped", path)
    return text, run_id, found


def send_spool(client: Any, path: Path, run_id: str | None = None, by: str | None = None) -> str | None:
    """Send what a spool holds and its run lacks; the run's id, None where it is not known. The file stays.

    `run_id` is for spools that do not say it. Raises what the client raises.
    """
    _, known, epochs = read_spool(path)
    if (run_id := known or run_id) is not None:
        send_missing(client, run_id, epochs, by)
    return run_id


def send_left_spools(tracking_uri: str, folder: Path, by: str | None = None) -> threading.Thread:
    """Send, from a thread, what processes that died on this node have left in `folder`; the files stay."""

    def send() -> None:
        client = _make_client(tracking_uri)
        for path in sorted(folder.glob("*.jsonl")):
            try:
                with IMPATIENCE:
                    send_spool(client, path, by=by)
            except Exception as error:  # the trials of this node log all the same
                _log.warning("the spool %s was not sent: %s", path, error)

    thread = threading.Thread(target=send, name="left-spools", daemon=True)
    thread.start()
    return thread


def send_missing(client: Any, run_id: str, epochs: Epochs, by: str | None = None) -> int:
    """Send those epochs that the run does not hold yet; returns how many.

    Idempotent: a repeated epoch is skipped, a repeated batch is stored once. Raises what the client raises.
    """
    if not epochs:
        return 0
    held = find_held_epochs(client, run_id, next(iter(epochs.values()))[1], by)
    missing = {epoch: epochs[epoch] for epoch in sorted(set(epochs) - held)}
    _send_epochs(client, run_id, missing)
    return len(missing)


def find_held_epochs(client: Any, run_id: str, metrics: Iterable[str], by: str | None = None) -> set[int]:
    """The epochs of which the run holds metrics. A batch is stored whole or not at all, so that one name speaks for
    all; every epoch must have it. It is `by`, the search's own metric, which a run that was made anew has as well, or
    the first of `metrics` by the alphabet where `by` is none of them."""
    names = set(metrics)
    return {metric.step for metric in client.get_metric_history(run_id, by if by and by in names else min(names))}


def _send_epochs(client: Any, run_id: str, epochs: Epochs) -> None:
    """In as few batches as MLflow takes; an epoch is never parted."""
    from mlflow.entities import Metric

    batch: list[Metric] = []
    for epoch, (timestamp_ms, metrics) in epochs.items():
        if batch and len(batch) + len(metrics) > MAX_METRICS:
            client.log_batch(run_id, metrics=batch, synchronous=True)
            batch = []
        batch += [Metric(name, value, timestamp_ms, epoch) for name, value in metrics.items()]
    if batch:
        client.log_batch(run_id, metrics=batch, synchronous=True)


def _make_client(tracking_uri: str | None) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri)
