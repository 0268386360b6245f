"""Syne Tune's schedulers on a table of curves: their own suggestions, moved to the nearest row that is free.

They know no conditional hyperparameters: what a configuration does not have is drawn all the same, and not looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from syne_tune.backend.trial_status import Trial
from syne_tune.config_space import choice, lograndint, loguniform, randint, uniform
from syne_tune.optimizer.baselines import ASHA, ASHACQR
from syne_tune.optimizer.scheduler import SchedulerDecision, TrialScheduler

from benchmarks.curve_optuna import TableSpace
from benchmarks.curve_tables import CurveTable


class SyneTuneProposer:
    """A scheduler that proposes rows and judges every epoch of them."""

    def __init__(self, table: CurveTable, build: Callable[..., TrialScheduler], seed: int) -> None:
        np.random.seed(seed)  # its brackets are drawn from numpy's own generator
        self.free: NDArray[np.bool_] = np.ones(len(table.params), dtype=bool)
        self.table, self.space = table, TableSpace(table)
        self.scheduler = build(
            config_space={name: domain_of(each) for name, each in self.space.distributions.items()},
            metric="value",
            do_minimize=False,
            time_attr="epoch",
            max_t=table.max_epochs,
            random_seed=seed,
        )
        self.trials: dict[int, Trial] = {}
        self.worst = 0.0

    def propose(self, number: int) -> int:
        config = self.scheduler.suggest().config
        row = self.table.nearest(self.space.settle(config), self.free)
        self._begin(number, {**config, **self.table.params[row]})
        return row

    def adopt(self, number: int, row: int) -> None:
        raise AssertionError("its rule chooses no rows")

    def judge(self, number: int, epoch: int, value: float) -> bool:
        """Whether the trial goes on. One that diverged counts as the worst value seen."""
        self.worst = min(self.worst, value) if np.isfinite(value) else self.worst
        result = {"value": value if np.isfinite(value) else self.worst, "epoch": epoch}
        return bool(self.scheduler.on_trial_result(self.trials[number], result) == SchedulerDecision.CONTINUE)

    def report(self, number: int, epoch: int, value: float) -> None: ...

    def pause(self, number: int) -> None: ...

    def end(self, number: int, *, is_complete: bool) -> None: ...

    def _begin(self, number: int, config: Mapping[str, Any]) -> None:
        self.trials[number] = Trial(number, dict(config), datetime.fromtimestamp(0))
        self.scheduler.on_trial_add(self.trials[number])


def domain_of(distribution: BaseDistribution) -> Any:
    """The same range in Syne Tune's words."""
    if isinstance(distribution, CategoricalDistribution):
        return choice(list(distribution.choices))
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    if isinstance(distribution, IntDistribution):
        return (lograndint if distribution.log else randint)(distribution.low, distribution.high)
    return (loguniform if distribution.log else uniform)(distribution.low, distribution.high)


SCHEDULERS: dict[str, Callable[..., TrialScheduler]] = {"syne-tune-asha": ASHA, "syne-tune-cqr": ASHACQR}
