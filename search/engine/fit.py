"""run_trials: the middle of a search. Tune asks, trains and reports until the budget is spent or a stop is asked."""

from __future__ import annotations

import errno
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.error import TuneError
from ray.tune.experiment import Trial as TuneTrial

from search.core.budget import Budget
from search.core.convergence import reason_of
from search.core.decisions import Rule, replay
from search.core.ledger import Ledger
from search.core.own_space import SpaceError
from search.core.space import Space
from search.core.stop import StopReason
from search.engine.callback import ReadBest, TuneEvents
from search.engine.cluster import Cluster
from search.engine.lost_workers import MAX_LOST_WORKERS, as_lost_workers
from search.engine.scheduler import Scheduler
from search.engine.searcher import OptunaSearcher
from search.engine.study import Study
from search.engine.trial_clock import TrialClock
from trainable.report import Outcome

NOTHING_LEFT = (StopReason.ALL_TRIALS, StopReason.CONVERGED)
"""Ends at which a trial that an earlier session left, and that the rule did not go on with, will never go on."""


@dataclass(frozen=True, kw_only=True)
class TrialPlan:
    """What `run_trials` runs: any trainable of Tune whose results are `TrialReport`s, over any space.

    `rule` decides who goes on; `levels` are the epochs at which it compares trials. `num_trials` of None has no end.
    `step_plans` are those measured so far, by key: every trial is handed them. `read_best(number)` gives the facts of a
    trial's best checkpoint, None without one. A trial that holds a worker for longer than `timeout_s` seconds and a
    grace has failed; one with `max_epochs` epochs has completed, whatever ends it.
    """

    trainable: Any
    space: Space
    study: Study
    rule: Rule
    budget: Budget
    num_trials: int | None = None
    levels: Sequence[int] = ()
    max_epochs: int | None = None
    step_plans: dict[str, dict[str, str]] = field(default_factory=dict)
    read_best: ReadBest = lambda number: None
    timeout_s: float | None = None


class StopWhenOver(tune.Stopper):
    """Tune's stopper for the whole search: asks the budget."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget

    def __call__(self, trial_id: str, result: dict[str, object]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self.budget.is_over()

    def __reduce__(self) -> tuple[type[object], tuple[()]]:
        return object, ()  # Tune pickles its stopper for `Tuner.restore`, which is not used here


def name_trial(trial: TuneTrial) -> str:
    """A trial's name everywhere is its Optuna number."""
    return f"{trial.config['number']:04d}"


OF_A_DISK = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.ESTALE),
    *(errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR),
)


class SearchBrokenError(OSError):
    """The trials of a search could not go on, for its folder or the user's space; what was reported before is there."""


def explain_break(error: BaseException, folder: Path) -> SearchBrokenError | None:
    """What the file system, or a space of the user's own, said that made Tune's loop fail, where the user can mend it:
    Tune wraps it, and forgets it.

    None for any other failure.
    """
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, SpaceError):
            return SearchBrokenError(
                f"{found}; nothing that was reported before is lost: mend the space, then go on with ctsearch search "
                f"--resume {folder.name} --accept-changes"
            )
        if isinstance(found, OSError) and found.errno in OF_A_DISK:
            return SearchBrokenError(
                f"{found.filename or folder}: {found.strerror}; nothing that was reported before is lost: see to it, "
                f"then go on with ctsearch search --resume {folder.name}"
            )
        found = found.__cause__ or found.__context__
    return None


def run_trials(
    plan: TrialPlan,
    ledger: Ledger,
    cluster: Cluster,
    folder: Path,
    watches: Sequence[Any] = (),
) -> StopReason:
    """Run trials until the search ends (`follow_trials`). Raises SearchBrokenError where `folder` cannot be written, or
    a space of the user's own fails."""
    try:
        return follow_trials(plan, ledger, cluster, folder, watches)
    except (TuneError, OSError, SpaceError) as error:
        if (broken := explain_break(error, folder)) is None:
            raise
        raise broken from error


def follow_trials(
    plan: TrialPlan,
    ledger: Ledger,
    cluster: Cluster,
    folder: Path,
    watches: Sequence[Any] = (),
) -> StopReason:
    """Run trials until the search ends; afterwards every trial has its outcome, in the ledger, Optuna and MLflow.

    `folder` takes what Tune writes meanwhile; `watches` are further callbacks, made of the searcher.
    """
    replay(plan.rule, plan.study.history())
    searcher = OptunaSearcher(
        plan.study, plan.space, ledger, plan.rule, num_slots=cluster.num_slots, num_trials=plan.num_trials
    )
    searcher.step_plans = plan.step_plans
    searcher.exhausted = lambda: plan.budget.stop.ask(*reason_of(plan.rule))
    scheduler = Scheduler(ledger, searcher, cluster.place_trial)
    scheduler.give_up = partial(plan.budget.stop.ask, StopReason.STORAGE_LOST)
    events = TuneEvents(ledger, plan.budget, scheduler, plan.read_best)
    events.levels, events.max_epochs = plan.levels, plan.max_epochs
    clocks = [TrialClock(plan.timeout_s, events.blame)] if plan.timeout_s is not None else []
    shutil.rmtree(folder / "tune", ignore_errors=True)
    tuner = tune.Tuner(
        tune.with_resources(plan.trainable, cluster.place_trial()),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=scheduler,
            num_samples=-1,
            reuse_actors=True,
            trial_name_creator=name_trial,
            trial_dirname_creator=name_trial,
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(folder),
            stop=StopWhenOver(plan.budget),
            callbacks=[events, *clocks, *(watch(searcher) for watch in watches)],
            failure_config=tune.FailureConfig(max_failures=MAX_LOST_WORKERS),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            verbose=0,
        ),
    )
    try:
        with as_lost_workers():
            tuner.fit()
    finally:
        asked = plan.budget.stop.reason
        waits = (asked is not None and not asked.concludes) or sys.exc_info()[0] is not None
        for number in sorted({*plan.study.live, *plan.study.paused}):
            entry = ledger.entries[number]
            is_over = entry.is_paused or (entry.is_left and asked in NOTHING_LEFT)
            events.end(number, Outcome.STOPPED if is_over and not waits else Outcome.INTERRUPTED)
        plan.budget.save()
        shutil.rmtree(folder / "tune", ignore_errors=True)
    if ledger.entries and ledger.best() is None:
        plan.budget.stop.ask(StopReason.ALL_FAILED)
    plan.budget.stop.ask(*reason_of(plan.rule))
    reason = plan.budget.stop.reason
    assert reason is not None
    ledger.close(reason)
    return reason
