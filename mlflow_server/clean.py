"""Old searches are cleaned: first listed, then deleted for good, but never what a registered model came from."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mlflow_server.database import find_binned_models
from mlflow_server.passwords import admin_login, logged_in
from mlflow_server.running import use_server
from mlflow_server.stores import list_names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mlflow import MlflowClient
    from mlflow.entities import Run

    from mlflow_server.stores import Stores

PARENT = "mlflow.parentRunId"
_PROXIED = "mlflow-artifacts:/"


@dataclass(kw_only=True)
class Plan:
    """What would be deleted: run ids, ids of logged models (an unregistered model's files), and their bytes.

    `lines` says it in words, one search a line. `binned_...` were deleted in MLflow before, which frees
    nothing; `rescued_...` are those of them that a registered model needs: they are restored.
    """

    run_ids: list[str] = field(default_factory=list)
    model_ids: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    num_bytes: int = 0
    lines: list[str] = field(default_factory=list)
    binned_runs: list[str] = field(default_factory=list)
    binned_models: list[str] = field(default_factory=list)
    binned_experiments: list[str] = field(default_factory=list)
    rescued_runs: list[str] = field(default_factory=list)
    rescued_experiments: list[str] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        binned = self.binned_runs or self.binned_models or self.binned_experiments
        return not (self.run_ids or self.model_ids or binned)


def clean(stores: Stores, *, older_than_days: float, really: bool, say: Callable[[str], None] = print) -> Plan:
    """Delete the searches (and single trainings) that ended more than so many days ago; without `really` only say so.

    Kept are every registered model with its files, the trial that it came from and that trial's search. Of such a
    search the other trials go. What still runs is kept, and so is whatever ctsearch has not logged. What users
    deleted in MLflow before goes for good as well. Raises ValueError where the server does not run or refuses.
    """
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    if not older_than_days >= 0:
        raise ValueError(f"--older-than is {older_than_days:g}; it must be 0 days or more")
    with use_server(stores) as uri, logged_in(admin_login(stores.folder)):
        try:
            client = MlflowClient(uri)
            plan = make_plan(client, stores, older_than_days)
            _list_plan(plan, say, older_than_days)
            if really and not plan.is_empty:
                _carry_out(plan, client, stores, uri)
                left = {name for folder in plan.folders for name in stores.list_files(folder)}
                if left:
                    raise ValueError(f"these files could not be deleted: {list_names(sorted(left))}")
                say(f"Deleted: {plan.num_bytes / 1e6:.1f} MB of artifacts are free again.")
            elif not plan.is_empty:
                say("Nothing has been deleted: --yes does it.")
        except MlflowException as error:
            raise ValueError(f"the server at {uri} refused: {error.message}") from error
    return plan


def make_plan(client: MlflowClient, stores: Stores, older_than_days: float) -> Plan:
    """Ask the server what is old and what must stay."""
    from mlflow.entities import ViewType

    before_ms = (time.time() - older_than_days * 86400) * 1000
    experiments = {found.experiment_id: found for found in _all_experiments(client, ViewType.ALL)}
    deleted = {key for key, found in experiments.items() if found.lifecycle_stage == "deleted"}
    active = [key for key in experiments if key not in deleted]
    runs = {run.info.run_id: run for run in _all_runs(client, active, ViewType.ACTIVE_ONLY, "tags.search LIKE '%'")}
    binned = {run.info.run_id: run for run in _all_runs(client, list(experiments), ViewType.DELETED_ONLY, "")}
    needed_runs, needed_models = _find_needed(client, {**runs, **binned})
    models = _group_models(client, active)

    plan = Plan()
    children: dict[str, list[Run]] = defaultdict(list)
    for run in runs.values():
        children[run.data.tags.get(PARENT, "")].append(run)
    for search in sorted(children[""], key=lambda run: run.info.start_time):
        family = [search, *children[search.info.run_id]]
        if any(run.info.end_time is None or run.info.end_time > before_ms for run in family):
            continue
        gone = [run for run in family if run.info.run_id not in needed_runs]
        gone_models = [m for run in family for m in models[run.info.run_id] if m.model_id not in needed_models]
        if gone or gone_models:
            _add(plan, stores, search, gone, gone_models, is_needed=search.info.run_id in needed_runs)

    plan.rescued_runs = sorted(needed_runs & set(binned))
    homes = {binned[run_id].info.experiment_id for run_id in plan.rescued_runs}
    plan.rescued_experiments = sorted(homes & deleted)
    plan.binned_experiments = sorted(deleted - homes)
    saved = set(plan.rescued_experiments)
    plan.binned_runs = sorted(
        run_id for run_id, run in binned.items() if run_id not in needed_runs and run.info.experiment_id not in saved
    )
    binned_models = find_binned_models(stores)
    if lost := sorted(needed_models & set(binned_models)):
        raise ValueError(
            f"registered versions need the logged models {list_names(lost)}, which were deleted in MLflow and would go "
            "for good now; delete those versions as well, or restore the models from a backup"
        )
    plan.binned_models = sorted(binned_models)
    for place in [binned[run_id].info.artifact_uri for run_id in plan.binned_runs] + list(binned_models.values()):
        _add_folder(plan, stores, place)
    return plan


def _add(plan: Plan, stores: Stores, search: Run, gone: list[Run], models: list[Any], *, is_needed: bool) -> None:
    before = plan.num_bytes
    plan.run_ids += [run.info.run_id for run in gone]
    plan.model_ids += [model.model_id for model in models]
    for place in [run.info.artifact_uri for run in gone] + [model.artifact_location for model in models]:
        _add_folder(plan, stores, place)
    ended = time.strftime("%Y-%m-%d", time.gmtime(search.info.end_time / 1000))
    what = f"{len(gone)} trials; itself and the trial of its registered model stay" if is_needed else "all"
    size = f"{(plan.num_bytes - before) / 1e6:.1f} MB"
    plan.lines.append(f"{search.data.tags['search']}  ended {ended}, {len(gone)} runs, {size}: {what}")


def _add_folder(plan: Plan, stores: Stores, place: str) -> None:
    if place.startswith(_PROXIED):  # our server keeps nothing elsewhere
        folder = place.removeprefix(_PROXIED).strip("/")
        plan.folders.append(folder)
        plan.num_bytes += sum(stores.list_files(folder).values())


def _list_plan(plan: Plan, say: Callable[[str], None], older_than_days: float) -> None:
    if plan.is_empty:
        say(f"No search ended more than {older_than_days:g} days ago that no registered model needs.")
        return
    for line in plan.lines:
        say(line)
    binned = {"runs": plan.binned_runs, "models": plan.binned_models, "experiments": plan.binned_experiments}
    if any(binned.values()):
        say(f"deleted in MLflow before: {', '.join(f'{len(ids)} {what}' for what, ids in binned.items())}")
    if plan.rescued_runs:
        say(f"restored, since registered models need them: {len(plan.rescued_runs)} runs deleted in MLflow before")
    num_runs = len(plan.run_ids) + len(plan.binned_runs)
    say(f"In all: {num_runs} runs, {plan.num_bytes / 1e6:.1f} MB of artifacts.")


def _carry_out(plan: Plan, client: MlflowClient, stores: Stores, uri: str) -> None:
    """Into MLflow's bin, then `mlflow gc` empties that. In this order nothing that must stay is in it meanwhile."""
    for experiment_id in plan.rescued_experiments:
        client.restore_experiment(experiment_id)  # with its runs
    for run_id in plan.rescued_runs:
        if client.get_run(run_id).info.lifecycle_stage == "deleted":
            client.restore_run(run_id)
    for model_id in plan.model_ids:
        client.delete_logged_model(model_id)
    for run_id in plan.run_ids:
        client.delete_run(run_id)
    done = subprocess.run(
        [sys.executable, "-m", "mlflow", "gc", "--backend-store-uri", stores.backend, "--tracking-uri", uri],
        cwd=stores.folder,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise ValueError(f"mlflow gc failed, and may be tried again:\n{done.stderr.strip()[-2000:]}")


def _find_needed(client: MlflowClient, runs: dict[str, Run]) -> tuple[set[str], set[str]]:
    """The runs behind all registered versions with their parents, and those versions' logged models."""
    versions = list(_pages(lambda token: client.search_model_versions(page_token=token)))
    needed = {version.run_id for version in versions if version.run_id}
    needed |= {
        runs[run_id].data.tags[PARENT] for run_id in needed if run_id in runs and PARENT in runs[run_id].data.tags
    }
    models = {version.model_id for version in versions if version.model_id}
    models |= {
        version.source.removeprefix("models:/")
        for version in versions
        if (version.source or "").startswith("models:/m-")
    }
    return needed, models


def _group_models(client: MlflowClient, experiment_ids: list[str]) -> dict[str, list[Any]]:
    """Logged models by the run that they came from."""
    found: dict[str, list[Any]] = defaultdict(list)
    for experiment_id in experiment_ids:
        for model in _pages(
            lambda token, key=experiment_id: client.search_logged_models([key], page_token=token)  # type: ignore[misc]
        ):
            found[model.source_run_id or ""].append(model)
    return found


def _all_experiments(client: MlflowClient, view: int) -> Iterator[Any]:
    return _pages(lambda token: client.search_experiments(view_type=view, page_token=token))


def _all_runs(client: MlflowClient, experiment_ids: list[str], view: int, condition: str) -> Iterator[Run]:
    for i in range(0, len(experiment_ids), 100):
        part = experiment_ids[i : i + 100]
        yield from _pages(
            lambda token, part=part: client.search_runs(  # type: ignore[misc]
                part, condition, run_view_type=view, max_results=1000, page_token=token
            )
        )


def _pages(ask: Callable[[str | None], Any]) -> Iterator[Any]:
    token = None
    while True:
        page = ask(token)
        yield from page
        if not (token := page.token):
            return
