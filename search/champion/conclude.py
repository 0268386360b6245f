"""The end of a search: the champion is crowned, the report written, and the user told what to do next."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mlflow import MlflowClient
from rich.console import Console

from search.champion.crowning import Crowning, choose_champion, crown
from search.champion.figures import draw_champion, draw_data
from search.champion.report import TrialSummary, write_report
from search.champion.sealed import read_opening
from search.core.config import SearchConfig
from search.core.folder import SearchHome, default_home, write_json
from search.core.ledger import Book
from search.engine.scheduler import INTERRUPTED
from search.observers.progress import describe_params
from trainable.images.splits import read_splits
from trainable.task import TrialTask, locate_trial, read_best

if TYPE_CHECKING:
    from search.observers.tracking import Tracking
    from trainable.images.prepare import PreparedData

NUM_COMPARED = 10


def summarise(book: Book) -> list[TrialSummary]:
    """The book's entries as the champion and the report read them."""
    return [
        TrialSummary(
            number=entry.number,
            params=entry.params,
            outcome=entry.outcome or INTERRUPTED,
            values=entry.values,
            best_value=entry.best_value,
            best_epoch=entry.best_epoch,
            run_id=entry.run_id or "",
        )
        for entry in book.entries.values()
    ]


def crown_champion(
    book: Book,
    task: TrialTask,
    tracking: Tracking,
    home: SearchHome,
    *,
    model_name: str,
    warnings: Sequence[str],
) -> Crowning | None:
    """Crown the best trial, or go on crowning the one for which the sealed test was opened already."""
    if not book.ranked():
        return None
    trials = summarise(book)
    opened = read_opening(home.sealed_test_file)
    if opened is None:

        def is_kept(trial: TrialSummary) -> bool:
            facts = read_best(task.trials_uri, trial.number)
            return facts is not None and facts["epoch"] == trial.best_epoch

        champion = choose_champion(trials, higher_is_better=book.higher_is_better, is_kept=is_kept)
        best = book.ranked()[0]
        if champion.number != best.number:
            lost = f"the best epoch of trial {best.number}, {best.best_value:.4f}, was lost with its worker"
            warnings = [*warnings, f"{lost}: trial {champion.number} is the best that is left"]
    else:
        champion = next(trial for trial in trials if trial.number == opened.champion)
    return crown(
        champion,
        client=MlflowClient(tracking.uri),
        parent_run_id=tracking.parent_run_id,
        model_name=model_name,
        search=home.name,
        folder=home.folder,
        checkpoint_uri=locate_trial(task.trials_uri, champion.number),
        data=task.data,
        settings=task.settings,
        splits_file=home.splits_file,
        cache_dir=home.cache,
        source=task.sources.get(champion.params["architecture"]),
        warnings=warnings,
    )


def report_search(
    book: Book,
    prepared: PreparedData,
    tracking: Tracking,
    home: SearchHome,
    *,
    metric: str,
    budget_line: str,
    crowning: Crowning | None,
    importances: Mapping[str, float] | None = None,
    facts: Mapping[str, Any] | None = None,
    recipe_lines: Sequence[str] = (),
) -> None:
    """Write the report into the search's folder and, with the leaderboard, to the parent run.

    `facts` go into `result.json` beside the figures.
    """
    trials = summarise(book)
    champion = next((trial for trial in trials if crowning and trial.number == crowning.number), None)
    strength = champion.params.get("augmentation") if champion else None
    data_pictures = draw_data(prepared, read_splits(home.splits_file), home.folder, strength=strength)
    champion_pictures = list(crowning.pictures) if crowning else []
    if champion is not None:
        champion_pictures.append(draw_champion(MlflowClient(tracking.uri), champion, home.folder, metric=metric))
    compared = [entry.run_id for entry in book.ranked()[:NUM_COMPARED] if entry.run_id]
    files = write_report(
        home.folder,
        search=home.name,
        metric=metric,
        higher_is_better=book.higher_is_better,
        trials=trials,
        data_lines=[
            f"{prepared.training.name}, data hash {prepared.training.data_hash}",
            *prepared.audit.lines(),
        ],
        budget_lines=[budget_line],
        importances=importances,
        recipe_lines=recipe_lines,
        compare_url=tracking.compare_url(compared) if len(compared) > 1 else None,
        crowning=crowning,
        data_pictures=data_pictures,
        champion_pictures=champion_pictures,
    )
    for file in files:
        tracking.log_file(file)
    write_json(
        home.folder / "result.json",
        summarise_result(book, prepared, crowning) | dict(facts or {}),
    )


def summarise_result(book: Book, prepared: PreparedData, crowning: Crowning | None) -> dict[str, Any]:
    """The search's figures for other programs: `result.json` in its folder."""
    values = [entry.best_value for entry in book.ranked() if entry.best_value is not None]
    result: dict[str, Any] = {
        "data": prepared.training.name,
        "data_hash": prepared.training.data_hash,
        "num_trials": len(book.entries),
        "outcomes": dict(book.counts()),
        "num_epochs": sum(len(entry.values) for entry in book.entries.values()),
        "median_value": statistics.median(values) if values else None,
    }
    if crowning is not None:
        entry = book.entries[crowning.number]
        result |= {"champion": crowning.number, "params": dict(entry.params), "best_epoch": entry.best_epoch}
        result |= {"metric": crowning.metric, "validation_value": crowning.value}
        result |= {"model_name": crowning.model_name, "version": crowning.version, "alias": crowning.alias}
        if crowning.test is not None:
            result |= crowning.test.to_metrics("test")
        if crowning.test_without_duplicates is not None:
            result |= crowning.test_without_duplicates.to_metrics("test_without_duplicates")
    return result


def tell_end(console: Console, crowning: Crowning, book: Book, config: SearchConfig, home: SearchHome) -> None:
    """The last lines: what came out, what to open, and what to type next."""
    entry = book.entries[crowning.number]
    ui = "ctsearch ui" + ("" if home.home == default_home().expanduser().absolute() else f" --home {home.home}")
    lines = [
        "",
        f"Champion     trial {crowning.number}, {entry.params['architecture']}, {describe_params(entry)}",
        f"Validation   {crowning.metric} {crowning.value:.4f} at epoch {entry.best_epoch}",
    ]
    if crowning.test is not None:
        figures = [
            f"{name} {crowning.test.metrics[name]:.3f} ({low:.3f} to {high:.3f})"
            for name, (low, high) in crowning.test.intervals.items()
            if name in ("auc", "accuracy", "sensitivity", "specificity")
        ]
        lines.append(f"Sealed test  {', '.join(figures)}")
        lines.append(
            f"             {crowning.test.num_slices} slices in {crowning.test.num_groups} groups, 95 % intervals "
            "by bootstrap over groups"
        )
    lines += [f"Warning      {warning}" for warning in crowning.warnings]
    lines += [
        f"Registered   {crowning.model_name} version {crowning.version} as {crowning.alias}, and "
        f"{crowning.model_name}-images version {crowning.images_version}",
        f"Report       {home.folder / 'report.md'}",
        f"Open         {ui}     (the MLflow UI: compare the runs of {home.name})",
    ]
    if config.data is None:
        lines.append("Next         ctsearch search --data FOLDER     (your own slices, one subfolder per class)")
    else:
        lines.append("Next         ctsearch search --data ... --time-budget 2h     (search on; the better model wins)")
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
