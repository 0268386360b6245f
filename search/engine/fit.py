"""The middle of a search: Tune asks, trains and listens until the budget is spent or the user has had enough."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from ray import tune
from ray.tune.experiment import Trial as TuneTrial

from search.core.budget import Budget
from search.core.folder import SearchHome
from search.engine.callback import Listener
from search.engine.cluster import Cluster
from search.engine.scheduler import INTERRUPTED, Scheduler
from search.engine.searcher import OptunaSearcher
from search.observers.tracking import Tracking

CTRL_C, TERMINATED = "Ctrl-C", "SIGTERM"
MAX_LOST_WORKERS = 3
"""A trial whose worker dies goes on elsewhere; one that takes a fourth worker with it has failed."""


def name_trial(trial: TuneTrial) -> str:
    """A trial's name everywhere is its Optuna number."""
    return f"{trial.config['number']:04d}"


@contextmanager
def end_on_signals(budget: Budget) -> Iterator[None]:
    """Ctrl-C and SIGTERM end the search cleanly; a second one ends it at once, by KeyboardInterrupt."""

    def end(number: int, frame: FrameType | None) -> None:
        if budget.stop_reason in (CTRL_C, TERMINATED):
            raise KeyboardInterrupt
        budget.stop_reason = CTRL_C if number == signal.SIGINT else TERMINATED

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def closing_on_error(tracking: Tracking) -> Iterator[None]:
    """Whatever ends a search around its trials, a second Ctrl-C included: no run stays RUNNING."""
    try:
        yield
    except BaseException:
        tracking.close_search(INTERRUPTED, timeout_s=5)
        raise


def fit(
    trainable: type[tune.Trainable],
    *,
    searcher: OptunaSearcher,
    scheduler: Scheduler,
    budget: Budget,
    listener: Listener,
    cluster: Cluster,
    home: SearchHome,
    callbacks: Sequence[tune.Callback] = (),
) -> None:
    """Run trials until the search ends; afterwards every trial has its outcome, in Optuna and in MLflow."""
    shutil.rmtree(home.folder / "tune", ignore_errors=True)
    tuner = tune.Tuner(
        tune.with_resources(trainable, cluster.place_trial()),
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
            storage_path=str(home.folder),
            stop=budget,
            callbacks=[listener, *callbacks],
            failure_config=tune.FailureConfig(max_failures=MAX_LOST_WORKERS),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            verbose=0,
        ),
    )
    try:
        tuner.fit()
    finally:
        for number in searcher.put_back_live():
            listener.end(listener.book.entries[number], INTERRUPTED)
        listener.sweep()
        budget.save()
        shutil.rmtree(home.folder / "tune", ignore_errors=True)
