"""The confirmation of a search: the best configurations trained again in folds of patients, on the same cluster.

It is a small search of its own: a journal, a ledger, runs in MLflow and checkpoints beside those of the trials, and so
goes on where a killed driver stood.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from ray import tune

from search.core.budget import Budget
from search.core.confirmation import CONFIRMED, Confirmation
from search.core.folder import Phase
from search.core.ledger import Ledger
from search.core.rungs import Rungs
from search.core.stop import StopReason
from search.core.stopping import Stopping
from search.engine.fit import TrialPlan, run_trials
from search.engine.study import Study
from search.observers.progress import Heading, ProgressTable
from search.observers.record_sync import RecordSync
from search.observers.tracking import Tracking
from search.preparation.images import prepare_at_size
from search.reserve import explain, settle, wants
from trainable.node import serve_file
from trainable.storage import join, make_folder
from trainable.task import TrialTask, delete_checkpoint, read_best
from trainable.trial import Trial

if TYPE_CHECKING:
    from search.session import Session


def confirm(session: Session, reason: StopReason) -> tuple[StopReason, Confirmation | None]:
    """Train the best again where the search affords it; how the search ends, and the confirmation that is complete.

    The second is None where there was none, or it was ended by hand; the first is that of an end that waits for a
    resume where that is how, and else `reason`.
    """
    folder, say = session.folder, session.runtime.say
    recorded = folder.read_record().get("confirmation")
    if folder.phase is Phase.CONCLUDING:
        return reason, Confirmation.from_record(recorded) if recorded else None
    if not wants(session) or reason not in CONFIRMED:
        return reason, None
    found = Confirmation.from_record(recorded) if recorded else settle(session)
    if found is None or not found.num_trainings:
        say("Confirm      no: it would take too much of the search (--confirm 5 does it all the same)")
        return reason, None
    say(f"Confirm      {found.describe()}")
    if why := explain(session, found):
        say(f"Confirm      {why}")
    folder.enter(Phase.CONFIRMING)
    folder.update_record(confirmation=found.to_record())
    for task in describe_folds(session, found):
        with session.runtime.stop.anew():
            ended = train_folds(session, found, task)
        if ended not in CONFIRMED:
            break
    if not ended.concludes:
        return ended, None
    if ended is StopReason.CTRL_C:
        say("Confirm      ended by hand: the champion is chosen without it")
        folder.update_record(confirmation=None)
        return reason, None
    return reason, found


def train_folds(session: Session, confirmation: Confirmation, task: TrialTask) -> StopReason:
    """Train what is not trained yet, each training a trial of Tune's with a run of its own."""
    folder, runtime, plan, config = session.folder, session.runtime, session.plan, session.plan.config
    make_folder(task.trials_uri)
    kind = task.search.removeprefix(f"{folder.name}.")
    study = Study(
        folder.folder / f"{kind}.journal",
        sampler="random",
        seed=config.seed,
        direction=plan.settings.direction,
    )
    ledger = Ledger(plan.settings.direction)
    study.restore(ledger)
    budget = Budget(
        folder.spent_file,
        devices_per_trial=session.budget.devices_per_trial,
        time_budget_s=config.time_budget_s if config.confirm is None else None,
        device_hours=config.device_hours if config.confirm is None else None,
        stop=runtime.stop,
    )
    heading = Heading(
        name=f"{folder.name}, confirmation",
        metric=config.metric,
        num_trials=confirmation.num_trainings,
        tracking_url=session.tracking.search_url(),
        devices=session.progress.heading.devices,
        each="training",
    )
    progress = ProgressTable(runtime.console, ledger, budget, heading)
    tracking = open_fold_runs(session, confirmation, ledger, kind)
    records = RecordSync(folder, session.step_plans, runtime.copy_records)
    ledger.observers = (study, tracking, progress, records)

    def configure(trial: Any) -> dict[str, Any]:
        return dict(session.ledger.entries[confirmation.member_of(trial.number)].params)

    trials = TrialPlan(
        trainable=tune.with_parameters(Trial, task=task),
        space=configure,
        study=study,
        rule=Stopping(Rungs(()), plan.settings.max_epochs),
        budget=budget,
        max_epochs=plan.settings.max_epochs,
        num_trials=confirmation.num_trainings,
        step_plans=session.step_plans,
        read_best=partial(read_best, task.trials_uri),
        timeout_s=config.trial_timeout_s,
    )
    try:
        with runtime.stop.heeded(), progress.show():
            reason = run_trials(trials, ledger, plan.cluster, folder.folder)
    finally:
        tracking.flush()
    runtime.say(progress.headline())
    return reason


def describe_folds(session: Session, confirmation: Confirmation) -> list[TrialTask]:
    """What every training of a confirmation shares, for each size: the search's own task, but for what is trained on
    and kept."""
    kind = f"folds-{session.folder.num_extensions}"
    own = replace(
        session.task,
        search=f"{session.folder.name}.{kind}",
        settings=replace(session.task.settings, keeps_last=True, patience=0),
        trials_uri=locate_folds(session, kind),
        num_folds=confirmation.num_folds,
    )
    if confirmation.final_size is None:
        return [own]
    plan, size = session.plan, confirmation.final_size
    if size not in session.data_by_size:
        session.data_by_size[size] = prepare_at_size(plan.config, session.folder, size)
    data = session.data_by_size[size]
    larger = replace(
        own,
        search=f"{own.search}-{size}px",
        settings=replace(own.settings, image_size=size),
        trials_uri=locate_folds(session, f"{kind}-{size}px"),
        data=data,
        pixels_server=serve_file(data.pixels_path) if plan.cluster.is_joined else None,
    )
    return [own, larger]


def locate_folds(session: Session, kind: str) -> str:
    """The folder of the checkpoints of a confirmation's trainings."""
    return join(session.task.trials_uri.rpartition("/")[0], kind)


def open_fold_runs(session: Session, confirmation: Confirmation, ledger: Ledger, kind: str) -> Tracking:
    """The runs of the trainings, children of the search's run; what a dead driver left RUNNING there is fixed."""
    folder, tracking = session.folder, session.tracking
    found = Tracking.view(
        tracking.uri,
        folder.name,
        tracking.parent_run_id,
        metric=tracking.metric,
        numbered_by=kind.replace("folds", "fold_training").replace("-", "_"),
    )
    found.runs.trial_tags = dict(session.plan.tags)
    found.tag_trial = confirmation.tag
    found.logs_for_trials = tracking.logs_for_trials
    found.find_server = tracking.find_server
    if ledger.entries:
        found.send_spools(folder.list_spools(f".{kind}"), ledger.entries)
        found.fix(ledger.ended(), keep=ledger.interrupted())
    return found


def delete_folds(session: Session, confirmation: Confirmation) -> None:
    """Free the checkpoints of a confirmation: the champion's own file holds what it needs of them."""
    for task in describe_folds(session, confirmation):
        for training in range(confirmation.num_trainings):
            delete_checkpoint(task.trials_uri, training, "newest")
            delete_checkpoint(task.trials_uri, training, "best")
