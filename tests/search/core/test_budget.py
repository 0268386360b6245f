from __future__ import annotations

from pathlib import Path

from search.core.budget import Budget, Kept, Left
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


def test_what_is_kept_for_later_is_not_left_for_trials(tmp_path: Path) -> None:
    budget = Budget(tmp_path / "spent.json", time_budget_s=10_000)
    budget.earlier_s = 7000
    left = budget.left(4)
    assert 2900 < left.seconds <= 3000 and left.share == left.seconds / 10_000
    budget.kept = Kept(2000)
    assert 900 < budget.left(4).seconds <= 1000 and not budget.is_over()
    assert budget.left(4).num_confirmed == 0
    budget.kept = Kept(4000, num_trials=3)
    assert budget.left(4).num_confirmed == 3
    assert budget.left(4).seconds < 0 and budget.is_over()


def test_device_time_that_is_kept_is_not_left_either(tmp_path: Path) -> None:
    budget = Budget(tmp_path / "spent.json", devices_per_trial=2, device_hours=1)
    budget.charge(1000)
    assert budget.device_s == 2000
    budget.kept = Kept(device_s=1000)
    assert budget.left(1) == Left(300, 600 / 3600) and budget.left(3).seconds == 100, "by as many trials at once"
    assert not budget.is_over()
    budget.kept = Kept(device_s=1700)
    assert budget.is_over() and budget.stop.reason is StopReason.DEVICE_HOURS


def test_what_is_spent_first_is_what_is_left(tmp_path: Path) -> None:
    budget = Budget(tmp_path / "spent.json", time_budget_s=10_000, device_hours=1)
    assert budget.left(1).seconds == 3600 and budget.left(1).share == 1
    budget.earlier_s = 8000
    assert budget.left(1).seconds <= 2000
    assert Budget(tmp_path / "other.json").left(1) == Left()
