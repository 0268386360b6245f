"""A search, from a folder of labelled images to a registered model: read `conduct` from top to bottom.

python search/run.py                                     the made set, on this machine
python search/run.py --data slices/ --time-budget 2h     a folder with one subfolder per class
python search/run.py --help                              everything else
"""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

if __name__ == "__main__":  # as a script, search/ comes first on the path: the root must
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from ray import tune
from rich.console import Console

from search.champion.conclude import crown_champion, report_search, tell_end
from search.core.budget import Budget
from search.core.config import SearchConfig
from search.core.folder import SearchHome, create_search, reopen_search
from search.core.ledger import Book
from search.core.version import code_version
from search.engine.callback import Listener
from search.engine.fit import CTRL_C, TERMINATED, closing_on_error, end_on_signals, fit
from search.engine.nodes import NodeWatch
from search.engine.preflight import check_cluster, look
from search.engine.runtime import Services
from search.engine.scheduler import INTERRUPTED, Rungs, Scheduler, rung_levels
from search.engine.searcher import OptunaSearcher, Record
from search.observers.mirror import fetch, holds, mirror_records
from search.observers.progress import Board
from search.observers.timings import Pace
from search.observers.tracking import Tracking
from search.preparation.first_points import choose_recipes, describe_standing, record_standing
from search.preparation.plan import (
    choose_first_points,
    describe_data,
    describe_space,
    limit_trials,
    prepare_images,
    prepare_nets,
    prepare_space,
    settle_trials,
    share_gpus,
)
from trainable.node import serve_file
from trainable.storage import join
from trainable.task import TrialTask, delete_checkpoint, read_best
from trainable.trial import Trial


def run(config: SearchConfig, *, began_at_s: float | None = None) -> int:
    """Begin a search. Returns the exit status; raises ValueError for what the user must mend.

    `began_at_s` is when the command was given, in Unix time; by default now.
    """
    pace = Pace(began_at_s)
    if config.name and config.storage and holds(config.storage, config.name):
        raise ValueError(
            f"the search {config.name!r} exists in {config.storage}; go on with it by --resume {config.name}, or "
            "choose another --name"
        )
    home = create_search(config.home, config.name, {"config": config.to_record(), "code_version": code_version()})
    try:
        return conduct(config, home, pace)
    except BaseException:
        if not home.journal_file.exists():
            home.discard()
        raise
    finally:
        home.release()


def resume(
    name: str,
    *,
    home: Path,
    ray_address: str | None = None,
    storage: str | None = None,
    began_at_s: float | None = None,
) -> int:
    """Go on with a search that was killed or terminated; on a head that has never seen it, from its storage."""
    pace = Pace(began_at_s)
    home = home.expanduser().absolute()
    if storage and not (home / "searches" / name).exists():
        fetch(storage, home / "searches" / name)
    search_home = reopen_search(home, name)
    try:
        record = search_home.read_record()
        if "recipe" in record:
            raise ValueError(f"{name!r} is a single training of the recipe {record['recipe']}; only searches go on")
        if "champion" in record:
            raise ValueError(
                f"the search {name!r} has ended: trial {record['champion']} is its champion and its sealed test has "
                "been opened; begin a new search under another --name"
            )
        config = replace(SearchConfig.from_record(record["config"]), home=search_home.home)
        return conduct(replace(config, ray_address=ray_address or config.ray_address), search_home, pace)
    finally:
        search_home.release()


def conduct(config: SearchConfig, home: SearchHome, pace: Pace) -> int:
    """The search itself, new or resumed."""
    console = Console()
    say = partial(console.print, markup=False, highlight=False, soft_wrap=True)
    with Services(config, home, pace) as services, mirror_records(home.folder, config.storage) as copy_records:
        # What is searched on, and for.
        say(f"ctsearch     {home.name} in {home.folder}")
        cluster = services.cluster
        with pace.part("images"):
            prepared = prepare_images(config, home, cluster)
        data = prepared.training
        say(f"Data         {describe_data(config, prepared)}")
        for line in prepared.audit.lines():
            say(line)
        say(f"Cluster      {cluster.description}")
        with pace.part("nets and weights"):
            recipes = choose_recipes(config, home, cluster, data.image_size)
            nets = prepare_nets(config, home, cluster, data, recipes)
        for line in recipes.lines(joined=nets.joined, pretrained=nets.weights, max_epochs=config.max_epochs):
            say(f"Recipes      {line}")
        if nets.left_out and config.space is None:
            say(f"Left out     {', '.join(nets.left_out)}: they want a GPU (--arch takes them all the same)")
        space = prepare_space(config, home, nets, recipes)
        first_points = choose_first_points(config, space, nets, recipes)
        cluster, sharing = share_gpus(config, home, cluster, nets, prepared)
        if sharing:
            say(f"Sharing      {sharing}")
        cluster = check_cluster(config, home, cluster, services.tracking_uri)
        settings = settle_trials(config, home, prepared, cluster)
        model_name = config.model_name or data.name

        # What was tried before: nothing, in a new search.
        higher_is_better = settings.higher_is_better
        record = Record(home.journal_file, sampler=config.sampler, seed=config.seed, higher_is_better=higher_is_better)
        record.begin_with(first_points)
        book = Book(higher_is_better=higher_is_better)
        record.fill(book)
        plans = home.read_record().get("plans", {})
        version = code_version()
        tags = {"data": data.name, "data_hash": data.data_hash, "seed": str(config.seed), "code_version": version}
        tracking = Tracking.open(
            services.tracking_uri,
            model_name,
            home.name,
            parent_run_id=home.read_record().get("parent_run_id"),
            metric=f"val_{config.metric}",
            higher_is_better=higher_is_better,
            tags=tags | recipes.tags() | ({"warnings": "; ".join(prepared.warnings)} if prepared.warnings else {}),
            description="\n".join(prepared.warnings),
        )
        home.update_record(
            image_size=data.image_size,
            data_hash=data.data_hash,
            nets={"architectures": nets.architectures, "sources": nets.sources},
            parent_run_id=tracking.parent_run_id,
            model_name=model_name,
        )
        if home.resumed:
            tracking.mend(book.ended(), keep=book.interrupted())
        tracking.speaks_for_trials = cluster.reach(tracking.uri) is None
        tracking.log_dict("audit.json", prepared.audit.to_dict())
        tracking.log_dict("space.json", describe_space(space, home))

        # Who decides what.
        pace.num_slots = cluster.num_slots
        budget = Budget(
            home.spent_file,
            devices_per_trial=cluster.trial_gpus or cluster.trial_cpus,
            time_budget_s=config.time_budget_s,
            device_hours=config.device_hours,
        )
        tracking.is_over = budget.stop_all
        levels = rung_levels(config.max_epochs, first=config.first_rung, reduction_factor=config.reduction_factor)
        rungs = Rungs(
            levels,
            reduction_factor=config.reduction_factor,
            higher_is_better=higher_is_better,
            history=book.history(),
        )
        scheduler = Scheduler(rungs, cluster.place_trial)
        board = Board(
            console,
            book,
            budget,
            name=home.name,
            metric=config.metric,
            num_trials=limit_trials(config),
            tracking_url=tracking.search_url(),
            is_gpu=cluster.has_gpu,
        )
        task = TrialTask(
            search=home.name,
            settings=settings,
            data=data,
            trials_uri=join(config.storage, home.name, "trials") if config.storage else str(home.trials),
            node_dir=str(home.cache),
            tracking_uri=None if tracking.speaks_for_trials else tracking.uri,
            tracking_login=services.tracking_login,
            weights=nets.weights,
            sources=nets.sources,
            pixels_server=serve_file(data.pixels_path) if cluster.is_joined else None,
        )
        listener = Listener(
            home=home,
            book=book,
            budget=budget,
            scheduler=scheduler,
            tracking=tracking,
            board=board,
            pace=pace,
            plans=plans,
            trial_tags=tags,
            delete_checkpoint=partial(delete_checkpoint, task.trials_uri),
            read_best=partial(read_best, task.trials_uri),
            kept_bytes=settings.checkpoint_bytes,
            shows_timings=config.timings,
            copy_records=copy_records,
        )
        searcher = OptunaSearcher(
            record,
            space,
            num_slots=cluster.num_slots,
            num_trials=limit_trials(config),
            begin_trial=listener.begin,
            outcome_of=scheduler.outcomes.get,
            plans=plans,
        )

        watch = NodeWatch(
            cluster,
            searcher,
            board.say,
            inspect=partial(look, config, home, cluster, tracking.uri),
            give_up=partial(setattr, budget, "stop_reason"),
        )

        # The search.
        say(f"MLflow       {tracking.search_url()}")
        copy_records()
        if not home.sealed_test_file.exists():
            with closing_on_error(tracking), end_on_signals(budget), board.show():
                fit(
                    tune.with_parameters(Trial, task=task),
                    searcher=searcher,
                    scheduler=scheduler,
                    budget=budget,
                    listener=listener,
                    cluster=cluster,
                    home=home,
                    callbacks=[watch] if cluster.is_joined else [],
                )
        say(board.headline())
        if budget.stop_reason == TERMINATED:
            tracking.close_search(INTERRUPTED)
            say(f"Terminated   go on with: ctsearch search --resume {home.name}")
            return 143

        # The champion.
        tracking.flush()
        crowning = crown_champion(book, task, tracking, home, model_name=model_name, warnings=prepared.warnings)
        champion = crowning.number if crowning else None
        standing = describe_standing(book, recipes, metric=config.metric, champion=champion)
        report_search(
            book,
            prepared,
            tracking,
            home,
            metric=config.metric,
            budget_line=board.describe_budget(),
            importances=record.importances(),
            facts={"num_last_rung": rungs.num_at_last, "pace": pace.to_record(), **record_standing(book, recipes)},
            recipe_lines=standing,
            crowning=crowning,
        )
        tracking.close_search(INTERRUPTED if budget.stop_reason == CTRL_C else "completed")
        if crowning is None:
            say("No champion  no trial finished an epoch; the runs in MLflow say why")
            return 1
        home.update_record(champion=crowning.number)
        for line in standing:
            say(f"Recipes      {line}")
        tell_end(console, crowning, book, config, home)
        return 0


if __name__ == "__main__":
    from search.cli import main

    sys.exit(main(["search", *sys.argv[1:]]))
