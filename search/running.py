"""The trials of a search, on a cluster or in this process, until it ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from ray import tune

from search.core.extension import note_budget
from search.core.finishing import MOST_KEPT
from search.core.folder import Phase
from search.core.stop import StopReason
from search.engine.first_epoch import FirstEpoch
from search.engine.fit import TrialPlan, run_trials
from search.engine.local import run_trials_here
from search.engine.nodes import NodeWatch
from search.engine.preflight import look
from search.engine.ray_watch import RayWatch
from search.engine.steered import Steered
from trainable.pace import read_pace
from trainable.report import Outcome
from trainable.task import locate_trial, read_best
from trainable.trial import Trial

if TYPE_CHECKING:
    from search.session import Session


def run(session: Session) -> StopReason:
    """Run the trials until the search ends; a search that was killed in its conclusion has run them already."""
    folder, runtime = session.folder, session.runtime
    runtime.say(f"MLflow       {session.tracking.search_url()}")
    if (size := session.plan.config.ensemble) > 1 and session.plan.config.scheduler != "asha" and not runtime.is_local:
        kept = f"; up to {MOST_KEPT:.0%} of the budget is kept for it" if session.budget.is_limited else ""
        runtime.say(f"Finalists    the best trials, {size} at most, are trained to their last epoch{kept}")
    if costs := session.plan.config.costs:
        weighed = f"{session.plan.config.metric} against {' and '.join(costs)}"
        runtime.say(f"Objectives   {weighed}: trials are promoted by fronts, configurations are drawn at random")
    runtime.copy_records()
    if folder.phase in (Phase.CONFIRMING, Phase.CONCLUDING):
        return StopReason[folder.read_record().get("stop", StopReason.ALL_TRIALS.name)]
    folder.enter(Phase.SEARCHING)
    plan = TrialPlan(
        trainable=None,
        space=session.plan.space,
        study=session.study,
        rule=session.rule,
        levels=session.levels,
        max_epochs=session.plan.settings.max_epochs,
        budget=session.budget,
        num_trials=session.plan.num_trials,
        step_plans=session.step_plans,
        read_best=partial(read_best, session.task.trials_uri),
        timeout_s=session.plan.config.trial_timeout_s,
    )
    with session.tracking.closing_on_error(), runtime.stop.heeded(), session.display.show():
        reason = run_here(plan, session) if runtime.is_local else run_on_ray(plan, session)
    if not runtime.is_local:
        runtime.say(session.progress.headline())
    folder.update_record(stop=reason.name, stop_reason=str(session.budget.stop))
    return reason


def run_on_ray(plan: TrialPlan, session: Session) -> StopReason:
    """The trials on the cluster's workers."""
    cluster, config, trials_uri = session.plan.cluster, session.plan.config, session.task.trials_uri
    watch = partial(
        NodeWatch,
        cluster,
        say=session.progress.say,
        inspect=partial(look, config, session.folder, cluster, session.runtime.server),
        give_up=partial(session.budget.stop.ask, StopReason.BAD_NODES),
    )
    plan = replace(plan, trainable=tune.with_parameters(Trial, task=session.task))
    steered = partial(
        Steered,
        session.folder.folder,
        budget=session.budget,
        note=partial(note_budget, session.folder),
        say=session.progress.say,
    )
    pace = FirstEpoch(session.ledger, session.budget, lambda number: read_pace(locate_trial(trials_uri, number)))
    watches = [steered, lambda searcher: pace]
    if cluster.is_joined:
        return run_trials(plan, session.ledger, cluster, session.folder.folder, [*watches, watch])
    with watch_ray(session) as ray_watch:
        return run_trials(plan, session.ledger, cluster, session.folder.folder, [*watches, lambda searcher: ray_watch])


@contextmanager
def watch_ray(session: Session) -> Iterator[RayWatch]:
    """What notices that our own Ray has died, and closes the runs where nothing else can any more."""

    def give_up(line: str) -> None:
        session.runtime.say(f"ctsearch: {line}")
        session.tracking.close_search(Outcome.INTERRUPTED, timeout_s=20)

    ray_watch = RayWatch(session.folder.name, give_up)
    try:
        yield ray_watch
    finally:
        ray_watch.close()


def run_here(plan: TrialPlan, session: Session) -> StopReason:
    """The trials in this process."""
    return run_trials_here(plan, session.ledger, session.task)
