from __future__ import annotations

from pathlib import Path

from search.core.budget import Budget
from search.core.stop import StopReason


def test_the_first_spent_limit_ends_a_search_and_earlier_sessions_count(tmp_path: Path) -> None:
    first = Budget(tmp_path / "spent.json", time_budget_s=1000)
    first.charge(5)
    first.earlier_s = 990
    assert not first.is_over()
    first.save()
    second = Budget(tmp_path / "spent.json", time_budget_s=980, device_hours=1)
    assert second.earlier_s >= 990 and second.device_s == 5
    assert second.is_over() and second.stop.reason is StopReason.TIME_BUDGET


def test_what_is_kept_for_later_is_not_spent_on_trials(tmp_path: Path) -> None:
    budget = Budget(tmp_path / "spent.json", time_budget_s=1000)
    budget.earlier_s = 700
    assert not budget.is_kept(0.2) and not budget.is_over()
    budget.kept_s = 200
    assert budget.is_kept(0.2), "a fifth of the whole is left before what is kept begins"
    budget.kept_s = 400
    assert budget.is_over()


def test_device_time_that_is_kept_is_not_spent_either(tmp_path: Path) -> None:
    budget = Budget(tmp_path / "spent.json", devices_per_trial=2, device_hours=1)
    budget.charge(1000)
    assert budget.device_s == 2000
    budget.kept_device_s = 1500
    assert not budget.is_over() and budget.is_kept(0.2)
    budget.kept_device_s = 1700
    assert budget.is_over() and budget.stop.reason is StopReason.DEVICE_HOURS
