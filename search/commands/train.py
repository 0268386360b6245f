"""`ctsearch train`: one recipe trained in this process, with no Ray and no search, and reported as a champion is."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from traceback import format_exc
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from search.champion.conclude import crown_champion, report_search, tell_end
from search.core.config import SearchConfig
from search.core.folder import SearchHome, create_search, make_name
from search.core.ledger import Book
from search.core.version import code_version
from search.engine.cluster import Cluster
from search.engine.runtime import Services
from search.engine.scheduler import COMPLETED, FAILED, INTERRUPTED
from search.observers.progress import format_duration
from search.observers.timings import Pace
from search.observers.tracking import Tracking
from search.preparation.plan import describe_data, prepare_images, prepare_nets, settle_trials
from trainable.config import StepPlan
from trainable.recipes import Recipe
from trainable.task import TrialTask

if TYPE_CHECKING:
    from trainable.train import EpochReport


def describe_machine() -> Cluster:
    """This machine as a training sees it: its first GPU, else all its cores."""
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


def train_recipe(recipe: Recipe, config: SearchConfig, *, began_at_s: float | None = None) -> int:
    """Train one recipe; what `config` leaves open, the recipe says. Returns the exit status.

    Raises ValueError for what the user must mend, and what training itself raises.
    """
    pace = Pace(began_at_s)
    name = config.name or make_name("train")
    config = replace(config, name=name, architectures=(recipe.config.architecture,))
    record = {"config": config.to_record(), "recipe": recipe.name, "code_version": code_version()}
    home = create_search(config.home, name, record)
    try:
        return conduct(recipe, config, home, pace)
    except BaseException:
        if not any(home.trials.iterdir()):
            home.discard()
        raise
    finally:
        home.release()


def conduct(recipe: Recipe, config: SearchConfig, home: SearchHome, pace: Pace) -> int:
    """The training itself, from images to a registered model."""
    console = Console()
    say = partial(console.print, markup=False, highlight=False, soft_wrap=True)
    with Services(config, home, pace, with_ray=False) as services:
        say(f"ctsearch     {home.name} in {home.folder}")
        say(f"Recipe       {recipe.name}: {recipe.summary}")
        for note in recipe.notes:
            say(f"             {note}")
        machine = describe_machine()
        prepared = prepare_images(config, home, machine)
        data = prepared.training
        say(f"Data         {describe_data(config, prepared)}")
        for line in prepared.audit.lines():
            say(line)
        say(f"Machine      {machine.description}")
        nets = prepare_nets(config, home, machine, data)
        home.update_record(nets={"architectures": nets.architectures, "sources": nets.sources})
        if recipe.wants_weights and not nets.weights:
            say(f"Weights      none: from scratch (--weights {recipe.config.architecture}=FILE gives some)")
        settings = settle_trials(config, home, prepared, machine)
        model_name = config.model_name or data.name
        tags = {
            "recipe": recipe.name,
            "data": data.name,
            "data_hash": data.data_hash,
            "seed": str(config.seed),
            "code_version": code_version(),
            "pretrained": str(bool(nets.weights)).lower(),
        }
        tracking = Tracking.open(
            services.tracking_uri,
            model_name,
            home.name,
            metric=f"val_{config.metric}",
            higher_is_better=settings.higher_is_better,
            tags=tags,
            description="\n".join([recipe.summary, *recipe.notes, *prepared.warnings]),
        )
        tracking.log_dict("audit.json", prepared.audit.to_dict())
        say(f"MLflow       {tracking.search_url()}")
        task = TrialTask(
            search=home.name,
            settings=settings,
            data=data,
            trials_uri=str(home.trials),
            node_dir=str(home.cache),
            tracking_uri=services.tracking_uri,
            weights=nets.weights,
            sources=nets.sources,
        )
        book = Book(higher_is_better=settings.higher_is_better)
        params = recipe.config.to_params()
        book.open(0, params, tracking.open_trial(0, params, tags))
        train_one(recipe, task, book, tracking, console)
        tracking.flush()
        crowning = crown_champion(book, task, tracking, home, model_name=model_name, warnings=prepared.warnings)
        report_search(
            book,
            prepared,
            tracking,
            home,
            metric=config.metric,
            budget_line=f"{book.entries[0].num_epochs} epochs, {format_duration(time.time() - pace.began_at_s)}",
            facts={"recipe": recipe.name},
            crowning=crowning,
        )
        tracking.close_search(book.entries[0].outcome or INTERRUPTED)
        if crowning is None:
            say("No model     no epoch was finished")
            return 1
        home.update_record(champion=0)
        tell_end(console, crowning, book, config, home)
        return 0


def train_one(recipe: Recipe, task: TrialTask, book: Book, tracking: Tracking, console: Console) -> None:
    """Train with a progress bar; every epoch reaches the book and MLflow. Ctrl-C ends it with the best epoch so far."""
    from trainable.step_plan import measure_step_plan, pick_device
    from trainable.training import Training
    from trainable.worker_memory import keep_freed_memory

    keep_freed_memory()
    config, settings, entry, node_dir = recipe.config, task.settings, book.entries[0], Path(task.node_dir)
    plan = StepPlan()
    if not settings.deterministic:
        plan = measure_step_plan(
            config,
            image_size=settings.image_size,
            device=pick_device(),
            num_threads=settings.num_threads,
            cache_file=node_dir / "step_plans.json",
        )
    entry.tags = {"precision": plan.precision, "memory_format": plan.memory_format}
    training = Training(task, 0, config, data=task.data, plan=plan, node_dir=node_dir, run_id=entry.run_id)
    try:
        with show_progress(console, settings.max_epochs) as show:
            for report in training.reports:
                tracking.hear(0, report.epoch, training.log(report), report.metrics)
                book.note(0, report.epoch, report.value)
                show(report)
        entry.outcome = COMPLETED
    except KeyboardInterrupt:
        entry.outcome = INTERRUPTED
    except BaseException as error:
        entry.outcome, entry.error = FAILED, str(error)
        tracking.close_trial(0, FAILED, tags=entry.tags, error=format_exc())
        tracking.close_search(FAILED)
        raise
    finally:
        training.close(keep_newest=False)
    tracking.close_trial(0, entry.outcome, tags=entry.tags)


@contextmanager
def show_progress(console: Console, max_epochs: int) -> Iterator[Callable[[EpochReport], None]]:
    """A bar over epochs; where there is no terminal, a line an epoch."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("training", total=max_epochs)

        def show(report: EpochReport) -> None:
            metrics = report.metrics
            line = (
                f"epoch {report.epoch:3d}  train loss {metrics['train_loss']:.4f}  val loss {metrics['val_loss']:.4f}  "
                f"val auc {metrics['val_auc']:.4f}  best {report.best_value:.4f}"
            )
            progress.update(bar, completed=report.epoch, description=line)
            if not console.is_terminal:
                console.print(line, markup=False, highlight=False, soft_wrap=True)

        yield show
