from __future__ import annotations

from dataclasses import replace

import pytest

from search.core.config import SearchConfig
from search.core.confirmation import LADDER, START_S, WORKERS_S, Confirmation, Pace, choose_confirmation, find_makespan
from search.core.ledger import TrialEntry
from search.core.options import OptionError

PACE = Pace(max_epochs=10, num_slots=2, num_train=80, num_slices=100, most_folds=20)


def rank(*epoch_s: float | None) -> list[TrialEntry]:
    """Finalists whose epochs take so many seconds."""
    return [TrialEntry(number=10 + i, params={}, epoch_s=each) for i, each in enumerate(epoch_s)]


def test_the_trainings_of_a_trial_follow_one_another_fold_by_fold() -> None:
    confirmation = Confirmation(members=(7, 3), num_folds=3)
    assert confirmation.num_trainings == 6
    assert [confirmation.member_of(training) for training in range(6)] == [7, 7, 7, 3, 3, 3]
    assert list(confirmation.trainings_of(3)) == [3, 4, 5]
    assert Confirmation.from_record(confirmation.to_record()) == confirmation


def test_its_cost_is_that_of_all_trainings_each_on_the_worker_that_is_free_first() -> None:
    found = PACE.plan(rank(1.0, 3.0), 2, 5)
    assert found is not None
    short, long = (START_S + epoch_s * 10 for epoch_s in (1.0, 3.0))  # as many slices as a trial trains on
    assert found.device_s == pytest.approx(5 * (short + long))
    # Three short ones on the first worker and two on the other, which then begins the first long one.
    assert found.cost_s == pytest.approx(WORKERS_S + 2 * short + 3 * long)
    larger = replace(PACE, image_size=64, final_size=128).plan(rank(1.0, 3.0), 2, 5)
    assert larger is not None
    assert larger.cost_s == pytest.approx(2 * WORKERS_S + 5 * (found.cost_s - WORKERS_S))


def test_fewer_folds_train_on_less_and_are_scored_on_more() -> None:
    found = PACE.plan(rank(1.0), 1, 2)
    assert found is not None
    assert found.device_s == pytest.approx(2 * (START_S + 10 * (3 * 50 + 2 * 50) / (3 * 80 + 2 * 20)))


def test_jobs_are_done_when_the_last_slot_is_free() -> None:
    assert find_makespan([3.0, 1.0, 1.0, 1.0], 2) == 3.0
    assert find_makespan([1.0, 1.0, 3.0], 2) == 4.0
    assert find_makespan([2.0], 8) == 2.0


def test_the_best_that_is_allowed_is_taken_and_nothing_where_none_is() -> None:
    ranked = rank(*[1.0] * 5)
    costs = {}
    for members, folds in LADDER:
        plan = PACE.plan(ranked, members, folds)
        assert plan is not None
        costs[members, folds] = plan.cost_s
    for allowed_s in costs.values():
        found = choose_confirmation(
            ranked, PACE, num_folds=None, num_members=5, allowed_s=allowed_s, trusted=ranked[:1]
        )
        assert found is not None
        first = next(step for step in LADDER if costs[step] <= allowed_s)
        assert (len(found.members), found.num_folds) == first
    least_s = min(costs.values())
    assert choose_confirmation(ranked, PACE, num_folds=None, num_members=5, allowed_s=0.99 * least_s) is None
    most = choose_confirmation(ranked, PACE, num_folds=None, num_members=3, allowed_s=1e6)
    assert most is not None and (len(most.members), most.num_folds) == (3, 5), "three members are asked for"
    assert choose_confirmation(ranked[:1], PACE, num_folds=None, num_members=5, allowed_s=1e6) is None
    alone = choose_confirmation(ranked[:1], PACE, num_folds=None, num_members=5, allowed_s=1e6, trusted=ranked[:1])
    assert alone is not None and (alone.members, alone.num_folds) == ((10,), 5), "it is a sound one"
    assert alone.describe().startswith("trial 10 is trained again in 5 folds of train and val: 5 trainings, about ")
    for allowed_s, numbers in ((least_s, [12]), (costs[2, 3], [10, 11])):
        found = choose_confirmation(
            ranked, PACE, num_folds=None, num_members=5, allowed_s=allowed_s, trusted=ranked[2:3]
        )
        assert found is not None and list(found.members) == numbers, "where one is taken it is the trusted one"


def test_where_the_best_two_take_too_long_it_is_two_that_are_trusted_and_quicker() -> None:
    ranked = rank(5.0, 5.0, 5.0, 1.0)
    of_best, of_trusted = PACE.plan(ranked, 2, 3), PACE.plan(ranked[2:], 2, 3)
    assert of_best is not None and of_trusted is not None
    found = choose_confirmation(
        ranked, PACE, num_folds=None, num_members=5, allowed_s=of_best.cost_s - 1, trusted=ranked[2:]
    )
    assert found == of_trusted
    assert found.describe().startswith("trials 12 and 13 are trained again in 3 folds")


def test_folds_that_are_asked_for_are_made_whatever_they_cost_as_far_as_patients_allow() -> None:
    few = replace(PACE, most_folds=4)
    found = choose_confirmation(rank(9.0, 9.0), few, num_folds=8, num_members=5, allowed_s=0.0)
    assert found is not None
    assert (found.members, found.num_folds) == ((10, 11), 4)
    one_patient = replace(PACE, most_folds=1)
    assert choose_confirmation(rank(*[9.0] * 5), one_patient, num_folds=None, num_members=5, allowed_s=1e9) is None


def test_a_trial_of_an_earlier_session_counts_as_the_dearest_and_nothing_is_promised_without_any_time() -> None:
    with_unknown, known = PACE.plan(rank(1.0, None), 2, 3), PACE.plan(rank(1.0, 1.0), 2, 3)
    assert with_unknown == known
    assert PACE.plan(rank(None, None), 2, 3) is None


@pytest.mark.parametrize("folds", [1, -1, 11])
def test_one_fold_is_none(folds: int) -> None:
    with pytest.raises(OptionError, match=r"confirm.*2 to 10 folds"):
        SearchConfig(confirm=folds)
