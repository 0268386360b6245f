"""A search from beginning to end: read `search` and `conduct` from top to bottom.

search -> prepare -> open_session -> run -> confirm -> conclude -> SearchResult
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from search.concluding import conclude
from search.confirming import confirm
from search.core.budget import Budget
from search.core.config import SearchConfig
from search.core.convergence import Converging
from search.core.decisions import Rule
from search.core.events import Observer
from search.core.finalists import find_last_rung, rank_finalists
from search.core.folder import (
    Phase,
    SearchFolder,
    create_search,
    make_name,
)
from search.core.ledger import Ledger
from search.core.pareto import find_front, list_able, list_costs
from search.core.rules import build_rule
from search.core.version import code_version
from search.engine.study import Study
from search.observers.checkpoints import CheckpointKeeper
from search.observers.epochs import EpochLines
from search.observers.mirror import holds
from search.observers.progress import Heading, ProgressTable
from search.observers.record_sync import RecordSync
from search.observers.tracking import Tracking
from search.opening import describe_task, open_tracking
from search.preparation.choices import check_choices
from search.preparation.plan import SearchPlan, prepare, prepare_recipe
from search.preparation.space import try_space
from search.reserve import reserve
from search.result import SearchResult
from search.running import run
from search.runtime import Caller, Runtime, open_runtime
from trainable.recipes import Recipe
from trainable.records import repair_journal
from trainable.task import TrialTask, delete_checkpoint

if TYPE_CHECKING:
    from trainable.images.prepare import TrainingData

NUM_KEPT_OF_FRONT = 20
"""With several objectives any trial that none beats may become the champion: so many keep their checkpoints."""
Prepare = Callable[[SearchConfig, SearchFolder, Runtime], SearchPlan]


def search(config: SearchConfig, *, observers: Sequence[Observer] = (), caller: Caller | None = None) -> SearchResult:
    """Search, and register the champion. Raises ValueError for what the user must change.

    `observers` are called at every event after our own; `caller` says where lines go and may ask for the end.
    """
    check_choices(config)
    try_space(config)
    if config.name and config.storage and holds(config.storage, config.name):
        raise ValueError(
            f"the search {config.name!r} exists in {config.storage}; go on with it by --resume {config.name}, or "
            "choose another --name"
        )
    caller = caller or Caller()
    with caller.signals(), open_new(config, {"config": config.to_record()}) as folder:
        return conduct(config, folder, prepare, observers=observers, caller=caller)


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
    check_choices(config)
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
            with session.tracking.closing_on_error():
                reason, confirmation = confirm(session, reason)
            conclude(session, reason, confirmation)
            return SearchResult.read(folder)
    except KeyboardInterrupt:
        begun = folder.phase is not Phase.PREPARING or folder.resumed
        goes_on = f"go on with: ctsearch search --resume {folder.name}" if begun else "nothing had begun"
        caller.console.print(f"Interrupted  {goes_on}", markup=False, highlight=False, soft_wrap=True)
        raise


@dataclass(frozen=True, kw_only=True)
class Session:
    """A search with everything open: its plan, its trials, and its observers."""

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
    data_by_size: dict[int, TrainingData] = field(default_factory=dict)  # of a confirmation at larger images


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
    max_epochs = plan.settings.max_epochs
    rule, levels = build_rule(
        config,
        plan.space,
        direction,
        max_epochs=max_epochs,
        first_rung=plan.first_rung,
        left=budget.left,
        baselines=plan.baselines,
        costs=lambda number: list_costs(ledger.entries[number].costs, config.costs),
    )
    if isinstance(rule, Converging):
        rule.say = lambda line: progress.say([f"Converged    {line}"])
    keeper = CheckpointKeeper(
        ledger, partial(delete_checkpoint, task.trials_uri), kept_bytes=plan.settings.checkpoint_bytes
    )
    keeper.paused_bytes = plan.settings.checkpoint_bytes * (plan.cluster.num_slots + 1)
    keeper.forget = rule.forget
    if config.ensemble > 1:
        keeper.rank = partial(rank_finalists, ledger, find_last_rung(levels, max_epochs))
    if config.costs:
        keeper.num_kept_best = NUM_KEPT_OF_FRONT
        keeper.rank = lambda: find_front(list_able(ledger), direction, config.costs)
    records = RecordSync(folder, step_plans, runtime.copy_records)
    display = EpochLines(runtime.console, max_epochs) if runtime.is_local else progress
    session = Session(
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
    keeps = [found] if (found := reserve(session)) else []
    ledger.observers = (study, tracking, display, runtime.timings, keeper, records, *keeps, *observers)
    return session
