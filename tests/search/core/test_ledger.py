"""The ledger: every rule about the values of trials, and which observers are called."""

from __future__ import annotations

import math

import pytest

from search.core.events import Observer
from search.core.ledger import Ledger, TrialEntry
from search.core.stop import StopReason
from tests.search.reports import report
from trainable.report import Direction, Outcome, TrialFailure, TrialReport


def fill(ledger: Ledger, number: int, values: dict[int, float]) -> TrialEntry:
    ledger.begin(number, {})
    for epoch, value in values.items():
        ledger.report(number, report(epoch, value))
    return ledger.entries[number]


def test_of_equal_trials_the_earlier_leads() -> None:
    ledger = Ledger()
    for number in (1, 0):
        fill(ledger, number, {1: 0.5})
    assert [entry.number for entry in ledger.ranked()] == [0, 1]


def test_a_lower_loss_leads_and_a_trial_is_known_by_the_mean_of_its_last_epochs() -> None:
    ledger = Ledger(Direction.MINIMIZE)
    fill(ledger, 0, {1: 0.4, 2: 0.3, 3: 0.3})
    fill(ledger, 1, {1: 0.5, 2: 0.2, 3: 0.6})
    best, second = ledger.ranked()
    assert (best.number, best.best_epoch) == (0, 3)
    assert best.best_value == pytest.approx(0.3)
    assert second.best_value == pytest.approx(0.4), "one lucky epoch is not what a trial is worth"


def test_the_first_value_of_an_epoch_stays_and_no_observer_gets_the_second() -> None:
    class Listener(Observer):
        def __init__(self) -> None:
            self.values: list[float] = []

        def epoch_reported(self, entry: TrialEntry, report: TrialReport) -> None:
            self.values.append(report.value)

    listener = Listener()
    ledger = Ledger(observers=[listener])
    ledger.begin(0, {})
    assert ledger.report(0, report(1, 0.5))
    assert not ledger.report(0, report(1, 0.9))
    assert ledger.history() == [(0, 1, 0.5)]
    assert listener.values == [0.5]


def test_the_best_epoch_is_the_earliest_of_equals_whatever_the_order_and_never_nan() -> None:
    entry = fill(Ledger(), 0, {1: 0.1, 2: 0.5, 6: 0.7, 4: 0.7, 3: 0.7, 5: 0.7, 7: math.nan})
    assert entry.best_epoch == 4
    assert entry.best_value == pytest.approx(0.7)


def test_a_trial_of_nan_alone_comes_after_every_other_and_one_without_an_epoch_last() -> None:
    ledger = Ledger(Direction.MINIMIZE)
    fill(ledger, 0, {1: math.nan})
    fill(ledger, 1, {})
    fill(ledger, 2, {1: 5.0})
    assert [entry.number for entry in ledger.ranked()] == [2, 0]
    assert [entry.number for entry in ledger.leaderboard()] == [2, 0, 1]
    best = ledger.best()
    assert best is not None
    assert best.number == 2


def test_the_first_outcome_of_a_session_stays_and_an_interrupted_trial_may_begin_again() -> None:
    ledger = Ledger()
    fill(ledger, 0, {1: 0.5})
    ledger.end(0, Outcome.INTERRUPTED)
    ledger.end(0, Outcome.COMPLETED)
    assert ledger.counts() == {"interrupted": 1}
    assert ledger.interrupted() == {0}
    ledger.begin(0, {})
    assert ledger.counts() == {"running": 1}
    ledger.end(0, Outcome.COMPLETED)
    assert ledger.ended() == {0: Outcome.COMPLETED}


def test_observers_get_every_event_in_the_order_of_the_tuple() -> None:
    reported: list[str] = []

    class Listener(Observer):
        def __init__(self, name: str) -> None:
            self.name = name

        def trial_began(self, entry: TrialEntry) -> None:
            reported.append(f"{self.name} began {entry.number}")

        def epoch_reported(self, entry: TrialEntry, report: TrialReport) -> None:
            assert entry.values[report.epoch] == report.value
            reported.append(f"{self.name} epoch {report.epoch}")

        def trial_recovered(self, entry: TrialEntry) -> None:
            reported.append(f"{self.name} recovered")

        def trial_ended(self, entry: TrialEntry) -> None:
            reported.append(f"{self.name} {entry.outcome}: {entry.error}, {len(entry.reports)} reports")

        def search_ended(self, reason: StopReason) -> None:
            reported.append(f"{self.name} {reason.name}")

    ledger = Ledger(observers=[Listener("a"), Listener("b")])
    ledger.begin(3, {})
    ledger.report(3, report(1, 0.5))
    ledger.recover(3)
    ledger.fail(3, TrialFailure(error="no"))
    ledger.end(3, Outcome.FAILED)
    ledger.close(StopReason.ALL_FAILED)
    expected = ["began 3", "epoch 1", "recovered", "failed: no, 1 reports", "ALL_FAILED"]
    assert reported == [f"{name} {event}" for event in expected for name in ("a", "b")]
    assert not ledger.entries[3].reports, "they are needed no more"
