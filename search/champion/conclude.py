"""The end of a search: its report, its figures for other programs, and the last lines for the user."""

from __future__ import annotations

import statistics
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mlflow import MlflowClient

from search.champion.figures import draw_champion, draw_data
from search.champion.page import write_page
from search.champion.report import ReportParts, write_report
from search.core.describe import describe_params, name_trials
from search.core.folder import SearchFolder, default_home, write_json
from trainable.images.splits import read_splits
from trainable.retry_queue import is_lost_connection

if TYPE_CHECKING:
    from collections.abc import Mapping

    from search.champion.crown import Champion
    from search.champion.sealed import SealedScore
    from search.core.ledger import Ledger
    from search.observers.tracking import Tracking
    from trainable.images.prepare import PreparedData

NUM_COMPARED = 10
SHOWN = ("auc", "accuracy", "sensitivity", "specificity", "sensitivity_at_point", "specificity_at_point")
"""The figures that the last lines show; the report has all."""


def report_search(
    ledger: Ledger, parts: ReportParts, data: PreparedData, folder: SearchFolder, tracking: Tracking
) -> None:
    """Write the report, `parts` with the data and all figures, into the search's folder and, with the leaderboard, to
    the parent run."""
    champion = parts.champion
    entry = ledger.entries[champion.number] if champion else None
    strength = entry.params.get("augmentation") if entry else None
    figures = list(champion.score.figure_files) if champion else []
    if entry is not None and entry.run_id is not None and not tracking.is_away:
        try:
            figures.append(draw_champion(MlflowClient(tracking.uri), entry, folder.folder, metric=parts.metric))
        except Exception as error:  # the report is worth more than this figure
            if not is_lost_connection(error):
                raise
    compared = [entry.run_id for entry in ledger.ranked()[:NUM_COMPARED] if entry.run_id]
    parts = replace(
        parts,
        data_lines=[f"{data.training.name}, data hash {data.training.data_hash}", *data.audit.lines()],
        compare_url=tracking.compare_url(compared) if len(compared) > 1 else None,
        data_figures=draw_data(data, read_splits(folder.splits_file), folder.folder, strength=strength),
        champion_figures=figures,
    )
    for file in write_report(folder.folder, ledger, parts):
        tracking.log_file(file)
    tracking.log_file(write_page(folder.folder / "report.md"))
    if champion is not None:
        tracking.describe_champion(describe_champion(champion), entry.run_id if entry else None)


def write_result(
    ledger: Ledger, champion: Champion | None, data: PreparedData, folder: SearchFolder, facts: Mapping[str, Any]
) -> None:
    """The search's figures for other programs: `result.json` in its folder. `facts` stand beside them."""
    values = [entry.best_value for entry in ledger.ranked() if entry.best_value is not None]
    result: dict[str, Any] = {
        "data": data.training.name,
        "data_hash": data.training.data_hash,
        "num_trials": len(ledger.entries),
        "outcomes": dict(ledger.counts()),
        "num_epochs": sum(len(entry.values) for entry in ledger.entries.values()),
        "median_value": statistics.median(values) if values else None,
    }
    if champion is not None:
        result |= {"champion": champion.number, "params": dict(champion.params), "best_epoch": champion.epoch}
        result |= {"metric": champion.metric, "validation_value": champion.value, "warnings": list(champion.warnings)}
        result |= {"model_name": champion.model_name, "version": champion.version, "alias": champion.alias}
        result |= {"num_openings": champion.num_openings, "members": list(champion.members)}
        result |= {"best_trial_value": champion.best_trial_value, "promotion": champion.promotion}
        result |= {"num_folds": champion.num_folds, "image_size": champion.image_size}
        result |= {"temperature": champion.temperature, "model_bytes": champion.model_bytes}
        result |= {"latency_ms": round(champion.latency_ms, 2)}
        result |= {"operating_point": champion.point.to_dict()} if champion.point else {}
        for prefix, figures in champion.score.named().items():
            result |= figures.to_record(prefix)
        result |= {"test_can_tell": champion.test.can_tell} if champion.test is not None else {}
    write_json(folder.folder / "result.json", result | dict(facts))


def describe_model_cost(champion: Champion) -> str:
    """Size, latency, and the temperature of the probabilities, in one line."""
    cost = f"{champion.model_bytes / 1e6:.1f} MB, {champion.latency_ms:.1f} ms an image on this machine's CPU"
    return cost if champion.temperature == 1 else f"{cost}, calibrated by a temperature of {champion.temperature:.2f}"


def describe_test(score: SealedScore) -> list[str]:
    """The lines of the sealed test: by slice and by patient, whose the intervals are, and what it can show."""
    if (test := score.figures) is None:
        return []
    rows = [("Sealed test", test, "")]
    if score.of_patients is not None:
        rows.append(("", score.of_patients, f", by {test.each}"))
    lines = []
    for title, figures, whose in rows:
        shown = [f"{name} {figures.estimates[name]}" for name in SHOWN if name in figures.estimates]
        lines.append(f"{title:<13}{', '.join(shown)}{whose}")
    lines.append(
        f"             {test.num_slices} slices, 95 % intervals by {test.describe_intervals(SHOWN)} over "
        f"{test.num_groups} {test.group_name}"
    )
    return [*lines, *([f"             {test.can_tell}"] if test.can_tell else [])]


def describe_champion(champion: Champion) -> str:
    """What MLflow shows above a run: the champion and its figures, in Markdown."""
    lines = [
        f"**Champion**: {_name_champion(champion)}",
        f"Validation {champion.metric} {champion.value:.4f}",
        *(" ".join(line.split()) for line in describe_test(champion.score)),
        *(f"Warning: {warning}" for warning in champion.warnings),
    ]
    return "\n\n".join(lines)


def _name_champion(champion: Champion) -> str:
    best = f"trial {champion.number}, {champion.params['architecture']}, {describe_params(champion.params)}"
    if champion.num_folds:
        return f"{name_trials(champion.members)} in {champion.num_folds} folds; the best of them {best}"
    return (
        best if len(champion.members) == 1 else f"the mean of {name_trials(champion.members)}; the best of them {best}"
    )


def describe_end(champion: Champion, folder: SearchFolder, *, has_own_data: bool) -> list[str]:
    """The last lines: what came out, what to open, and what to type next."""
    ui = "ctsearch ui" + ("" if folder.home == default_home().expanduser().absolute() else f" --home {folder.home}")
    lines = ["", f"Champion     {_name_champion(champion)}"]
    if champion.num_folds:
        values = f"{champion.best_trial_value:.4f} in the search, {champion.value:.4f} confirmed"
        lines.append(f"Validation   {champion.metric} {values}")
    elif len(champion.members) == 1:
        lines.append(f"Validation   {champion.metric} {champion.value:.4f} at epoch {champion.epoch}")
    else:
        lines.append(
            f"Validation   {champion.metric} {champion.value:.4f}, the best alone {champion.best_trial_value:.4f}"
        )
    lines += [f"Chosen       {note}" for note in champion.notes]
    lines.append(f"Model        {describe_model_cost(champion)}")
    if champion.point is not None:
        lines.append(f"Called       positive from {champion.point.threshold:.3f} on, for a {champion.point.rule}")
    if champion.verdict is not None and champion.score.of_patients is not None:
        lines.append(f"Patients     one probability each: {champion.verdict.describe()}")
    lines += describe_test(champion.score)
    lines += [f"Warning      {warning}" for warning in champion.warnings]
    if champion.version:
        lines.append(
            f"Registered   {champion.model_name} version {champion.version} as {champion.alias}, and "
            f"{champion.model_name}-images version {champion.images_version}"
        )
        if champion.promotion:
            lines.append(f"Promotion    {champion.promotion}")
    else:
        lines.append(f"Saved        {champion.models}; ctsearch search --resume {folder.name} registers it in MLflow")
    lines += [
        f"Report       {folder.folder / 'report.md'}, and search.html beside it",
        f"Open         {ui}     (the MLflow UI: compare the runs of {folder.name})",
    ]
    if has_own_data:
        lines.append("Next         ctsearch search --data ... --time-budget 2h     (search on; the better model wins)")
    else:
        lines.append("Next         ctsearch search --data FOLDER     (your own slices, one subfolder per class)")
    return lines
