"""MLflow seen by a trial: each epoch goes to a file first, then to the server, never in training's way."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

Epochs = Mapping[int, tuple[int, Mapping[str, float]]]  # epoch -> timestamp in ms, metrics

# Our own loop asks again; mlflow's own patience (four minutes and more) would be beyond our reach.
IMPATIENT_HTTP = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "0",
}
_FIRST_WAIT_S, _LONGEST_WAIT_S, _CLOSING_WAIT_S = 0.5, 30.0, 0.5
_log = logging.getLogger(__name__)


class RunLog:
    """Logs the epochs of one trial into its MLflow run, which the driver made and ends.

    `log_epoch` appends to `spool_path` and returns; a thread sends one batch an epoch and tries again, with
    growing pauses of up to 30 s, while the server is away. What was not confirmed is sent again with its
    first timestamp, also by the next RunLog on the same spool: MLflow then stores it once. Epochs that the
    run already holds are skipped: a resumed trial repeats some. Without a `tracking_uri` nothing happens.

    The thread lowers MLflow's HTTP patience for this process (IMPATIENT_HTTP), unless it is set already.
    """

    def __init__(self, tracking_uri: str | None, run_id: str, spool_path: Path) -> None:
        self._uri = tracking_uri
        self._run_id = run_id
        self._spool_path = Path(spool_path)
        self._epochs: dict[int, tuple[int, dict[str, float]]] = {}
        self._changed = threading.Condition()
        self._give_up_at: float | None = None  # monotonic; set by close
        self._thread = threading.Thread(target=self._run, name="run-log", daemon=True)
        if self._uri is not None:
            self._waiting = self._open_spool()
            self._epochs.update(self._waiting)
            self._thread.start()

    def log_epoch(self, epoch: int, metrics: Mapping[str, float], timestamp_ms: int | None = None) -> None:
        """Take the metrics of one epoch (1-based; it becomes MLflow's step). Never raises for a lost server.

        `timestamp_ms` is Unix time, by default now. An epoch that was taken before is left as it is.
        """
        if self._uri is None or epoch in self._epochs:
            return
        timestamp_ms = int(time.time() * 1000) if timestamp_ms is None else timestamp_ms
        self._epochs[epoch] = entry = timestamp_ms, {name: float(metrics[name]) for name in metrics}
        line = {"run_id": self._run_id, "epoch": epoch, "timestamp_ms": timestamp_ms, "metrics": entry[1]}
        try:
            with self._spool_path.open("a") as spool:
                spool.write(json.dumps(line) + "\n")
        except OSError as error:
            _log.warning("the spool %s cannot be written: %s", self._spool_path, error)
        with self._changed:
            self._waiting[epoch] = entry
            self._changed.notify_all()

    def close(self, timeout_s: float = 5.0, *, wait: bool = True) -> None:
        """Send what waits, for at most `timeout_s`. What remains stays in the spool. Safe to call twice.

        Without `wait` the thread does so by itself, while the next trial trains.
        """
        if self._uri is None:
            return
        with self._changed:
            if self._give_up_at is None:
                self._give_up_at = time.monotonic() + timeout_s
            self._changed.notify_all()
        if wait:
            self._thread.join(timeout_s)
            if self._thread.is_alive():
                self._tell_rest()

    def _open_spool(self) -> dict[int, tuple[int, dict[str, float]]]:
        """What an earlier process of this trial could not confirm."""
        self._spool_path.parent.mkdir(parents=True, exist_ok=True)
        text, _, found = read_spool(self._spool_path)
        if text and not text.endswith("\n"):  # its writer was killed within a line
            with self._spool_path.open("a") as spool:
                spool.write("\n")
        return found

    def _run(self) -> None:
        self._send_all()
        if self._waiting:
            self._tell_rest()
        else:
            self._spool_path.unlink(missing_ok=True)

    def _tell_rest(self) -> None:
        epochs = ", ".join(map(str, sorted(self._waiting)))
        _log.warning("epochs %s did not reach MLflow; they are in %s", epochs, self._spool_path)

    def _send_all(self) -> None:
        client: Any = None
        held: set[int] | None = None
        wait_s = _FIRST_WAIT_S
        while (epoch := self._next_epoch()) is not None:
            try:
                client = client or _make_client(self._uri)
                if held is None:
                    held = find_held_epochs(client, self._run_id, self._waiting[epoch][1])
                if epoch not in held:
                    _send_epoch(client, self._run_id, epoch, *self._waiting[epoch])
                wait_s = _FIRST_WAIT_S
            except Exception as error:  # a thread that dies would lose what comes later
                if is_lost_connection(error):
                    _log.info("MLflow is away, epoch %d and later wait: %s", epoch, error)
                    wait_s = self._pause(wait_s)
                    continue
                _log.warning("MLflow refused epoch %d of run %s: %s", epoch, self._run_id, error)
            with self._changed:
                del self._waiting[epoch]

    def _next_epoch(self) -> int | None:
        """Wait for an epoch to send; None when closed and all is sent or the time for it has passed."""
        with self._changed:
            while not self._waiting and self._give_up_at is None:
                self._changed.wait()
            if self._give_up_at is not None and time.monotonic() >= self._give_up_at:
                return None
            return min(self._waiting, default=None)

    def _pause(self, wait_s: float) -> float:
        with self._changed:
            closing = self._give_up_at is not None
            self._changed.wait(_CLOSING_WAIT_S if closing else wait_s)
        return min(2 * wait_s, _LONGEST_WAIT_S)


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


def send_spool(client: Any, path: Path, run_id: str | None = None) -> str | None:
    """Send what a spool holds and its run lacks; the run's id, None where it is not known. The file stays.

    `run_id` is for spools that do not say it. Raises what the client raises.
    """
    _, known, epochs = read_spool(path)
    if (run_id := known or run_id) is not None:
        send_missing(client, run_id, epochs)
    return run_id


def send_left_spools(tracking_uri: str, folder: Path) -> threading.Thread:
    """Send, from a thread, what processes that died on this node have left in `folder`; the files stay."""

    def send() -> None:
        client = _make_client(tracking_uri)
        for path in sorted(folder.glob("*.jsonl")):
            try:
                send_spool(client, path)
            except Exception as error:  # the trials of this node log all the same
                _log.warning("the spool %s was not sent: %s", path, error)

    thread = threading.Thread(target=send, name="left-spools", daemon=True)
    thread.start()
    return thread


def send_missing(client: Any, run_id: str, epochs: Epochs) -> int:
    """Send those epochs that the run does not hold yet, one batch each; returns how many.

    Idempotent: a repeated epoch is skipped, a repeated batch is stored once. Raises what the client raises.
    """
    if not epochs:
        return 0
    held = find_held_epochs(client, run_id, next(iter(epochs.values()))[1])
    missing = sorted(set(epochs) - held)
    for epoch in missing:
        _send_epoch(client, run_id, epoch, *epochs[epoch])
    return len(missing)


def find_held_epochs(client: Any, run_id: str, metrics: Iterable[str]) -> set[int]:
    """The epochs of which the run holds metrics. A batch is stored whole or not at all, so that one name, the
    first of `metrics` by the alphabet, speaks for all; every epoch must have it."""
    return {metric.step for metric in client.get_metric_history(run_id, min(metrics))}


def _send_epoch(client: Any, run_id: str, epoch: int, timestamp_ms: int, metrics: Mapping[str, float]) -> None:
    from mlflow.entities import Metric

    batch = [Metric(name, value, timestamp_ms, epoch) for name, value in metrics.items()]
    client.log_batch(run_id, metrics=batch, synchronous=True)


def is_lost_connection(error: Exception) -> bool:
    """Whether it is worth asking again: the server was away, too slow or failed, rather than refused."""
    from mlflow.exceptions import MlflowException
    from requests.exceptions import RequestException

    if isinstance(error, MlflowException):
        return error.get_http_status_code() >= 500 or error.get_http_status_code() == 429
    return isinstance(error, RequestException | ConnectionError | TimeoutError)


def _make_client(tracking_uri: str | None) -> Any:
    for name, value in IMPATIENT_HTTP.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri)
