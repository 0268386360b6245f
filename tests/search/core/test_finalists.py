from __future__ import annotations

import numpy as np
import pytest

from search.core.finalists import choose_finalists, find_flattery, find_last_rung, find_trusted, rank_finalists
from search.core.ledger import Ledger, TrialEntry
from tests.search.reports import report
from trainable.report import Direction, Outcome


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
    assert finalists.describe() == "2 of the 4 best trials were stopped before their last epoch"
    assert choose_finalists(LEDGER, size=2).to_continue == ()
    assert choose_finalists(LEDGER, size=2).describe() == ""


def test_the_last_rung_lies_below_the_end() -> None:
    assert find_last_rung((1, 3, 9, 27), 27) == 9
    assert find_last_rung((), 27) == 0


def test_the_best_of_many_values_flatters_itself_by_what_chance_gives_as_many() -> None:
    generator = np.random.default_rng(0)
    for num in (1, 2, 4, 16):
        ranked = [TrialEntry(number=number, params={}, best_value=0.9) for number in range(num)]
        assert find_flattery(ranked) == 0.0, "no standard error is known"
        ranked[0].standard_error = 0.03
        drawn = 0.03 * generator.standard_normal((20_000, num)).max(axis=1).mean()
        assert find_flattery(ranked) == pytest.approx(drawn, abs=0.03 * 0.05)


@pytest.mark.parametrize(
    ("direction", "sign", "error", "expected"),
    [
        (Direction.MAXIMIZE, 1, 0.03, [1, 0]),  # of four values the best is 1.05 standard errors above the truth
        (Direction.MAXIMIZE, 1, 0.02, [1]),
        (Direction.MINIMIZE, -1, 0.02, [1]),
        (Direction.MAXIMIZE, 1, 0.01, []),
        (Direction.MAXIMIZE, 1, None, []),
    ],
)
def test_baselines_are_trusted_that_the_best_is_ahead_of_by_no_more_than_chance(
    direction: Direction, sign: int, error: float | None, expected: list[int]
) -> None:
    values = {4: 0.90, 3: 0.89, 1: 0.88, 0: 0.87}
    ranked = [TrialEntry(number=number, params={}, best_value=sign * value) for number, value in values.items()]
    ranked[0].standard_error = error
    assert [entry.number for entry in find_trusted(ranked, (0, 1), direction)] == expected
    assert find_trusted(ranked, (), direction) == [], "there is no baseline"
    assert find_trusted(ranked, (4,), direction) == ranked[:1]
    assert find_trusted([], (4,), direction) == []


def test_the_ledger_knows_the_standard_error_of_a_trials_best_epoch() -> None:
    ledger = Ledger()
    entry = ledger.begin(0, {})
    for epoch, value in enumerate((0.5, 0.8, 0.7), start=1):
        ledger.report(0, report(epoch, value, standard_error=epoch / 100))
    assert entry.best_epoch is not None and entry.standard_error == entry.best_epoch / 100
