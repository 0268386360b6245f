"""Promotion: asynchronous successive halving that pauses and promotes, and stops nobody.

Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning" (arXiv:1810.05934), algorithm 2: a free worker
goes on with the best not yet promoted of the highest rung that has one to spare, else begins a new trial.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from search.core.board import WORST, Board, Order, Standing, by_score, check_levels
from search.core.decisions import Decision
from search.core.rule_bases import BoardRule


def find_promotion(
    board: Board, rungs: Sequence[int], *, factor: int, at_least: int = 0, order: Order = by_score
) -> Standing | None:
    """The waiting trial to go on with, or None where no rung has one to spare.

    Of the n trials that came to a rung the best n // factor may go on, `at_least` so many, never one whose score is
    the worst there is. A trial between two rungs was promoted from the lower one, and waits there.
    """
    for rung, above in reversed(list(pairwise(rungs))):
        there = [trial for trial in board.trials.values() if rung in trial.scores]
        num_promoted = max(len(there) // factor, at_least)
        if not num_promoted:
            continue
        ranked = order(there, [trial.scores[rung] for trial in there])
        for trial in ranked[:num_promoted]:
            if trial.is_waiting and trial.epoch < above and trial.scores[rung] > WORST:
                return trial
    return None


class Promotion(BoardRule):
    """The rule of promotion over rungs `levels`, the last of them `max_epochs`; see `decisions.Rule` for its calls.

    `order` says which trials of a rung are the best.

    Once no new trial may begin, each rung promotes one at least, so that a small search ends with a whole training.
    """

    def __init__(
        self,
        levels: Sequence[int],
        *,
        factor: int = 3,
        higher_is_better: bool = True,
        num_averaged: int = 3,
        order: Order = by_score,
    ) -> None:
        if factor < 2:
            raise ValueError(f"the reduction factor is {factor}; it must be at least 2")
        self.factor = factor
        self.order = order
        self.board = Board(check_levels(levels), higher_is_better=higher_is_better, num_averaged=num_averaged)

    def next(self, *, may_begin: bool = True) -> Decision:
        board = self.board
        trial = board.not_begun() or find_promotion(
            board, board.levels, factor=self.factor, at_least=0 if may_begin else 1, order=self.order
        )
        if trial is not None:
            return board.resume(trial)
        return board.new() if may_begin else None
