"""The order in which Ray Tune calls scheduler, searcher and callback: the scheduler feeds the ledger for all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from search.engine.cluster import Cluster

calls: list[str] = []


class Three(tune.Trainable):
    def step(self) -> dict[str, Any]:
        return {"value": 1.0, "epoch": self.iteration + 1}


class Asks(Searcher):
    left = 2

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        self.left -= 1
        return {"number": 1 - self.left} if self.left >= 0 else Searcher.FINISHED

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        calls.append("searcher result")

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        calls.append("searcher complete")

    def save(self, checkpoint_path: str) -> None: ...

    def restore(self, checkpoint_path: str) -> None: ...

    def __reduce__(self) -> tuple[type[object], tuple[()]]:
        return object, ()


class Decides(TrialScheduler):
    def on_trial_add(self, tune_controller: Any, trial: Any) -> None: ...

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None: ...

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None: ...

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        calls.append("scheduler result")
        return TrialScheduler.STOP if result["epoch"] == 2 else TrialScheduler.CONTINUE

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        calls.append("scheduler complete")

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        waiting = [trial for trial in tune_controller.get_live_trials() if trial.status == trial.PENDING]
        return waiting[0] if waiting else None

    def debug_string(self) -> str:
        return ""

    def __reduce__(self) -> tuple[type[object], tuple[()]]:
        return object, ()


class Hears(tune.Callback):
    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any) -> None:
        calls.append("callback result")

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        calls.append("callback complete")

    def __reduce__(self) -> tuple[type[object], tuple[()]]:
        return object, ()


def test_the_scheduler_is_called_first_and_the_callback_last(cluster: Cluster, tmp_path: Path) -> None:
    calls.clear()
    tune.Tuner(
        Three,
        tune_config=tune.TuneConfig(
            search_alg=tune.search.ConcurrencyLimiter(Asks(), max_concurrent=1), scheduler=Decides(), num_samples=-1
        ),
        run_config=tune.RunConfig(
            name="order",
            storage_path=str(tmp_path),
            callbacks=[Hears()],
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            verbose=0,
        ),
    ).fit()
    going_on = ["scheduler result", "searcher result", "callback result"]
    stopping = ["scheduler result", "callback result", "scheduler complete", "searcher complete", "callback complete"]
    assert calls == [*going_on, *stopping] * 2
