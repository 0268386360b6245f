"""Which rule decides a search: who goes on, who waits, who is stopped."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from search.core.baselines import Baselines
from search.core.board import Order, by_score, dense_levels, geometric_levels
from search.core.budget import Left
from search.core.config import SearchConfig
from search.core.convergence import Converging
from search.core.decisions import Rule
from search.core.finishing import Finishing
from search.core.near_start import NearStart
from search.core.pareto import ByFronts, Costs
from search.core.promotion import Promotion
from search.core.proposals import SpaceProposals
from search.core.rule_bases import RuleWithBoard
from search.core.rungs import Rungs, rung_levels
from search.core.space import Space
from search.core.stopping import Stopping
from trainable.report import Direction

if TYPE_CHECKING:
    from search.core.freeze_thaw import FreezeThaw

NUM_OF_FRONT = 5
"""So many trials of the best front are trained to the end where there are several objectives."""


def list_levels(config: SearchConfig, max_epochs: int, first_rung: int) -> Sequence[int]:
    """The epochs at which a search compares its trials."""
    first, factor = min(first_rung, max_epochs), config.reduction_factor
    if config.scheduler == "asha":
        return rung_levels(max_epochs, first=first, reduction_factor=factor)
    if config.scheduler == "promotion":
        return geometric_levels(max_epochs, first=first, factor=factor)
    return dense_levels(max_epochs, first=first)


def find_epochs(config: SearchConfig, record: Mapping[str, Any], trained: Iterable[int] = ()) -> int:
    """The epochs of a whole trial, of a search that is read from its `record`: asked for, or settled when it began;
    before that, and of a single training, as many as any trial has `trained`."""
    return config.max_epochs or record.get("max_epochs") or max([1, *trained])


def find_first_rung(config: SearchConfig, record: Mapping[str, Any]) -> int:
    """The first epoch at which trials are compared, of a search that is read from its `record`."""
    return int(config.first_rung or record.get("first_rung") or 1)


def build_rule(
    config: SearchConfig,
    space: Space,
    direction: Direction,
    *,
    max_epochs: int,
    first_rung: int = 1,
    left: Callable[[int], Left] = lambda num_workers: Left(),
    baselines: Collection[int] = (),
    costs: Costs | None = None,
) -> tuple[Rule, Sequence[int]]:
    """The rule that a search asked for, and the epochs at which it compares trials.

    Where trials pause, those numbered `baselines` are trained to the end whatever becomes of them on the way, and of
    the first draws some are made near them, unless all are to be random. Where the champion is a mean, its members are
    trained to the end before the budget is spent, of which `left` says what trials may still spend, and when nothing
    else is left to do; so are they where the search ends because there is nothing more to gain. Where some are to be
    trained again it is as many. With several objectives, of which `costs` says all but the first, trials are promoted
    by fronts, and some of the best front are trained to the end.
    """
    factor, levels = config.reduction_factor, list_levels(config, max_epochs, first_rung)
    higher_is_better = direction is Direction.MAXIMIZE
    ends_early = config.stop_when == "converged"
    order: Order = ByFronts(costs) if costs is not None and config.costs else by_score
    num_finalists = NUM_OF_FRONT if config.costs else config.ensemble

    def build_model() -> FreezeThaw:
        from search.core.freeze_thaw import FreezeThaw  # scipy's linear algebra takes a while to import

        proposals = SpaceProposals(space)
        return FreezeThaw(
            proposals,
            max_epochs=max_epochs,
            first_level=min(first_rung, max_epochs),
            seed=config.seed,
            higher_is_better=higher_is_better,
        )

    if config.scheduler == "asha":
        asha = Stopping(Rungs(levels, reduction_factor=factor, direction=direction), max_epochs)
        return (Converging(asha, build_model()) if ends_early else asha), levels
    rule: RuleWithBoard
    if config.scheduler == "promotion":
        rule = Promotion(levels, factor=factor, higher_is_better=higher_is_better, order=order)
    else:
        rule = build_model()
    if baselines:
        rule = Baselines(rule, baselines)
    if baselines and config.sampler != "random":
        rule = NearStart(rule, baselines, SpaceProposals(space), seed=config.seed)
    if not ends_early:
        return (Finishing(rule, num_finalists, left=left, order=order) if num_finalists > 1 else rule), levels
    converging = Converging(rule, build_model())
    finishing = Finishing(rule, config.ensemble, is_end=lambda: converging.is_reached)
    if config.ensemble > 1:
        finishing.left = left
    converging.inner = finishing
    return converging, levels
