"""A search from beginning to end: read `search` and `conduct` from top to bottom.

search -> prepare -> open_ledger -> run -> conclude -> SearchResult
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from ray import tune

from search.champion.conclude import describe_end, report_search, write_result
from search.champion.crown import Finish, crown_champion
from search.commands.report import write_page
from search.core.budget import Budget
from search.core.config import SearchConfig
from search.core.convergence import Converging
from search.core.decisions import Rule
from search.core.describe import format_duration
from search.core.events import Observer
from search.core.extension import BUDGETS, enlarge, extend, find_differences, note_budget
from search.core.finalists import choose_finalists, find_last_rung, rank_finalists
from search.core.finishing import KEPT_SHARE
from search.core.folder import (
    Phase,
    SearchFolder,
    create_search,
    list_searches,
    make_name,
    reopen_search,
    view_search,
)
from search.core.ledger import Ledger
from search.core.rules import build_rule
from search.core.stop import StopReason
from search.core.version import code_version
from search.engine.fit import TrialPlan, run_trials
from search.engine.local import run_trials_here
from search.engine.nodes import NodeWatch
from search.engine.preflight import look
from search.engine.ray_watch import RayWatch
from search.engine.searcher import Study
from search.engine.steered import Steered
from search.observers.checkpoints import CheckpointKeeper
from search.observers.epochs import EpochLines
from search.observers.mirror import fetch, holds
from search.observers.progress import Heading, ProgressTable
from search.observers.record_sync import RecordSync
from search.observers.tracking import Tracking
from search.preparation.changes import accept_changes, refuse_changes
from search.preparation.choices import check_choices
from search.preparation.first_points import describe_standing, record_standing
from search.preparation.plan import SearchPlan, prepare, prepare_recipe
from search.result import SearchResult
from search.runtime import Caller, Runtime, open_runtime
from trainable.node import serve_file
from trainable.recipes import Recipe
from trainable.records import repair_journal
from trainable.report import Outcome
from trainable.storage import join
from trainable.task import TrialTask, delete_checkpoint, read_best
from trainable.trial import Trial

Prepare = Callable[[SearchConfig, SearchFolder, Runtime], SearchPlan]


def search(config: SearchConfig, *, observers: Sequence[Observer] = (), caller: Caller | None = None) -> SearchResult:
    """Search, and register the champion. Raises ValueError for what the user must change.

    `observers` hear of every event after our own; `caller` says where lines go and may ask for the end.
    """
    check_choices(config)
    if config.name and config.storage and holds(config.storage, config.name):
        raise ValueError(
            f"the search {config.name!r} exists in {config.storage}; go on with it by --resume {config.name}, or "
            "choose another --name"
        )
    caller = caller or Caller()
    with caller.signals(), open_new(config, {"config": config.to_record()}) as folder:
        return conduct(config, folder, prepare, observers=observers, caller=caller)


def search_or_resume(
    config: SearchConfig, *, observers: Sequence[Observer] = (), caller: Caller | None = None
) -> SearchResult:
    """Begin the search of this name, or go on with it where it exists: for jobs that a queue starts again.

    Once it has ended its result is given, unless the budget is larger by now. Raises ValueError where it began with
    other options than these.
    """
    if config.name is None:
        raise ValueError("--auto-resume needs --name: by it a search is found again")
    exists = config.name in list_searches(config.home)
    if not exists and not (config.storage and holds(config.storage, config.name)):
        return search(config, observers=observers, caller=caller)
    if not exists and config.storage:
        fetch(config.storage, config.home / "searches" / config.name)
    folder = view_search(config.home, config.name)
    record = folder.read_record()
    began = SearchConfig.from_record(record["config"])
    if differences := find_differences(began, config):
        raise ValueError(
            f"the search {config.name!r} began with other options: {'; '.join(differences)}; give those, or another "
            "--name"
        )
    larger = {name: value for name in BUDGETS if (value := getattr(config, name)) not in (None, getattr(began, name))}
    if folder.phase is Phase.ENDED and not larger:
        return SearchResult.read(folder)
    return resume(
        config.name,
        home=config.home,
        ray_address=config.ray_address,
        storage=config.storage,
        budget=larger,
        observers=observers,
        caller=caller,
    )


def resume(
    name: str,
    *,
    home: Path,
    ray_address: str | None = None,
    storage: str | None = None,
    budget: Mapping[str, Any] | None = None,
    accepts_changes: bool = False,
    observers: Sequence[Observer] = (),
    caller: Caller | None = None,
) -> SearchResult:
    """Go on with a search that was killed or terminated; on a head that has never seen it, from its storage.

    With a larger `budget` (fields of `BudgetOptions`, counted over all sessions) also after it has ended: trials are
    added and the champion is chosen anew among all. Images, space and models of the user's own that have changed are
    refused unless they are accepted.
    """
    home = home.expanduser().absolute()
    if storage and not (home / "searches" / name).exists():
        fetch(storage, home / "searches" / name)
    caller = caller or Caller()
    folder = reopen_search(home, name)
    try:
        record = folder.read_record()
        if "recipe" in record:
            raise ValueError(f"{name!r} is a single training of the recipe {record['recipe']}; only searches go on")
        if folder.phase is Phase.ENDED and not budget:
            raise ValueError(
                f"the search {name!r} has ended: trial {record.get('champion')} is its champion and its sealed test "
                "has been opened; go on with a larger budget (--num-trials, --time-budget or --gpu-hours, in all), "
                "or begin a new search under another --name"
            )
        config = replace(SearchConfig.from_record(record["config"]), home=folder.home)
        if not accepts_changes:
            refuse_changes(config, folder)
        larger = enlarge(config, budget or {}, {**record, "name": name, "phase": folder.phase})
        accepted = accept_changes(config, folder) if accepts_changes else ()
        if larger != config or accepted:
            extend(folder, larger, accepted)
            config = larger
        config = replace(config, ray_address=ray_address or config.ray_address)
        with caller.signals():
            return conduct(config, folder, prepare, observers=observers, caller=caller)
    finally:
        folder.release()


def train(
    recipe: Recipe, config: SearchConfig, *, observers: Sequence[Observer] = (), caller: Caller | None = None
) -> SearchResult:
    """Train one recipe in this process, with no Ray and no search around it; report it as a champion is.

    What `config` leaves open, the recipe says. Raises ValueError for what the user must change, and what training
    itself raises.
    """
    config = replace(
        config, name=config.name or make_name("train"), architectures=(recipe.config.architecture,), storage=None
    )
    caller = caller or Caller()
    with caller.signals(), open_new(config, {"config": config.to_record(), "recipe": recipe.name}) as folder:
        plan = partial(prepare_recipe, recipe)
        return conduct(config, folder, plan, observers=observers, caller=caller, local=True)


@contextmanager
def open_new(config: SearchConfig, record: dict[str, object]) -> Iterator[SearchFolder]:
    """The folder of a new search; its name is free again where the search fails before its first trial."""
    folder = create_search(config.home, config.name, {**record, "code_version": code_version()})
    try:
        yield folder
    except BaseException:
        if folder.phase is Phase.PREPARING:
            folder.discard()
        raise
    finally:
        folder.release()


def conduct(
    config: SearchConfig,
    folder: SearchFolder,
    prepare: Prepare,
    *,
    observers: Sequence[Observer],
    caller: Caller,
    local: bool = False,
) -> SearchResult:
    """The search itself, new or resumed, from images to a registered model."""
    try:
        with open_runtime(config, folder, caller, local=local) as runtime:
            plan = prepare(config, folder, runtime)
            session = open_session(plan, folder, runtime, observers)
            reason = run(session)
            conclude(session, reason)
            return SearchResult.read(folder)
    except KeyboardInterrupt:
        begun = folder.phase is not Phase.PREPARING or folder.resumed
        goes_on = f"go on with: ctsearch search --resume {folder.name}" if begun else "nothing had begun"
        caller.console.print(f"Interrupted  {goes_on}", markup=False, highlight=False, soft_wrap=True)
        raise


@dataclass(frozen=True, kw_only=True)
class Session:
    """A search with everything open: its plan, its trials, and who hears of them."""

    plan: SearchPlan
    folder: SearchFolder
    runtime: Runtime
    study: Study
    ledger: Ledger
    budget: Budget
    rule: Rule
    levels: Sequence[int]
    tracking: Tracking
    progress: ProgressTable
    display: ProgressTable | EpochLines
    task: TrialTask
    step_plans: dict[str, dict[str, str]]


def open_session(plan: SearchPlan, folder: SearchFolder, runtime: Runtime, observers: Sequence[Observer]) -> Session:
    """Open study, ledger and runs; trials of earlier sessions are in them."""
    config, direction = plan.config, plan.settings.direction
    if repaired := repair_journal(folder.journal_file):
        runtime.say(f"Repaired     {repaired}")
    study = Study(folder.journal_file, sampler=config.sampler, seed=config.seed, direction=direction)
    study.begin_with(plan.first_points, num_warm=plan.num_warm)
    ledger = Ledger(direction)
    study.restore(ledger)
    tracking = open_tracking(plan, folder, runtime, ledger)
    runtime.timings.num_slots = plan.cluster.num_slots
    budget = Budget(
        folder.spent_file,
        devices_per_trial=plan.cluster.trial_gpus or plan.cluster.trial_cpus,
        time_budget_s=config.time_budget_s,
        device_hours=config.device_hours,
        stop=runtime.stop,
    )
    heading = Heading(
        name=folder.name,
        metric=config.metric,
        num_trials=plan.num_trials,
        tracking_url=tracking.search_url(),
        devices="GPU-hours" if plan.cluster.has_gpu else "core-hours",
    )
    progress = ProgressTable(runtime.console, ledger, budget, heading)
    task = describe_task(plan, folder, runtime, tracking)
    if config.timings:
        runtime.timings.started = progress.say
    step_plans = folder.read_record().get("plans", {})
    rule, levels = build_rule(config, plan.space, direction, partial(budget.is_kept, KEPT_SHARE))
    if isinstance(rule, Converging):
        rule.say = lambda line: progress.say([f"Converged    {line}"])
    keeper = CheckpointKeeper(
        ledger, partial(delete_checkpoint, task.trials_uri), kept_bytes=plan.settings.checkpoint_bytes
    )
    keeper.paused_bytes = plan.settings.checkpoint_bytes * (plan.cluster.num_slots + 1)
    keeper.forget = rule.forget
    if config.ensemble > 1:
        keeper.rank = partial(rank_finalists, ledger, find_last_rung(levels, config.max_epochs))
    records = RecordSync(folder, step_plans, runtime.copy_records)
    display = EpochLines(runtime.console, config.max_epochs) if runtime.is_local else progress
    ledger.observers = (study, tracking, display, runtime.timings, keeper, records, *observers)
    return Session(
        plan=plan,
        folder=folder,
        runtime=runtime,
        study=study,
        ledger=ledger,
        budget=budget,
        rule=rule,
        levels=levels,
        tracking=tracking,
        progress=progress,
        display=display,
        task=task,
        step_plans=step_plans,
    )


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


def run(session: Session) -> StopReason:
    """Run the trials until the search ends; a search that was killed in its conclusion has run them already."""
    folder, runtime = session.folder, session.runtime
    runtime.say(f"MLflow       {session.tracking.search_url()}")
    if (size := session.plan.config.ensemble) > 1 and session.plan.config.scheduler != "asha" and not runtime.is_local:
        kept = f"; {KEPT_SHARE:.0%} of the budget are kept for it" if session.budget.is_limited else ""
        runtime.say(f"Finalists    the best {size} trials are trained to their last epoch{kept}")
    runtime.copy_records()
    if folder.phase is Phase.CONCLUDING:
        return StopReason[folder.read_record().get("stop", StopReason.ALL_TRIALS.name)]
    folder.enter(Phase.SEARCHING)
    plan = TrialPlan(
        trainable=None,
        space=session.plan.space,
        study=session.study,
        rule=session.rule,
        levels=session.levels,
        budget=session.budget,
        num_trials=session.plan.num_trials,
        step_plans=session.step_plans,
        read_best=partial(read_best, session.task.trials_uri),
        timeout_s=session.plan.config.trial_timeout_s,
    )
    with closing_on_error(session.tracking), runtime.stop.heeded(), session.display.show():
        reason = run_here(plan, session) if runtime.is_local else run_on_ray(plan, session)
    if not runtime.is_local:
        runtime.say(session.progress.headline())
    folder.update_record(stop=reason.name, stop_reason=str(session.budget.stop))
    return reason


def run_on_ray(plan: TrialPlan, session: Session) -> StopReason:
    """The trials on the cluster's workers."""
    cluster, config = session.plan.cluster, session.plan.config
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
    if cluster.is_joined:
        return run_trials(plan, session.ledger, cluster, session.folder.folder, [steered, watch])
    with watch_ray(session) as ray_watch:
        return run_trials(plan, session.ledger, cluster, session.folder.folder, [steered, lambda searcher: ray_watch])


@contextmanager
def watch_ray(session: Session) -> Iterator[RayWatch]:
    """What tells that our own Ray has died, and closes the runs where nothing else can any more."""

    def give_up(line: str) -> None:
        session.runtime.say(f"ctsearch: {line}")
        session.tracking.close_search(Outcome.INTERRUPTED, timeout_s=20)

    ray_watch = RayWatch(session.folder.name, give_up)
    try:
        yield ray_watch
    finally:
        ray_watch.is_over.set()


def run_here(plan: TrialPlan, session: Session) -> StopReason:
    """The trials in this process."""
    return run_trials_here(plan, session.ledger, session.task)


def count_at_last(session: Session) -> int:
    """How many trials have reached the last epoch at which trials are compared."""
    last = find_last_rung(session.levels, session.plan.config.max_epochs)
    return sum(entry.num_epochs >= last > 0 for entry in session.ledger.entries.values())


@contextmanager
def closing_on_error(tracking: Tracking) -> Iterator[None]:
    """Whatever ends a search around its trials, a second Ctrl-C included: no run stays RUNNING."""
    try:
        yield
    except BaseException:
        tracking.close_search(Outcome.INTERRUPTED, timeout_s=5)
        raise


def conclude(session: Session, reason: StopReason) -> None:
    """Choose, score, register and report the champion; after SIGTERM all that waits for a resume."""
    plan, folder, runtime, tracking = session.plan, session.folder, session.runtime, session.tracking
    if not reason.concludes:
        tracking.close_search(Outcome.INTERRUPTED)
        runtime.say(f"Terminated   go on with: ctsearch search --resume {folder.name}")
        return
    folder.enter(Phase.CONCLUDING)
    with closing_on_error(tracking):
        is_reachable = tracking.flush()
        finish = Finish(
            is_reachable=is_reachable,
            folder=folder,
            task=session.task,
            model_name=plan.model_name,
            tracking_uri=tracking.uri,
            parent_run_id=tracking.parent_run_id,
            warnings=plan.data.warnings,
            ensemble=plan.config.ensemble,
            last_rung=find_last_rung(session.levels, plan.config.max_epochs),
            calibrates=not plan.config.raw_probabilities,
            goals=plan.config.goals,
            promote=plan.config.promote,
            group_name="patients" if plan.data.grouped_by == "patient" else "groups of neighbouring slices",
        )
        finalists = choose_finalists(session.ledger, size=finish.ensemble, last_rung=finish.last_rung)
        if finish.ensemble > 1 and (short := finalists.describe()):
            runtime.say(f"Finalists    {short}")
        champion = crown_champion(session.ledger, finish)
        number = champion.number if champion else None
        standing = describe_standing(session.ledger, plan.recipes, metric=plan.config.metric, champion=number)
        spent = session.progress.describe_budget()
        if runtime.is_local:
            num_epochs = sum(entry.num_epochs for entry in session.ledger.entries.values())
            spent = f"{num_epochs} epochs, {format_duration(time.time() - runtime.timings.began_at_s)}"
        report_search(
            session.ledger,
            champion,
            plan.data,
            folder,
            tracking,
            budget_line=spent,
            importances=session.study.importances(),
            recipe_lines=standing,
        )
        facts = {
            "num_last_rung": count_at_last(session),
            "stop_reason": str(session.budget.stop),
            "pace": runtime.timings.to_record(),
            **record_standing(session.ledger, plan.recipes),
            **({"recipe": plan.tags["recipe"]} if runtime.is_local else {}),
        }
        write_result(session.ledger, champion, plan.data, folder, facts)
        page = write_page(folder)
        tracking.log_file(page.file)
        delivered = tracking.close_search(Outcome.FAILED if champion is None else reason.outcome)
    if champion is None:
        folder.enter(Phase.SEARCHING)  # a resume may try on
        runtime.say("No champion  no trial finished an epoch; the runs in MLflow say why")
        return
    folder.update_record(champion=champion.number)
    if delivered and champion.version:
        folder.enter(Phase.ENDED)
    runtime.say(*(f"Recipes      {line}" for line in standing), *([f"Left         {page.left}"] if page.left else []))
    runtime.say(*describe_end(champion, folder, has_own_data=plan.config.data is not None))
