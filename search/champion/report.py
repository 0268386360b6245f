"""The report of a search: its leaderboard as CSV, and a Markdown page with pictures, in its own folder."""

from __future__ import annotations

import csv
import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from search.champion.crowning import Crowning

OUTCOMES = ("completed", "stopped", "failed", "interrupted")


@dataclass(frozen=True, kw_only=True)
class TrialSummary:
    """One trial as a report sees it. `values` is its validation metric by epoch (1-based).

    `best_value` and `best_epoch` are None for a trial that finished no epoch.
    """

    number: int
    params: Mapping[str, Any]
    outcome: str
    values: Mapping[int, float]
    best_value: float | None
    best_epoch: int | None
    run_id: str

    def __post_init__(self) -> None:
        if self.outcome not in OUTCOMES:
            raise ValueError(f"the outcome is {self.outcome!r}; it must be one of {', '.join(OUTCOMES)}")

    @property
    def has_value(self) -> bool:
        return self.best_value is not None and not math.isnan(self.best_value)

    @property
    def num_epochs(self) -> int:
        return max(self.values, default=0)


def rank(trials: Sequence[TrialSummary], *, higher_is_better: bool = True) -> list[TrialSummary]:
    """Best value first, of equals the lower number; trials without a value come last."""

    def key(trial: TrialSummary) -> tuple[bool, float, int]:
        value = trial.best_value if trial.best_value is not None and trial.has_value else 0.0
        return not trial.has_value, -value if higher_is_better else value, trial.number

    return sorted(trials, key=key)


def count_outcomes(trials: Iterable[TrialSummary]) -> dict[str, int]:
    """How many trials ended with each outcome, all four named."""
    counts = Counter(trial.outcome for trial in trials)
    return {outcome: counts[outcome] for outcome in OUTCOMES}


def write_report(
    folder: Path,
    *,
    search: str,
    metric: str,
    higher_is_better: bool,
    trials: Sequence[TrialSummary],
    data_lines: Sequence[str] = (),
    budget_lines: Sequence[str] = (),
    importances: Mapping[str, float] | None = None,
    recipe_lines: Sequence[str] = (),
    compare_url: str | None = None,
    crowning: Crowning | None = None,
    data_pictures: Sequence[Path] = (),
    champion_pictures: Sequence[Path] = (),
) -> list[Path]:
    """Write leaderboard.csv, report.md and their pictures to `folder`; the files to log, in the order of the page.

    `data_lines` say what was trained on (name, hash, audit), `budget_lines` what was spent, `importances`
    maps hyperparameters to shares in [0, 1] where Optuna could compute them, `recipe_lines` say how the champion
    stands against published recipes, `compare_url` leads to the best trials in MLflow. Without `crowning` the page says
    that there is no champion. Given pictures lie in `folder` already.
    """
    from trainable.pictures import draw_importances, draw_learning_curves, save_picture

    ranked = rank(trials, higher_is_better=higher_is_better)
    curves = draw_learning_curves(
        {trial.number: trial.values for trial in ranked},
        {trial.number: trial.outcome for trial in ranked},
        metric=metric,
        champion=crowning.number if crowning else None,
    )
    pictures = [save_picture(curves, folder / "learning_curves.png")]
    if importances:
        pictures.append(save_picture(draw_importances(importances), folder / "importances.png"))

    counts = ", ".join(f"{count} {outcome}" for outcome, count in count_outcomes(trials).items())
    sections = [
        f"# Search {search}",
        _list_lines([f"{len(trials)} trials: {counts}", *budget_lines]),
        "## Champion",
        _describe_champion(crowning),
        *_show_pictures(champion_pictures),
        "## Recipes" if recipe_lines else "",
        _list_lines(recipe_lines),
        "## Data",
        "\n".join(["```", *data_lines, "```"]) if data_lines else "",
        *_show_pictures(data_pictures),
        "## Trials",
        f"Sorted by validation {metric} at the best epoch."
        + (f" [The first side by side in MLflow]({compare_url})" if compare_url else ""),
        _tabulate(*_leaderboard(ranked, metric)),
        "![Learning curves](learning_curves.png)",
    ]
    if importances:
        sections += ["## Hyperparameter importances", "![Importances](importances.png)"]
    page = folder / "report.md"
    page.write_text("\n\n".join(section for section in sections if section) + "\n", encoding="utf-8")
    return [
        write_leaderboard(folder / "leaderboard.csv", ranked, metric),
        page,
        *champion_pictures,
        *data_pictures,
        *pictures,
    ]


def _show_pictures(pictures: Sequence[Path]) -> list[str]:
    return [f"![{picture.stem.replace('_', ' ')}]({picture.name})" for picture in pictures]


def write_leaderboard(path: Path, ranked: Sequence[TrialSummary], metric: str) -> Path:
    """All trials, best first, with every hyperparameter that any of them drew; numbers in full."""
    names = _hyperparameters(ranked)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["rank", "trial", "outcome", metric, "best_epoch", "epochs", "run_id", *names])
        for place, trial in enumerate(ranked, 1):
            drawn = [trial.params.get(name, "") for name in names]
            value, best_epoch = ("" if v is None else v for v in (trial.best_value, trial.best_epoch))
            writer.writerow(
                [
                    place,
                    trial.number,
                    trial.outcome,
                    value,
                    best_epoch,
                    trial.num_epochs,
                    trial.run_id,
                    *drawn,
                ]
            )
    return path


def _hyperparameters(trials: Sequence[TrialSummary]) -> list[str]:
    """Every name that was drawn, in the order of first appearance."""
    return list(dict.fromkeys(name for trial in trials for name in trial.params))


def _leaderboard(ranked: Sequence[TrialSummary], metric: str) -> tuple[list[str], list[list[str]]]:
    names = _hyperparameters(ranked)
    rows = [
        [
            str(trial.number),
            _show(trial.best_value),
            _show(trial.best_epoch),
            _show(trial.num_epochs),
            trial.outcome,
            *(_show(trial.params.get(name)) for name in names),
        ]
        for trial in ranked
    ]
    return ["trial", metric, "best epoch", "epochs", "outcome", *names], rows


def _describe_champion(crowning: Crowning | None) -> str:
    if crowning is None:
        return "None: no trial finished an epoch."
    facts = [
        f"trial {crowning.number}, validation {crowning.metric} {crowning.value:.4f}",
        f"registered as {crowning.model_name} version {crowning.version} and {crowning.model_name}-images "
        f"version {crowning.images_version}, alias `{crowning.alias}`",
        f"the sealed test of this data has been opened {_times(crowning.num_openings)} in this home",
        *(f"warning: {warning}" for warning in crowning.warnings),
    ]
    if (test := crowning.test) is None:
        return _list_lines(facts)
    other = crowning.test_without_duplicates
    rows = []
    for name, value in test.metrics.items():
        row = [name, _show_interval(value, test.intervals[name])]
        if other is not None:
            row.append(_show_interval(other.metrics[name], other.intervals[name]))
        rows.append(row)
    headings = ["sealed test", f"all {test.num_slices} slices"]
    if other is not None:
        headings.append(f"the {other.num_slices} without near-duplicates")
    note = f"95 % intervals by bootstrap over groups (patients where known); {test.num_groups} groups."
    return "\n\n".join([_list_lines(facts), _tabulate(headings, rows), note])


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _show(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _show_interval(value: float, interval: tuple[float, float]) -> str:
    if math.isnan(value):
        return "undefined"
    return f"{value:.3f} ({interval[0]:.3f} to {interval[1]:.3f})"


def _list_lines(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line.strip()}" for line in lines if line.strip())


def _tabulate(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; a bar in a cell is escaped."""
    body = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in body)
