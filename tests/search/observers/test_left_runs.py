"""The runs of trials that an earlier session left, and that end without having gone on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from mlflow import MlflowClient

from search.core.ledger import TrialEntry
from tests.search.driven import Driven
from trainable.report import Outcome

if TYPE_CHECKING:
    from mlflow_server.serve import ServerHandle

PARAMS = {"architecture": "small_cnn", "learning_rate": 1e-3}
VALUES = {1: 0.6, 2: 0.7}


@pytest.mark.parametrize("is_known", [True, False])
def test_a_trial_of_an_earlier_session_that_ends_without_going_on_has_its_outcome(
    mlflow_server: ServerHandle, is_known: bool
) -> None:
    client, name = MlflowClient(mlflow_server.uri), f"left-{is_known}"
    tracking = Driven.open(mlflow_server.uri, "tracking-tests", name)
    run_ids = [tracking.open_trial(number, PARAMS) for number in range(3)]
    for epoch, auc in VALUES.items():
        tracking.report(0, epoch, 1000 * epoch, {"val_auc": auc})
    tracking.close_trial(2, "interrupted")  # its session was told to end; the other two are of one that was killed
    assert tracking.flush()
    after = Driven.open(mlflow_server.uri, "tracking-tests", name, parent_run_id=tracking.parent_run_id)
    for number, run_id in enumerate(run_ids):
        known = run_id if is_known or number == 2 else None
        after.ledger.restore(
            TrialEntry(number=number, params=PARAMS, run_id=known, outcome=Outcome.INTERRUPTED, values=dict(VALUES))
        )
    assert after.fix(after.ledger.ended(), keep=after.ledger.interrupted()) == []
    for number in (0, 2):
        after.close_trial(number, "stopped")
    assert after.flush()
    runs = [client.get_run(run_id) for run_id in run_ids]
    assert [run.info.status for run in runs] == ["FINISHED", "RUNNING", "FINISHED"]
    assert [run.data.tags.get("outcome") for run in runs] == ["stopped", None, "stopped"]
    assert [run.data.tags.get("state") for run in runs] == ["stopped", None, "stopped"]


def test_a_run_whose_end_was_not_sent_before_its_driver_died_gets_its_outcome(mlflow_server: ServerHandle) -> None:
    """The trial was interrupted, ended in a later session, and that was killed before MLflow knew."""
    client, name = MlflowClient(mlflow_server.uri), "left-untold"
    tracking = Driven.open(mlflow_server.uri, "tracking-tests", name)
    run_ids = [tracking.open_trial(number, PARAMS) for number in range(3)]
    for number in range(3):
        tracking.report(number, 1, 1000, {"val_auc": 0.6})
        tracking.close_trial(number, "interrupted")
    assert tracking.flush()
    after = Driven.open(mlflow_server.uri, "tracking-tests", name, parent_run_id=tracking.parent_run_id)
    outcomes = {0: Outcome.STOPPED, 1: Outcome.COMPLETED}
    assert after.fix(outcomes, keep=[2]) == [0, 1]
    assert after.fix(outcomes, keep=[2]) == []
    runs = [client.get_run(run_id) for run_id in run_ids]
    assert [run.info.status for run in runs] == ["FINISHED", "FINISHED", "KILLED"]
    assert [run.data.tags["outcome"] for run in runs] == ["stopped", "completed", "interrupted"]
    assert [run.data.metrics["best_val_auc"] for run in runs] == [0.6] * 3
