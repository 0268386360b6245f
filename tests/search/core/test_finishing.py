from __future__ import annotations

from search.core.decisions import New, Resume, Rule, Verdict
from search.core.finishing import Finishing
from search.core.promotion import Promotion


def run(rule: Rule, heights: list[float]) -> dict[int, int]:
    """One worker, trial n being worth its height at every epoch; the last epoch of each."""
    epochs: dict[int, int] = {}
    while (decision := rule.next(may_begin=len(epochs) < len(heights))) is not None:
        if isinstance(decision, New):
            number = len(epochs)
            epochs[number] = 0
            rule.begin(number, {})
        else:
            number = decision.number
        verdict = Verdict.CONTINUE
        while verdict is Verdict.CONTINUE:
            epochs[number] += 1
            verdict = rule.report(number, epochs[number], heights[number])
    return epochs


def test_the_best_trials_are_trained_to_the_end_when_nothing_else_is_left() -> None:
    heights = [0.9, 0.2, 0.3, 0.8, 0.7, 0.1, 0.4, 0.5]
    epochs = run(Finishing(Promotion((1, 3, 9)), 3), heights)
    assert {number for number, last in epochs.items() if last == 9} == {0, 3, 4}
    assert sum(last == 9 for last in run(Finishing(Promotion((1, 3, 9)), 1), heights).values()) == 1


def test_no_trial_begins_once_the_kept_part_of_the_budget_has_begun() -> None:
    asked = iter([False] * 4 + [True] * 100)
    epochs = run(Finishing(Promotion((1, 3, 9)), 2, lambda: next(asked)), [0.5, 0.9, 0.1, 0.7, 0.6, 0.8])
    assert len(epochs) <= 4
    assert sum(last == 9 for last in epochs.values()) == 2
    assert epochs[1] == 9


def test_a_trial_that_failed_or_lost_its_checkpoint_is_no_finalist() -> None:
    rule = Finishing(Promotion((1, 3)), 2, lambda: True)
    for number, value in enumerate((0.9, 0.8, 0.7, 0.6)):
        rule.begin(number, {})
        assert rule.report(number, 1, value) is Verdict.PAUSE
    rule.end(0, "failed")
    rule.forget(1)
    assert rule.next(may_begin=False) == Resume(2, 3)
    assert rule.next(may_begin=False) == Resume(3, 3)
    assert rule.next(may_begin=False) is None
