from __future__ import annotations

from search.core.finalists import choose_finalists, find_last_rung, rank_finalists
from search.core.ledger import Ledger, TrialEntry
from trainable.report import Outcome


def build_ledger(*trials: tuple[Outcome | None, int, float]) -> Ledger:
    """Trials by outcome, number of epochs and value."""
    ledger = Ledger()
    for number, (outcome, num_epochs, value) in enumerate(trials):
        values = dict.fromkeys(range(1, num_epochs + 1), value)
        ledger.restore(TrialEntry(number=number, params={}, values=values, outcome=outcome))
    return ledger


LEDGER = build_ledger(
    (Outcome.STOPPED, 1, 0.99),
    (Outcome.COMPLETED, 27, 0.7),
    (Outcome.STOPPED, 9, 0.9),
    (Outcome.COMPLETED, 27, 0.8),
    (Outcome.FAILED, 27, 0.95),
    (Outcome.INTERRUPTED, 12, 0.6),
)


def test_completed_trials_come_first_then_those_that_reached_the_last_rung() -> None:
    assert [entry.number for entry in rank_finalists(LEDGER, 9)] == [3, 1, 2, 5]
    assert [entry.number for entry in rank_finalists(LEDGER)] == [3, 1]


def test_where_too_few_have_completed_the_best_others_would_have_to_go_on() -> None:
    finalists = choose_finalists(LEDGER, size=4, last_rung=9)
    assert [entry.number for entry in finalists.members] == [3, 1, 2, 5]
    assert [entry.number for entry in finalists.to_continue] == [0, 2]
    assert finalists.describe() == "2 of 4 members of the champion were stopped before their last epoch"
    assert choose_finalists(LEDGER, size=2).to_continue == ()
    assert choose_finalists(LEDGER, size=2).describe() == ""


def test_the_last_rung_lies_below_the_end() -> None:
    assert find_last_rung((1, 3, 9, 27), 27) == 9
    assert find_last_rung((), 27) == 0
