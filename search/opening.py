"""What a session opens that needs words of its own: its run in MLflow, and what all trials share."""

from __future__ import annotations

from search.core.folder import SearchFolder
from search.core.ledger import Ledger
from search.observers.tracking import Tracking
from search.preparation.plan import SearchPlan
from search.runtime import Runtime
from trainable.node import serve_file
from trainable.storage import join
from trainable.task import TrialTask


def open_tracking(plan: SearchPlan, folder: SearchFolder, runtime: Runtime, ledger: Ledger) -> Tracking:
    """The search's run in MLflow; what a dead driver left RUNNING there is fixed. The record says where it is."""
    record, training, models = folder.read_record(), plan.data.training, plan.models
    tracking = Tracking.open(
        runtime.server.uri,
        plan.model_name,
        folder.name,
        parent_run_id=record.get("parent_run_id"),
        metric=f"val_{plan.settings.objective.key}",
        tags={**plan.tags, **plan.search_tags},
        description=plan.description,
    )
    tracking.runs.trial_tags = dict(plan.tags)
    tracking.logs_for_trials = plan.cluster.reach(tracking.uri) is None
    folder.update_record(
        image_size=training.image_size,
        data_hash=training.data_hash,
        nets={"architectures": models.architectures, "sources": models.sources},
        parent_run_id=tracking.parent_run_id,
        tracking_url=tracking.search_url(),
        model_name=plan.model_name,
    )
    if folder.resumed:
        tracking.send_spools(folder.list_spools(), ledger.entries)
        tracking.fix(ledger.ended(), keep=ledger.interrupted())
    tracking.log_dataset(training.name, training.data_hash, str(plan.config.data or training.name))
    tracking.log_dict("audit.json", plan.data.audit.to_dict())
    tracking.log_dict("space.json", plan.space_facts)
    return tracking


def describe_task(plan: SearchPlan, folder: SearchFolder, runtime: Runtime, tracking: Tracking) -> TrialTask:
    """What every trial shares; it travels once to each worker."""
    data, storage = plan.data.training, plan.config.storage
    return TrialTask(
        search=folder.name,
        settings=plan.settings,
        data=data,
        trials_uri=join(storage, folder.name, "trials") if storage else str(folder.trials),
        node_dir=str(folder.cache),
        tracking_uri=None if tracking.logs_for_trials else tracking.uri,
        tracking_login=runtime.server.login,
        weights=plan.models.weights,
        sources=plan.models.sources,
        pixels_server=serve_file(data.pixels_path) if plan.cluster.is_joined else None,
    )
