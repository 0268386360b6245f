"""What a session opens that needs words of its own: its run in MLflow, and what all trials share."""

from __future__ import annotations

from search.core.folder import Phase, SearchFolder
from search.core.ledger import Ledger
from search.observers.questions import TrackingError
from search.observers.rebuilding import adopt_runs
from search.observers.tracking import Tracking
from search.preparation.plan import SearchPlan
from search.runtime import Runtime
from trainable.node import serve_file
from trainable.storage import exists, join, make_folder
from trainable.task import TrialTask


def open_tracking(plan: SearchPlan, folder: SearchFolder, runtime: Runtime, ledger: Ledger) -> Tracking:
    """The search's run in MLflow; what a dead driver left RUNNING there is fixed. The record says where it is."""
    record, training, models = folder.read_record(), plan.data.training, plan.models
    try:
        tracking = Tracking.open(
            runtime.server.uri,
            plan.model_name,
            folder.name,
            parent_run_id=record.get("parent_run_id"),
            metric=f"val_{plan.settings.objective.key}",
            tags={**plan.tags, **plan.search_tags},
            description=plan.description,
        )
    except TrackingError:
        runtime.server.check_database()
        raise
    tracking.runs.trial_tags = dict(plan.tags)
    tracking.find_server = runtime.server.find_again
    tracking.logs_for_trials = plan.cluster.reach(tracking.uri) is None
    if tracking.is_rebuilt:
        record["runs"] = {str(number): run_id for number, run_id in tracking.rebuild(ledger.entries).items()}
    adopt_runs(ledger.entries, runs := record.get("runs", {}))
    folder.update_record(
        runs=runs,
        image_size=training.image_size,
        data_hash=training.data_hash,
        nets={"architectures": models.architectures, "sources": models.sources},
        parent_run_id=tracking.parent_run_id,
        tracking_url=tracking.search_url(),
        model_name=plan.model_name,
    )
    if folder.resumed and not tracking.is_rebuilt:
        tracking.send_spools(folder.list_spools(), ledger.entries)
        tracking.fix(ledger.ended(), keep=ledger.interrupted())
    tracking.log_dataset(training.name, training.data_hash, str(plan.config.data or training.name))
    tracking.log_dict("audit.json", plan.data.audit.to_dict())
    tracking.log_dict("space.json", plan.space_facts)
    return tracking


def describe_task(plan: SearchPlan, folder: SearchFolder, runtime: Runtime, tracking: Tracking) -> TrialTask:
    """What every trial shares; it travels once to each worker."""
    data, storage = plan.data.training, plan.config.storage
    trials_uri = join(storage, folder.name, "trials") if storage else str(folder.trials)
    make_trials_folder(trials_uri, has_begun=folder.phase is not Phase.PREPARING)
    return TrialTask(
        search=folder.name,
        settings=plan.settings,
        data=data,
        trials_uri=trials_uri,
        node_dir=str(folder.cache),
        tracking_uri=None if tracking.logs_for_trials else tracking.uri,
        tracking_login=runtime.server.login,
        weights=plan.models.weights,
        sources=plan.models.sources,
        pixels_server=serve_file(data.pixels_path) if plan.cluster.is_joined else None,
    )


def make_trials_folder(uri: str, *, has_begun: bool) -> None:
    """Make the folder of all trials' checkpoints. Raises ValueError where a search that has begun does not find it."""
    if has_begun and not exists(uri):
        raise ValueError(
            f"there is no {uri}, where the trials of this search keep their checkpoints; mount the storage, restore "
            "that folder, or make it anew, empty: then trials that go on begin again"
        )
    make_folder(uri)
