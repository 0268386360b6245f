"""The contenders of benchmarks/curves.py: each a rule and where its new configurations come from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray

from benchmarks.curve_clock import Proposer
from benchmarks.curve_optuna import OptunaProposer, Pruned, build_tpe
from benchmarks.curve_tables import CurveTable, random_row
from search.core.board import geometric_levels
from search.core.decisions import Decision, New, Rule, Verdict
from search.core.freeze_thaw import FreezeThaw, Settings
from search.core.promotion import Promotion
from search.core.rungs import Rungs, rung_levels
from search.core.stopping import Stopping

Contender = tuple[Rule, Proposer]


class RandomProposer:
    """Any free row, each as likely as the others."""

    def __init__(self, seed: int, num_rows: int) -> None:
        self.seed = seed
        self.free: NDArray[np.bool_] = np.ones(num_rows, dtype=bool)

    def propose(self, number: int) -> int:
        return random_row(self.free, self.seed, number)

    def adopt(self, number: int, row: int) -> None: ...

    def report(self, number: int, epoch: int, value: float) -> None: ...

    def pause(self, number: int) -> None: ...

    def end(self, number: int, *, is_complete: bool) -> None: ...


class Judged:
    """A rule that stops trials and pauses none: `judge(number, epoch, value)` says whether a trial goes on."""

    def __init__(self, judge: Callable[[int, int, float], bool], max_epochs: int) -> None:
        self.judge, self.max_epochs = judge, max_epochs

    def begin(self, number: int, params: Mapping[str, Any]) -> None: ...

    def report(
        self,
        number: int,
        epoch: int,
        value: float,
        standard_error: float | None = None,
        seconds: float | None = None,
    ) -> Verdict:
        goes_on = self.judge(number, epoch, value if np.isfinite(value) else -np.inf)
        return Verdict.CONTINUE if goes_on and epoch < self.max_epochs else Verdict.STOP

    def end(self, number: int, outcome: str) -> None: ...

    def forget(self, number: int) -> None: ...

    def next(self, *, may_begin: bool = True) -> Decision:
        return New(None, self.max_epochs) if may_begin else None


class RayAsha:
    """The rule of Ray's ASHAScheduler with one bracket: below the percentile of those before it, a trial stops."""

    def __init__(self, max_epochs: int, factor: int) -> None:
        self.factor = factor
        num_rungs = int(np.log(max_epochs) / np.log(factor) + 1)
        self.rungs: dict[int, dict[int, float]] = {factor**power: {} for power in reversed(range(num_rungs))}

    def __call__(self, number: int, epoch: int, value: float) -> bool:
        for milestone, recorded in self.rungs.items():
            if epoch >= milestone and number not in recorded:
                others = list(recorded.values())
                recorded[number] = value
                if not others:
                    return True
                return bool(value >= np.percentile(np.maximum(others, -1e9), (1 - 1 / self.factor) * 100))
        return True


def stock(table: CurveTable, seed: int) -> Contender:
    """Ray's OptunaSearch and ASHAScheduler as they come, with reduction factor 4: what a tutorial does."""
    proposer = OptunaProposer(table, build_tpe(seed, is_group=False), seed=seed, tells="complete")
    return Judged(RayAsha(table.max_epochs, 4), table.max_epochs), proposer


def random_asha(table: CurveTable, seed: int) -> Contender:
    return Judged(RayAsha(table.max_epochs, 3), table.max_epochs), RandomProposer(seed, len(table.params))


def ctsearch_before(table: CurveTable, seed: int) -> Contender:
    """Rungs that stop, 1, 3, 9, ..., and group TPE: ctsearch until November 2026."""
    rungs = Rungs(rung_levels(table.max_epochs))
    return Stopping(rungs, table.max_epochs), OptunaProposer(table, build_tpe(seed, is_group=True), seed=seed)


def pruner(build: Callable[[CurveTable], optuna.pruners.BasePruner]) -> Callable[[CurveTable, int], Contender]:
    def contender(table: CurveTable, seed: int) -> Contender:
        proposer = OptunaProposer(table, build_tpe(seed, is_group=False), seed=seed, pruner=build(table))
        pruned = Pruned(proposer)
        judge = lambda number, _, value: pruned.verdict(number, value) is Verdict.CONTINUE  # noqa: E731
        return Judged(judge, table.max_epochs), proposer

    return contender


def promotion(factor: int, *, is_tpe: bool, **options: Any) -> Callable[[CurveTable, int], Contender]:
    def contender(table: CurveTable, seed: int) -> Contender:
        rule = Promotion(geometric_levels(table.max_epochs, factor=factor), factor=factor, **options)
        if is_tpe:
            return rule, OptunaProposer(table, build_tpe(seed, is_group=True), seed=seed)
        return rule, RandomProposer(seed, len(table.params))

    return contender


class TableProposals:
    """What `FreezeThaw` draws from: the free rows of a table; near a configuration, one of its nearest."""

    table: CurveTable
    free: NDArray[np.bool_]

    def draw(self, num: int, generator: np.random.Generator) -> list[Mapping[str, Any]]:
        rows = generator.choice(np.flatnonzero(self.free), num)
        return [self.table.params[row] for row in rows]

    def near(self, params: Mapping[str, Any], num: int, generator: np.random.Generator) -> list[Mapping[str, Any]]:
        free = np.flatnonzero(self.free)
        distances = ((self.table.points[free] - self.table.encode([params])) ** 2).sum(axis=1)
        rows = generator.choice(free[np.argsort(distances)[: self.NUM_NEAR]], num)
        return [self.table.params[row] for row in rows]

    NUM_NEAR = 10


class TableSampler(TableProposals, OptunaProposer):
    """The same, with group TPE for what the rule leaves to a sampler: as in a real search."""


def freeze_thaw(**options: Any) -> Callable[[CurveTable, int], Contender]:
    def contender(table: CurveTable, seed: int) -> Contender:
        proposals = TableSampler(table, build_tpe(seed, is_group=True), seed=seed)
        rule = FreezeThaw(proposals, max_epochs=table.max_epochs, seed=seed, settings=Settings(**options))
        return rule, proposals

    return contender


def syne_tune(name: str) -> Callable[[CurveTable, int], Contender]:
    """One of Syne Tune's schedulers as it comes."""

    def contender(table: CurveTable, seed: int) -> Contender:
        from benchmarks.curve_syne_tune import SCHEDULERS, SyneTuneProposer

        proposer = SyneTuneProposer(table, SCHEDULERS[name], seed)
        return Judged(proposer.judge, table.max_epochs), proposer

    return contender


CONTENDERS: dict[str, Callable[[CurveTable, int], Contender]] = {
    "freeze-thaw": freeze_thaw(),
    "promotion-tpe": promotion(3, is_tpe=True),
    "promotion-random": promotion(3, is_tpe=False),
    "promotion4-tpe": promotion(4, is_tpe=True),
    "promotion4-random": promotion(4, is_tpe=False),
    "random-asha": random_asha,
    "ctsearch-before": ctsearch_before,
    "stock": stock,
    "optuna-median": pruner(lambda table: optuna.pruners.MedianPruner()),
    "optuna-hyperband": pruner(lambda table: optuna.pruners.HyperbandPruner(1, table.max_epochs, 3)),
}
if find_spec("syne_tune"):  # the extra `peers`
    CONTENDERS |= {name: syne_tune(name) for name in ("syne-tune-asha", "syne-tune-cqr")}
