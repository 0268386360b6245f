"""Trials in this process, without Ray: one after another, each epoch into the ledger."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from traceback import format_exc
from typing import TYPE_CHECKING

from search.core.ledger import Ledger, TrialEntry
from search.core.stop import StopReason
from search.engine.cluster import Cluster
from trainable.config import StepPlan, TrialConfig
from trainable.report import Outcome, TrialFailure, TrialReport
from trainable.task import TrialTask

if TYPE_CHECKING:
    from search.engine.fit import TrialPlan


def describe_machine() -> Cluster:
    """This machine as a single training sees it: its first GPU, else all its cores."""
    from trainable.step_plan import name_device, pick_device

    device, num_cpus = pick_device(), os.cpu_count() or 1
    has_gpu = device.type == "cuda"
    return Cluster(
        trial_cpus=num_cpus,
        trial_gpus=float(has_gpu),
        num_slots=1,
        num_nodes=1,
        description=name_device(device, num_cpus),
    )


def run_trials_here(plan: TrialPlan, ledger: Ledger, task: TrialTask) -> StopReason:
    """Run the trials of a plan one after another. A stop that is asked for ends the trial after its epoch.

    What training raises is the trial's failure, and is raised again when all have their outcome.
    """
    error: Exception | None = None
    while not plan.budget.is_over() and plan.study.may_begin(plan.num_trials) and error is None:
        begun = plan.study.begin(plan.space)
        number = begun.number
        entry = ledger.begin(number, begun.params)
        outcome = Outcome.INTERRUPTED
        try:
            for report in train_here(entry, task):
                ledger.report(number, report)
                ledger.pass_time()
                plan.budget.charge(report.metrics.get("epoch_s", 0.0))
                if report.finished:
                    outcome = Outcome.COMPLETED
                if plan.budget.is_over():
                    break
        except Exception as raised:
            error, outcome = raised, Outcome.FAILED
            ledger.fail(number, TrialFailure(error=f"{type(raised).__name__}: {raised}", traceback=format_exc()))
        finally:
            ledger.end(number, outcome)
    if error is not None:
        plan.budget.stop.ask(StopReason.ALL_FAILED, str(error))
    plan.budget.stop.ask(StopReason.ALL_TRIALS)
    reason = plan.budget.stop.reason
    assert reason is not None
    ledger.close(reason)
    if error is not None:
        raise error
    return reason


def train_here(entry: TrialEntry, task: TrialTask) -> Iterator[TrialReport]:
    """Train one trial, from its newest checkpoint if it has one."""
    from trainable.step_plan import measure_step_plan, pick_device
    from trainable.training import Training
    from trainable.worker_memory import keep_freed_memory

    keep_freed_memory()
    config, settings, node_dir = TrialConfig.from_params(entry.params), task.settings, Path(task.node_dir)
    plan = StepPlan()
    if not settings.deterministic:
        plan = measure_step_plan(
            config,
            image_size=settings.image_size,
            device=pick_device(),
            num_threads=settings.num_threads,
            cache_file=node_dir / "step_plans.json",
            num_channels=settings.num_channels,
            source=task.sources.get(config.architecture),
        )
    training = Training(
        task, entry.number, config, data=task.data_of(entry.number), plan=plan, node_dir=node_dir, run_id=entry.run_id
    )
    try:
        for report in training.reports:
            yield training.report(report)
    finally:
        training.close(keep_newest=False)
