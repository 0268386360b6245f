from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

from tests.outages import outage
from trainable.retry_queue import is_lost_connection
from trainable.run_log import RunLog, send_missing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mlflow.entities import Metric

    from mlflow_server.serve import ServerHandle

NOWHERE = "http://127.0.0.1:9"  # the discard port: nobody listens


@pytest.fixture(scope="module")
def client(mlflow_server: ServerHandle) -> MlflowClient:
    return MlflowClient(mlflow_server.uri)


@pytest.fixture
def run_id(client: MlflowClient) -> str:
    return client.create_run("0").info.run_id


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "spool" / "0007.jsonl"


def metrics_of(epoch: int) -> dict[str, float]:
    return {"train_loss": 1.0 / epoch, "val_auc": 0.5 + epoch / 100, "epoch_s": 0.1}


def read(client: MlflowClient, run_id: str, key: str = "val_auc") -> list[tuple[int, int, float]]:
    """(step, timestamp, value) of all that is stored, repetitions included."""
    return sorted((m.step, m.timestamp, m.value) for m in client.get_metric_history(run_id, key))


def test_every_epoch_is_stored_with_its_step_time_and_values(
    mlflow_server: ServerHandle, client: MlflowClient, run_id: str, spool: Path
) -> None:
    log = RunLog(mlflow_server.uri, run_id, spool)
    for epoch in (1, 2, 3):
        log.log_epoch(epoch, metrics_of(epoch), 1000 * epoch)
    log.close(60)
    for key in metrics_of(1):
        assert read(client, run_id, key) == [(e, 1000 * e, metrics_of(e)[key]) for e in (1, 2, 3)]
    assert not spool.exists(), "all was confirmed"
    log.close()


def test_epochs_that_a_resumed_trial_repeats_are_stored_once(
    mlflow_server: ServerHandle, client: MlflowClient, run_id: str, spool: Path
) -> None:
    first = RunLog(mlflow_server.uri, run_id, spool)
    for epoch in (1, 2, 3):
        first.log_epoch(epoch, metrics_of(epoch), 1000 * epoch)
    first.log_epoch(3, metrics_of(9), 9000)
    first.close(60)
    resumed = RunLog(mlflow_server.uri, run_id, spool)
    for epoch in (2, 3, 4):
        resumed.log_epoch(epoch, metrics_of(epoch), 5000 + epoch)
    resumed.close(60)
    assert [(step, time_ms) for step, time_ms, _ in read(client, run_id)] == [
        (1, 1000),
        (2, 2000),
        (3, 3000),
        (4, 5004),
    ]


def test_nothing_is_lost_when_the_server_is_killed_in_the_middle(
    mlflow_server: ServerHandle, client: MlflowClient, run_id: str, spool: Path
) -> None:
    log = RunLog(mlflow_server.uri, run_id, spool)
    for epoch in range(1, 6):
        log.log_epoch(epoch, metrics_of(epoch), 1000 * epoch)
    with outage(mlflow_server):
        for epoch in range(6, 11):
            log.log_epoch(epoch, metrics_of(epoch), 1000 * epoch)
        assert len(spool.read_text().splitlines()) == 10
    for epoch in range(11, 16):
        log.log_epoch(epoch, metrics_of(epoch), 1000 * epoch)
    log.close(120)
    assert read(client, run_id) == [(e, 1000 * e, metrics_of(e)["val_auc"]) for e in range(1, 16)]
    assert not spool.exists()


def test_a_server_that_is_away_neither_raises_nor_blocks_and_the_spool_is_sent_later(
    mlflow_server: ServerHandle,
    client: MlflowClient,
    run_id: str,
    spool: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    log = RunLog(NOWHERE, run_id, spool)
    log.log_epoch(1, metrics_of(1), 1000)
    log.log_epoch(2, metrics_of(2), 2000)
    log.close(0.2)
    assert f"epoch 1 of run {run_id}, epoch 2 of run {run_id} did not reach MLflow" in caplog.text
    with spool.open("a") as file:
        file.write('{"epoch": 3, "time')  # the process was killed within a line
    resumed = RunLog(mlflow_server.uri, run_id, spool)
    resumed.log_epoch(2, metrics_of(2), 9000)
    resumed.log_epoch(3, metrics_of(3), 9001)
    resumed.close(60)
    assert [(step, time_ms) for step, time_ms, _ in read(client, run_id)] == [(1, 1000), (2, 2000), (3, 9001)]


def test_what_the_server_refuses_does_not_hold_up_the_rest(
    mlflow_server: ServerHandle,
    client: MlflowClient,
    run_id: str,
    spool: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    log = RunLog(mlflow_server.uri, run_id, spool)
    log.log_epoch(1, metrics_of(1), 1000)
    log.log_epoch(2, metrics_of(2) | {"no \t such / name?": 1.0}, 2000)
    log.log_epoch(3, metrics_of(3), 3000)
    with caplog.at_level(logging.WARNING):
        log.close(60)
    assert [step for step, _, _ in read(client, run_id)] == [1, 3]
    assert "refused epoch 2" in caplog.text


class FaultyClient(MlflowClient):
    """The real client, which waits until it may ask, and fails in these ways at its first batches."""

    def __init__(self, uri: str, *errors: Exception) -> None:
        super().__init__(uri)
        self.errors = list(errors)
        self.may_ask = threading.Event()

    def get_metric_history(self, run_id: str, key: str) -> Any:
        assert self.may_ask.wait(60)
        return super().get_metric_history(run_id, key)

    def log_batch(self, *given: Any, **named: Any) -> Any:
        if self.errors:
            raise self.errors.pop(0)
        return super().log_batch(*given, **named)


def test_a_batch_that_is_refused_and_then_lost_is_sent_again(
    mlflow_server: ServerHandle, client: MlflowClient, run_id: str, spool: Path
) -> None:
    refused = MlflowException("no such thing", INVALID_PARAMETER_VALUE)
    log = RunLog(mlflow_server.uri, run_id, spool)
    log._client = faulty = FaultyClient(mlflow_server.uri, refused, ConnectionError("away"))
    for epoch in (1, 2, 3):
        log.log_epoch(epoch, metrics_of(epoch), 1000 * epoch)
    faulty.may_ask.set()
    log.close(60)
    assert faulty.errors == []
    assert [step for step, _, _ in read(client, run_id)] == [1, 2, 3]
    assert not spool.exists()


def test_without_a_server_nothing_happens(spool: Path) -> None:
    log = RunLog(None, "", spool)
    log.log_epoch(1, metrics_of(1))
    log.close()
    assert not spool.parent.exists()


def test_filling_gaps_sends_what_is_missing_and_no_more(client: MlflowClient, run_id: str) -> None:
    epochs = {epoch: (1000 * epoch, metrics_of(epoch)) for epoch in (1, 2, 3)}
    assert send_missing(client, run_id, {2: epochs[2]}) == 1
    assert send_missing(client, run_id, epochs) == 2
    assert send_missing(client, run_id, epochs) == 0
    assert send_missing(client, run_id, {}) == 0
    assert [step for step, _, _ in read(client, run_id)] == [1, 2, 3]


class CountingClient(MlflowClient):
    """The real client; `sizes` are those of the batches that it has sent."""

    def __init__(self, uri: str) -> None:
        super().__init__(uri)
        self.sizes: list[int] = []

    def log_batch(self, run_id: str, metrics: Sequence[Metric] = (), **others: Any) -> Any:
        self.sizes.append(len(metrics))
        return super().log_batch(run_id, metrics, **others)


def test_many_epochs_go_in_few_batches_and_none_is_parted(mlflow_server: ServerHandle, run_id: str) -> None:
    client = CountingClient(mlflow_server.uri)
    names = [f"metric_{number}" for number in range(150)]
    sent = {epoch: (1000 * epoch, dict.fromkeys(names, float(epoch))) for epoch in range(1, 9)}
    assert send_missing(client, run_id, sent) == 8
    assert client.sizes == [900, 300]
    assert read(client, run_id, "metric_7") == [(epoch, 1000 * epoch, float(epoch)) for epoch in sent]


def test_a_time_is_taken_when_none_is_given(
    mlflow_server: ServerHandle, client: MlflowClient, run_id: str, spool: Path
) -> None:
    before_ms = int(time.time() * 1000)
    log = RunLog(mlflow_server.uri, run_id, spool)
    log.log_epoch(1, metrics_of(1))
    log.close(60)
    assert before_ms <= read(client, run_id)[0][1] <= int(time.time() * 1000)


def test_a_refusal_is_not_a_lost_connection(client: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(Exception, match="not found") as refused:
        client.get_run("0" * 32)
    assert not is_lost_connection(refused.value)
    with pytest.raises(Exception, match="refused") as lost:
        MlflowClient(NOWHERE).get_run("0" * 32)
    assert is_lost_connection(lost.value)
