"""Near start: a rule that draws half of the first trials near the best configuration known, beginning with sound ones.

Until a sampler has seen some trials it draws evenly from the whole space, of which most trains badly; a search of a
dozen trials has no time for that. To draw part of them near what an expert would try is PriorBand's idea (Mallik et
al. 2023, arXiv:2306.12370); the other part guards against an expert who errs.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from search.core.board import WORST, Standing, by_score
from search.core.decisions import Decision, New
from search.core.proposals import Proposals
from search.core.rule_bases import RuleWithBoard, WrappedBoardRule

NUM_FIRST = 20
"""Trials that count as the first: twice as many as TPE draws before it learns."""
NUM_PARENTS = 2
"""So many of the best are drawn near, each as often: one value is noise."""


class NearStart(WrappedBoardRule):
    """`inner` decides, but of the first trials every second one that it leaves to the sampler is drawn near a parent.

    Parents are the best two of the trials `baselines` and of those that have come to their last epoch. The draws follow
    from `seed` and the number of the trial.
    """

    def __init__(self, inner: RuleWithBoard, baselines: Collection[int], proposals: Proposals, *, seed: int) -> None:
        self.inner = inner
        self.baselines = baselines
        self.proposals = proposals
        self.seed = seed

    def next(self, *, may_begin: bool = True) -> Decision:
        decision = self.inner.next(may_begin=may_begin)
        number = len(self.board.trials)
        if not isinstance(decision, New) or decision.params is not None or number >= NUM_FIRST or number % 2:
            return decision
        parents = self._parents()
        if not parents:
            return decision
        generator = np.random.default_rng((self.seed, 2, number))
        parent = parents[int(generator.integers(len(parents)))]
        (params,) = self.proposals.near(parent.params, 1, generator)
        return New(params, decision.until_epoch)

    def _parents(self) -> list[Standing]:
        board = self.board
        able = [
            trial
            for trial in board.trials.values()
            if (trial.number in self.baselines or trial.epoch >= board.max_epochs) and trial.last_score > WORST
        ]
        able = able or [trial for trial in board.trials.values() if trial.number in self.baselines]
        return by_score(able, [trial.last_score for trial in able])[:NUM_PARENTS]
