"""The trade-off of several objectives: the trials that none beats, and which of them becomes the champion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from search.core.pareto import choose_frugal, find_front, list_able
from trainable.model_cost import COSTS

if TYPE_CHECKING:
    from search.core.decisions import PastTrial
    from search.core.ledger import Ledger, TrialEntry

NUM_SHOWN = 6


@dataclass(frozen=True, kw_only=True)
class TradeOff:
    """The `front` of a search, the most accurate trial first, and the one that is `chosen`: the cheapest within
    `margin`, one standard error of the first one's validation value, of the best."""

    metric: str
    costs: tuple[str, ...]
    front: tuple[TrialEntry, ...]
    chosen: TrialEntry
    margin: float

    def lines(self) -> list[str]:
        """For the terminal and the report."""
        shown = "; ".join(self._describe(entry) for entry in self.front[:NUM_SHOWN])
        more = f"; and {len(self.front) - NUM_SHOWN} more" if len(self.front) > NUM_SHOWN else ""
        why = f"costs least among those within one standard error ({self.margin:.3f}) of the best"
        return [f"no other trial beats these: {shown}{more}", f"trial {self.chosen.number} {why}"]

    def _describe(self, entry: TrialEntry) -> str:
        costs = ", ".join(f"{entry.costs[name]:.3g} {COSTS[name]}" for name in self.costs)
        return f"trial {entry.number} with {self.metric} {entry.best_value:.4f} at {costs}"

    def to_record(self) -> dict[str, Any]:
        """For `result.json`."""
        front = [{"trial": entry.number, self.metric: entry.best_value, **entry.costs} for entry in self.front]
        return {"front": front, "margin": self.margin}


def weigh(ledger: Ledger, history: Sequence[PastTrial], *, metric: str, costs: tuple[str, ...]) -> TradeOff | None:
    """The trade-off of the trials that completed; None with one objective, or where no trial has a value.

    `history` knows the standard error of every epoch.
    """
    front = find_front(list_able(ledger), ledger.direction, costs) if costs else []
    if not front:
        return None
    known = {trial.number: trial.standard_errors for trial in history}
    margin = known.get(front[0].number, {}).get(front[0].best_epoch or 0, 0.0)
    chosen = choose_frugal(front, ledger.direction, costs, margin)
    return TradeOff(metric=metric, costs=costs, front=tuple(front), chosen=chosen, margin=margin)
