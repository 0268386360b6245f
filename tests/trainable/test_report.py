from __future__ import annotations

import math
import pickle

import pytest

from tests.search.reports import report
from trainable.report import Direction, Outcome, TrialFailure, TrialReport

NAN = math.nan


@pytest.mark.parametrize(
    ("direction", "value", "than", "better"),
    [
        (Direction.MAXIMIZE, 0.6, 0.5, True),
        (Direction.MAXIMIZE, 0.5, 0.5, False),
        (Direction.MINIMIZE, 0.4, 0.5, True),
        (Direction.MINIMIZE, 0.6, 0.5, False),
        (Direction.MAXIMIZE, NAN, 0.1, False),
        (Direction.MINIMIZE, NAN, 0.1, False),
        (Direction.MINIMIZE, 0.1, NAN, True),
        (Direction.MAXIMIZE, NAN, None, False),
        (Direction.MAXIMIZE, 0.1, None, True),
        (Direction.MAXIMIZE, None, 0.1, False),
    ],
)
def test_nan_and_nothing_are_never_better(
    direction: Direction, value: float | None, than: float | None, better: bool
) -> None:
    assert direction.is_better(value, than) is better


def test_losses_are_minimised_and_all_else_maximised() -> None:
    assert Direction.of("loss") is Direction.MINIMIZE
    assert {Direction.of(name) for name in ("auc", "accuracy", "f1")} == {Direction.MAXIMIZE}


def test_the_best_epoch_is_the_earliest_of_equals() -> None:
    assert Direction.MAXIMIZE.best_epoch({4: 0.7, 3: 0.7, 1: NAN}) == 3
    assert Direction.MINIMIZE.best_epoch({4: 0.7, 3: 0.9}) == 4
    assert Direction.MINIMIZE.best_epoch({}) is None


def test_only_an_interrupted_trial_goes_on() -> None:
    assert [outcome for outcome in Outcome if not outcome.is_final] == [Outcome.INTERRUPTED]


def test_a_report_comes_back_from_tunes_result_with_its_worker() -> None:
    sent = report(2, 0.5, tags={"device": "cpu"})
    result = pickle.loads(pickle.dumps({**sent.to_result(), "hostname": "node-1", "pid": 7, "time_this_iter_s": 1.5}))
    found = TrialReport.from_result(result)
    assert isinstance(found, TrialReport)
    assert (found.hostname, found.pid, found.step_s) == ("node-1", 7, 1.5)
    assert (found.epoch, found.value, found.tags, found.timestamp_ms) == (2, 0.5, {"device": "cpu"}, 2000)


def test_a_failure_comes_back_as_one() -> None:
    result = {**TrialFailure(error="ValueError: no", traceback="Traceback").to_result(), "hostname": "a", "pid": 1}
    found = TrialReport.from_result(result)
    assert isinstance(found, TrialFailure)
    assert (found.error, found.traceback, found.hostname) == ("ValueError: no", "Traceback", "a")


def test_a_result_of_anybody_else_is_not_taken_for_a_report() -> None:
    with pytest.raises(KeyError):
        TrialReport.from_result({"loss": 1.0})
