"""Options of the budget: what the whole search may spend."""

from __future__ import annotations

from dataclasses import dataclass

from search.core.option_values import duration_s, real, whole
from search.core.options import option, require_positive


@dataclass(frozen=True, kw_only=True)
class BudgetOptions:
    """What may be spent; whichever ends first ends the search. None does not bind. `device_hours` counts GPU-hours, or
    core-hours where trials use no GPU."""

    num_trials: int | None = option("--num-trials", "default: 20 where no other budget is given", read=whole)
    time_budget_s: float | None = option("--time-budget", "wall time", metavar="30m", read=duration_s)
    device_hours: float | None = option("--gpu-hours", "core-hours where trials use no GPU", metavar="HOURS", read=real)

    def check_budget(self) -> None:
        require_positive(self, "num_trials", "time_budget_s", "device_hours")
