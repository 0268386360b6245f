from __future__ import annotations

import pytest

from search.core.stop import StopReason, StopRequest
from trainable.report import Outcome


def test_the_first_reason_stays() -> None:
    stop = StopRequest()
    assert not stop.is_asked
    assert stop.ask(StopReason.TIME_BUDGET)
    assert not stop.ask(StopReason.CTRL_C)
    assert stop.reason is StopReason.TIME_BUDGET
    assert str(stop) == "time budget spent"


def test_a_detail_replaces_the_words() -> None:
    stop = StopRequest()
    stop.ask(StopReason.ALL_FAILED, "the first 5 trials all failed")
    assert str(stop) == "the first 5 trials all failed"


@pytest.mark.parametrize("reason", StopReason)
def test_a_search_closes_as_its_reason_says(reason: StopReason) -> None:
    failed = {StopReason.ALL_FAILED, StopReason.BAD_NODES, StopReason.NO_EPOCH}
    waiting = {StopReason.TERMINATED, StopReason.STORAGE_LOST, StopReason.OUT_OF_MEMORY}
    interrupted = {StopReason.CTRL_C, *waiting}
    expected = (
        Outcome.FAILED if reason in failed else Outcome.INTERRUPTED if reason in interrupted else Outcome.COMPLETED
    )
    assert reason.outcome is expected
    assert reason.concludes == (reason not in waiting)


def test_something_else_can_be_ended_while_the_first_reason_is_kept() -> None:
    stop = StopRequest()
    stop.ask(StopReason.ALL_TRIALS, "all of them")
    with stop.anew():
        assert not stop.is_asked
        assert stop.ask(StopReason.CTRL_C)
    assert stop.reason is StopReason.ALL_TRIALS
    assert str(stop) == "all of them"
