from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from search.core.budget import Budget, Kept
from search.core.config import SearchConfig
from search.core.confirmation import MARGIN, Confirmation, Pace
from search.core.ledger import Ledger, TrialEntry
from search.core.stop import StopReason
from search.reserve import Reserve, choose, explain, settle
from trainable.report import Outcome

PACE = Pace(max_epochs=10, num_slots=2, num_train=80, num_slices=100, most_folds=20)
VALUES = {0: 0.87, 1: 0.86, 2: 0.88, 3: 0.80}
"""The best is one of four, drawn by the search; trials 0 and 1 were there before any value."""


def build_session(folder: Path, **options: Any) -> Any:
    """A search that has trained four trials: what a confirmation is chosen by."""
    config, ledger = SearchConfig(**options), Ledger()
    for number, value in VALUES.items():
        values = dict.fromkeys(range(1, 11), value)
        ledger.restore(TrialEntry(number=number, params={}, values=values, outcome=Outcome.COMPLETED, epoch_s=5.0))
        ledger.entries[number].standard_error = 0.03
    ledger.entries[1].epoch_s = 1.0
    budget = Budget(folder / "spent.json", time_budget_s=config.time_budget_s, device_hours=config.device_hours)
    settings = SimpleNamespace(max_epochs=10)
    plan = SimpleNamespace(config=config, settings=settings, baselines=(0, 1))
    return SimpleNamespace(plan=plan, ledger=ledger, budget=budget, levels=(1, 3, 10))


@pytest.mark.parametrize(
    ("time_budget_s", "members", "num_folds"),
    [
        (10_000, (2, 0, 1, 3), 5),
        (350, (2, 0), 3),  # three rounds of 50 s on two workers
        (250, (0, 1), 3),  # the best two take too long, two that are trusted do not
        (190, (), 0),
    ],
)
def test_half_of_a_budget_may_go_to_the_best_or_to_what_is_trusted(
    tmp_path: Path, time_budget_s: float, members: tuple[int, ...], num_folds: int
) -> None:
    session = build_session(tmp_path, time_budget_s=time_budget_s)
    found = choose(session, PACE)
    assert (found.members, found.num_folds) == (members, num_folds) if found else not members
    assert choose(session, PACE, left_s=10.0) is None, "no more than is left"


def test_it_says_why_the_best_is_not_confirmed(tmp_path: Path) -> None:
    session = build_session(tmp_path, time_budget_s=250)
    assert explain(session, Confirmation(members=(2, 0), num_folds=3)) == ""
    said = explain(session, Confirmation(members=(0, 1), num_folds=3))
    assert said == "trial 2, 0.8800, is not ahead by more than the best of 4 flatters itself by chance, 0.0315"
    session.ledger.entries[2].best_value = 0.95
    said = explain(session, Confirmation(members=(0, 1), num_folds=3))
    assert said == "trial 2, 0.9500, has become the best since, and would take too much"
    session.ledger.entries[2].standard_error = None
    assert explain(session, Confirmation(members=(0,), num_folds=3)).endswith("flatters itself by chance")


def test_what_it_will_cost_is_kept_with_a_margin_and_for_as_many_trials(tmp_path: Path) -> None:
    session = build_session(tmp_path, time_budget_s=250)
    found = choose(session, PACE)
    reserve = Reserve(session.budget, lambda: found)
    assert found is not None and session.budget.kept == Kept()
    reserve.epoch_reported(session.ledger.entries[0], None)  # type: ignore[arg-type]
    assert session.budget.kept == Kept(MARGIN * found.cost_s, MARGIN * found.device_s, 2, found)
    reserve.choose, reserve.next_look_s = lambda: None, 0.0
    reserve.epoch_reported(session.ledger.entries[0], None)  # type: ignore[arg-type]
    assert session.budget.kept == Kept(), "nothing is kept for what is not afforded"


def test_what_was_kept_may_be_taken_though_it_takes_longer_than_it_seemed_to(tmp_path: Path) -> None:
    session = build_session(tmp_path, time_budget_s=350)
    reserve = Reserve(session.budget, lambda: choose(session, PACE))
    kept = reserve.reckon()
    for entry in session.ledger.entries.values():
        entry.epoch_s *= 1.14
    else_found = choose(session, PACE)
    assert else_found is not None and else_found.members != (2, 0), "half of the budget would not do any more"
    found = choose(session, PACE, left_s=kept.seconds, kept_s=kept.seconds)
    assert found is not None and (found.members, found.num_folds) == ((2, 0), 3)
    assert MARGIN * found.cost_s > kept.seconds >= found.cost_s


def test_no_search_ends_for_a_confirmation_that_it_does_not_afford_any_more(tmp_path: Path) -> None:
    session = build_session(tmp_path, time_budget_s=350)
    budget = session.budget
    budget.kept = Reserve(budget, lambda: choose(session, PACE)).reckon()
    budget.earlier_s = 345 - budget.kept.seconds
    assert not budget.is_over()
    budget.earlier_s += 10
    for entry in session.ledger.entries.values():
        entry.epoch_s *= 10  # what is best now takes much longer than what was best before
    assert not budget.is_over() and budget.kept == Kept()
    budget.earlier_s = 350
    assert budget.is_over() and budget.stop.reason is StopReason.TIME_BUDGET


@pytest.mark.parametrize("num_epochs", [4, 10])
@pytest.mark.parametrize("levels", [(1, 3, 10), (10,)])
def test_no_search_ends_for_a_confirmation_that_the_end_of_a_running_trial_makes_void(
    tmp_path: Path, num_epochs: int, levels: tuple[int, ...]
) -> None:
    """Kept for trials 2 and 0; better is trial 4, ten times as dear, which is past the last rung or at its end."""
    session = build_session(tmp_path, time_budget_s=350)
    session.levels = levels
    budget = session.budget
    reserve = Reserve(budget, lambda: choose(session, PACE))
    values = dict.fromkeys(range(1, num_epochs + 1), 0.95)
    running = TrialEntry(number=4, params={}, values=values, epoch_s=50.0, standard_error=0.03)
    session.ledger.restore(running)
    is_foreseen = num_epochs == 10 or levels[0] == 1
    assert (reserve.reckon() == Kept()) is is_foreseen
    budget.kept, budget.earlier_s = Kept(150.0, 300.0, 2), 250.0
    assert budget.is_over() is not is_foreseen
    running.outcome = Outcome.COMPLETED
    assert choose(session, PACE) is None


def test_where_no_other_is_afforded_it_is_the_one_for_which_the_search_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = build_session(tmp_path, time_budget_s=350)
    budget = session.budget
    monkeypatch.setattr("search.reserve.find_pace", lambda session: PACE)
    kept = Reserve(budget, lambda: choose(session, PACE)).reckon()
    assert kept.confirmation is not None
    for entry in session.ledger.entries.values():
        entry.epoch_s *= 10
    for left_s, is_made in ((kept.seconds, True), (kept.confirmation.cost_s - 1, False)):
        budget.kept, budget.earlier_s = kept, 350 - left_s
        assert settle(session) == (kept.confirmation if is_made else None)
        assert budget.kept == Kept()
