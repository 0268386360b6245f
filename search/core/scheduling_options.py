"""Options of scheduling: how long a trial may go on, and by what it is judged."""

from __future__ import annotations

from dataclasses import dataclass

from search.core.option_values import duration_s, names, text, whole
from search.core.options import option, require, require_choice, require_positive
from trainable.config import MOST_EPOCHS
from trainable.model_cost import COSTS
from trainable.objectives import parse_objective

SCHEDULERS = ("promotion", "freeze-thaw", "asha")
STOP_WHEN = ("budget", "converged")


@dataclass(frozen=True, kw_only=True)
class SchedulingOptions:
    """How long a trial may go on, and by what it is judged."""

    max_epochs: int | None = option(
        "--max-epochs", "of one trial (default: 27, fewer where the time is short)", read=whole
    )
    scheduler: str = option(
        "--scheduler",
        "who goes on: by promotion at rungs, by a model of the curves, or stopped at rungs (default: promotion)",
        default="promotion",
        choices=SCHEDULERS,
    )
    first_rung: int | None = option(
        "--first-rung",
        "before which no trials are compared (default: what makes some 64 steps)",
        metavar="EPOCHS",
        read=whole,
    )
    reduction_factor: int = option(
        "--reduction-factor", "each rung keeps 1/N (default: 3)", default=3, metavar="N", read=whole
    )
    metric: str = option(
        "--metric",
        "on validation; one with a floor is sensitivity@specificity=0.8 (default: auc)",
        default="auc",
        read=text,
    )
    objective: tuple[str, ...] = option(
        "--objective",
        "weigh the metric against what a model costs to use: auc,latency_ms or auc,size_mb, or both",
        default=(),
        metavar="METRIC,COST",
        read=names,
    )
    patience: int = option(
        "--patience", "a trial ends without improvement (default: off)", default=0, metavar="EPOCHS", read=whole
    )
    stop_when: str = option(
        "--stop-when",
        "end when the budget is spent, or before it where no step promises a gain that validation can tell "
        "(default: budget)",
        default="budget",
        choices=STOP_WHEN,
    )
    trial_timeout_s: float | None = option(
        "--trial-timeout", "a trial that takes longer has failed", metavar="30m", read=duration_s
    )

    @property
    def costs(self) -> tuple[str, ...]:
        """What is weighed against the metric; empty where that is the only objective."""
        return self.objective[1:]

    def check_scheduling(self) -> None:
        self._check_objective()
        parse_objective(self.metric)
        require_choice("scheduler", self.scheduler, SCHEDULERS)
        require_choice("stop_when", self.stop_when, STOP_WHEN)
        require_positive(self, "max_epochs", "first_rung", "trial_timeout_s")
        require("max_epochs", self.max_epochs, (self.max_epochs or 1) <= MOST_EPOCHS, f"at most {MOST_EPOCHS:,}")
        require("reduction_factor", self.reduction_factor, self.reduction_factor >= 2, "2 or more")
        require("patience", self.patience, 0 <= self.patience <= MOST_EPOCHS, "0 (off) or a number of epochs")

    def _check_objective(self) -> None:
        if not self.objective:
            return
        metric, costs, given = self.objective[0], self.costs, ",".join(self.objective)
        known = f"a metric and what a model costs, of {', '.join(COSTS)}, such as auc,latency_ms"
        is_known = bool(costs) and set(costs) <= set(COSTS)
        require("objective", given, is_known and metric not in COSTS, known)
        require("metric", self.metric, self.metric == metric, f"the first of --objective {given}, or not given")
        for name, value in (("scheduler", "promotion"), ("stop_when", "budget")):
            require(name, getattr(self, name), getattr(self, name) == value, f"{value} with several objectives")
