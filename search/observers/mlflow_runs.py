"""The calls by which a search's runs are made, found and ended in MLflow; each is asked once and may fail"""

from __future__ import annotations

import contextlib
import json
import math
from typing import TYPE_CHECKING, Any

from mlflow.entities import Dataset, DatasetInput, Experiment, InputTag, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking.context.default_context import DefaultRunContext
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT, MLFLOW_RUN_NOTE

from search.core.describe import describe_params
from search.observers.questions import TrackingError
from trainable.report import Direction, Outcome
from trainable.smoothing import find_best

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from mlflow import MlflowClient

STATUSES = {
    Outcome.COMPLETED: "FINISHED",
    Outcome.STOPPED: "FINISHED",
    Outcome.FAILED: "FAILED",
    Outcome.INTERRUPTED: "KILLED",
}
KIND_TAG, MODEL_TRAINING = "mlflow.experimentKind", "custom_model_development"
"""What an experiment is for: MLflow's UI opens one with this tag at its training runs, else at its GenAI traces."""
MAX_TAG_CHARS = 8000
_MAX_PARAM_CHARS, _MAX_BATCH = 6000, 100  # of MLflow's REST interface, as the one above


class UnknownRunError(TrackingError):
    """A run that the server does not know."""


class Runs:
    """The child runs of one search, and its parent run. `trial_tags` go to every child.

    The tag `numbered_by` holds a child's number: those of two kinds, with tags of their own, do not meet.
    `description` is that of the parent, `dataset` what they are trained on, None until it is known; `origin` says by
    whom and by which command.
    """

    def __init__(
        self,
        client: MlflowClient,
        parent: Run,
        *,
        search_name: str,
        is_resumed: bool = False,
        numbered_by: str = "trial",
    ) -> None:
        self.client = client
        self.experiment_id = parent.info.experiment_id
        self.parent_run_id = parent.info.run_id
        self.search_name = search_name
        self.numbered_by = numbered_by
        self.trial_tags: dict[str, str] = {}
        self.description = ""
        self.dataset: DatasetInput | None = None
        self.origin = DefaultRunContext().tags()
        self._may_exist: set[int | None] = {None} if is_resumed else set()

    def open_trial(
        self,
        number: int,
        params: Mapping[str, Any],
        tags: Mapping[str, str],
        tell: Callable[[str], object] = lambda run_id: None,
    ) -> str:
        """The id of the run of a trial, made if there is none yet, with the configuration as its parameters.

        `tell` hears the id as soon as the run is there. Called again after an answer that was lost, it finds the run
        that was made.
        """
        may_exist = bool({None, number} & self._may_exist)
        self._may_exist.add(number)
        run = self.find_trial(number) if may_exist else None
        if run is None:
            note = describe_trial(number, self.search_name, params)
            run = self.create_trial(number, {MLFLOW_RUN_NOTE: note, **self.trial_tags, **tags})
        else:
            set_running(self.client, run.info.run_id)
        tell(run.info.run_id)
        self.log_params(run, params)
        self._may_exist.discard(number)
        return run.info.run_id

    def find_trial(self, number: int) -> Run | None:
        return next(self._search(f"tags.{self.numbered_by} = '{number}'"), None)

    def find_running(self) -> dict[int, str]:
        """The trials that are RUNNING by MLflow's account, with their runs' ids."""
        return self._find_numbered("attributes.status = 'RUNNING'")

    def find_interrupted(self) -> dict[int, str]:
        """The same of those that were interrupted by MLflow's account."""
        return self._find_numbered(f"tags.outcome = '{Outcome.INTERRUPTED}'")

    def _find_numbered(self, condition: str) -> dict[int, str]:
        found = self._search(condition)
        return {
            int(tags[key]): run.info.run_id for run in found if (key := self.numbered_by) in (tags := run.data.tags)
        }

    def create_trial(self, number: int, tags: Mapping[str, str]) -> Run:
        ours = {"mlflow.parentRunId": self.parent_run_id, "search": self.search_name, self.numbered_by: str(number)}
        name = f"{self.search_name}-{'' if self.numbered_by == 'trial' else 'fold-'}{number:04d}"
        return self.client.create_run(self.experiment_id, run_name=name, tags={**self.origin, **tags, **ours})

    def log_dataset(self, run_id: str) -> None:
        """Say what a run is trained on; repeated, it is stored once."""
        if self.dataset is not None:
            self.client.log_inputs(run_id, datasets=[self.dataset])

    def log_params(self, run: Run, params: Mapping[str, Any]) -> None:
        """Log those that the run does not have yet: once set, a parameter cannot be changed."""
        missing = [
            Param(key, str(value)[:_MAX_PARAM_CHARS]) for key, value in params.items() if key not in run.data.params
        ]
        for i in range(0, len(missing), _MAX_BATCH):
            self.client.log_batch(run.info.run_id, params=missing[i : i + _MAX_BATCH], synchronous=True)

    def summarize(self, run_id: str, metric: str, direction: Direction) -> list[Metric]:
        """Best smoothed value and its epoch, from all that the server holds (trainable/smoothing.py)."""
        history = {entry.step: entry for entry in self.client.get_metric_history(run_id, metric)}
        if not history:
            return []
        values = {step: entry.value for step, entry in history.items()}
        epoch, value = find_best(values, higher_is_better=direction is Direction.MAXIMIZE)
        return name_best(metric, value, epoch, history[epoch].timestamp)

    def describe_champion(self, text: str, run_id: str | None) -> None:
        """Begin the description of the parent with `text`, Markdown; also that of the champion's own run."""
        rest = [line for line in self.description.splitlines() if line not in text]
        notes = {self.parent_run_id: "\n\n".join([text, *rest])} | ({run_id: text} if run_id else {})
        for noted, note in notes.items():
            self.client.set_tag(noted, MLFLOW_RUN_NOTE, note[:MAX_TAG_CHARS])

    def end(self, run_id: str, outcome: Outcome, tags: Mapping[str, str], metrics: list[Metric], now_ms: int) -> None:
        self.client.log_batch(run_id, metrics=metrics, tags=as_tags(tags), synchronous=True)
        self.client.set_terminated(run_id, STATUSES[outcome], now_ms)

    def _search(self, condition: str) -> Iterator[Run]:
        """The children that a condition in MLflow's words holds for."""
        children = f"tags.`mlflow.parentRunId` = '{self.parent_run_id}' AND {condition}"
        token = None
        while True:
            page = self.client.search_runs([self.experiment_id], children, page_token=token)
            yield from page
            if not (token := page.token):
                return


def name_best(metric: str, value: float | None, epoch: int | None, timestamp_ms: int) -> list[Metric]:
    """A trial's best smoothed value and its epoch, as its run has them; nothing where there is none, or it is NaN."""
    if value is None or epoch is None or math.isnan(value):
        return []
    summary = {f"best_{metric}": value, "best_epoch": float(epoch)}
    return [Metric(key, number, timestamp_ms, epoch) for key, number in summary.items()]


def find_or_create_experiment(client: MlflowClient, name: str) -> Experiment:
    """An experiment of model training; one that has no kind yet becomes so. Raises TrackingError for a deleted one."""
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return client.get_experiment(client.create_experiment(name, tags={KIND_TAG: MODEL_TRAINING}))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            found = client.get_experiment_by_name(name)  # another search was faster
    if found.lifecycle_stage != "active":
        raise TrackingError(
            f"the experiment {name!r} was deleted in MLflow; restore it (mlflow experiments restore "
            f"--experiment-id {found.experiment_id}) or take another name"
        )
    if KIND_TAG not in found.tags:
        with contextlib.suppress(MlflowException):  # its owner may not let us; only the view is lost then
            client.set_experiment_tag(found.experiment_id, KIND_TAG, MODEL_TRAINING)
    return found


def describe_dataset(name: str, digest: str, source: str) -> DatasetInput:
    """A dataset as MLflow shows it, known by its hash of at most 36 characters; nothing of it is read.

    `source` is a local path, or a name where there is none. `mlflow.data.get_source` gives it back.
    """
    dataset = Dataset(name=name, digest=digest, source_type="local", source=json.dumps({"uri": source}))
    return DatasetInput(dataset, [InputTag(MLFLOW_DATASET_CONTEXT, "training")])


def describe_trial(number: int, search_name: str, params: Mapping[str, Any]) -> str:
    """The description of a trial's run, in one line."""
    facts = filter(None, [str(params.get("architecture", "")), describe_params(params)])
    return f"Trial {number} of the search {search_name}: {', '.join(facts)}"


def create_parent(client: MlflowClient, experiment: str, name: str, tags: Mapping[str, str]) -> Run:
    """The run of a new search; the experiment is made if it is missing. Raises TrackingError for a deleted one."""
    experiment_id = find_or_create_experiment(client, experiment).experiment_id
    return client.create_run(experiment_id, run_name=name, tags=DefaultRunContext().tags() | {"search": name, **tags})


def set_running(client: MlflowClient, run_id: str) -> Run:
    """Let a run go on, without an outcome. Raises TrackingError for one that was deleted, UnknownRunError for one that
    the server has never had, or has lost."""
    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        raise UnknownRunError(f"MLflow knows no run {run_id}") from error
    if run.info.lifecycle_stage != "active":
        raise TrackingError(f"run {run_id} was deleted in MLflow; restore it there, or begin a new search")
    if "outcome" in run.data.tags:
        client.delete_tag(run_id, "outcome")
    client.update_run(run_id, status="RUNNING")
    return run


def as_tags(tags: Mapping[str, str]) -> list[RunTag]:
    return [RunTag(key, str(value)[:MAX_TAG_CHARS]) for key, value in tags.items()]
