"""Which rule decides a search: who goes on, who waits, who is stopped."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from search.core.board import geometric_levels
from search.core.config import SearchConfig
from search.core.decisions import Rule
from search.core.finishing import Finishing
from search.core.freeze_thaw import FreezeThaw
from search.core.promotion import Promotion
from search.core.proposals import SpaceProposals
from search.core.rungs import Rungs, rung_levels
from search.core.space import Space
from search.core.stopping import Stopping
from trainable.report import Direction


def build_rule(
    config: SearchConfig,
    space: Space,
    direction: Direction,
    *,
    max_epochs: int,
    is_time: Callable[[], bool] = lambda: False,
) -> tuple[Rule, Sequence[int]]:
    """The rule that a search asked for, and the epochs at which it compares trials.

    Where the champion is a mean, its members are trained to the end when `is_time`, or nothing else is left to do.
    """
    first, factor = config.first_rung, config.reduction_factor
    higher_is_better = direction is Direction.MAXIMIZE
    if config.scheduler == "asha":
        rungs = rung_levels(max_epochs, first=first, reduction_factor=factor)
        return Stopping(Rungs(rungs, reduction_factor=factor, direction=direction), max_epochs), rungs
    rule: Promotion | FreezeThaw
    if config.scheduler == "promotion":
        levels = geometric_levels(max_epochs, first=min(first, max_epochs), factor=factor)
        rule = Promotion(levels, factor=factor, higher_is_better=higher_is_better)
    else:
        rule = FreezeThaw(
            SpaceProposals(space), max_epochs=max_epochs, seed=config.seed, higher_is_better=higher_is_better
        )
    levels = rule.board.levels
    return (Finishing(rule, config.ensemble, is_time) if config.ensemble > 1 else rule), levels
