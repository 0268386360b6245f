"""The report of a search: its leaderboard as CSV, and a Markdown page with figures, in its own folder."""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from search.core.describe import name_trials
from trainable.model_cost import name_cost
from trainable.report import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from search.champion.crown import Champion
    from search.champion.trade_off import TradeOff
    from search.core.ledger import Ledger, TrialEntry


@dataclass(frozen=True, kw_only=True)
class ReportParts:
    """What a report says beside the trials.

    `data_lines` say what was trained on (name, hash, audit), `budget_lines` what was spent, `importances` maps
    hyperparameters to shares in [0, 1] where Optuna could compute them, `baseline_lines` say what one would have
    trained without a search, and where the champion stands against published recipes, `trade_off` what several
    objectives came to, `compare_url` leads to the best
    trials in MLflow. Without a `champion` the page says that there is none. Given figures lie in the report's folder
    already.
    """

    search: str
    metric: str
    champion: Champion | None = None
    data_lines: Sequence[str] = ()
    budget_lines: Sequence[str] = ()
    importances: Mapping[str, float] = field(default_factory=dict)
    baseline_lines: Sequence[str] = ()
    trade_off: TradeOff | None = None
    compare_url: str | None = None
    data_figures: Sequence[Path] = ()
    champion_figures: Sequence[Path] = ()


def write_report(folder: Path, ledger: Ledger, parts: ReportParts) -> list[Path]:
    """Write leaderboard.csv, report.md and their figures to `folder`; the files to log, in the order of the page."""
    from trainable.figures import draw_importances, draw_learning_curves, draw_trade_off, save_figure

    ranked = ledger.leaderboard()
    curves = draw_learning_curves(
        {entry.number: entry.values for entry in ranked},
        {entry.number: str(entry.outcome or Outcome.INTERRUPTED) for entry in ranked},
        metric=parts.metric,
        champion=parts.champion.number if parts.champion else None,
    )
    figures = [save_figure(curves, folder / "learning_curves.png")]
    if parts.importances:
        figures.append(save_figure(draw_importances(parts.importances), folder / "importances.png"))
    if (weighed := parts.trade_off) is not None:
        cost = weighed.costs[0]
        places = {
            e.number: (e.costs[cost], e.best_value) for e in ranked if cost in e.costs and e.best_value is not None
        }
        drawn = draw_trade_off(
            places,
            [entry.number for entry in weighed.front],
            weighed.chosen.number,
            titles=(name_cost(cost), f"validation {parts.metric}"),
        )
        figures.append(save_figure(drawn, folder / "trade_off.png"))
    page = folder / "report.md"
    page.write_text("\n\n".join(filter(None, _list_sections(ranked, parts))) + "\n", encoding="utf-8")
    leaderboard = write_leaderboard(folder / "leaderboard.csv", ranked, parts.metric)
    return [leaderboard, page, *parts.champion_figures, *parts.data_figures, *figures]


def _list_sections(ranked: Sequence[TrialEntry], parts: ReportParts) -> list[str]:
    counts = Counter(entry.outcome or Outcome.INTERRUPTED for entry in ranked)
    outcomes = ", ".join(f"{counts[outcome]} {outcome}" for outcome in Outcome)
    sections = [
        f"# Search {parts.search}",
        _list_lines([f"{len(ranked)} trials: {outcomes}", *parts.budget_lines]),
        "## Champion",
        _describe_champion(parts.champion),
        *_show_figures(parts.champion_figures),
        "## Baselines" if parts.baseline_lines else "",
        _list_lines(parts.baseline_lines),
        *(
            ["## Trade-off", _list_lines(parts.trade_off.lines()), "![Trade-off](trade_off.png)"]
            if parts.trade_off
            else []
        ),
        "## Data",
        "\n".join(["```", *parts.data_lines, "```"]) if parts.data_lines else "",
        *_show_figures(parts.data_figures),
        "## Trials",
        f"Sorted by validation {parts.metric} at the best epoch."
        + (f" [The first side by side in MLflow]({parts.compare_url})" if parts.compare_url else ""),
        _tabulate(*_leaderboard(ranked, parts.metric)),
        "![Learning curves](learning_curves.png)",
    ]
    if parts.importances:
        sections += ["## Hyperparameter importances", "![Importances](importances.png)"]
    return sections


def _show_figures(figures: Sequence[Path]) -> list[str]:
    return [f"![{figure.stem.replace('_', ' ')}]({figure.name})" for figure in figures]


def write_leaderboard(path: Path, ranked: Sequence[TrialEntry], metric: str) -> Path:
    """All trials, best first, with every hyperparameter that any of them drew; numbers in full."""
    names, costs = _hyperparameters(ranked), _costs(ranked)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["rank", "trial", "outcome", metric, "best_epoch", "epochs", "run_id", *costs, *names])
        for place, trial in enumerate(ranked, 1):
            drawn = [trial.params.get(name, "") for name in names]
            value, best_epoch = ("" if v is None else v for v in (trial.best_value, trial.best_epoch))
            writer.writerow(
                [
                    place,
                    trial.number,
                    trial.outcome or Outcome.INTERRUPTED,
                    value,
                    best_epoch,
                    trial.num_epochs,
                    trial.run_id or "",
                    *(trial.costs.get(cost, "") for cost in costs),
                    *drawn,
                ]
            )
    return path


def _hyperparameters(trials: Sequence[TrialEntry]) -> list[str]:
    """Every name that was drawn, in the order of first appearance."""
    return list(dict.fromkeys(name for trial in trials for name in trial.params))


def _costs(trials: Sequence[TrialEntry]) -> list[str]:
    """What was measured of any model."""
    return list(dict.fromkeys(name for trial in trials for name in trial.costs))


def _leaderboard(ranked: Sequence[TrialEntry], metric: str) -> tuple[list[str], list[list[str]]]:
    names, costs = _hyperparameters(ranked), _costs(ranked)
    rows = [
        [
            str(trial.number),
            _show(trial.best_value),
            _show(trial.best_epoch),
            _show(trial.num_epochs),
            trial.outcome or Outcome.INTERRUPTED,
            *(_show(trial.costs.get(cost)) for cost in costs),
            *(_show(trial.params.get(name)) for name in names),
        ]
        for trial in ranked
    ]
    return ["trial", metric, "best epoch", "epochs", "outcome", *costs, *names], rows


def _describe_champion(champion: Champion | None) -> str:
    if champion is None:
        return "None: no trial finished an epoch."
    facts = [
        f"{name_trials(champion.members)}, validation {champion.metric} {champion.value:.4f}",
        f"the best member alone, trial {champion.number}: {champion.best_trial_value:.4f}"
        if len(champion.members) > 1
        else "",
        f"positive from a probability of {champion.point.threshold:.3f} on ({champion.point.rule})"
        if champion.point
        else "",
        *champion.notes,
        champion.promotion and f"alias `{champion.alias}`: {champion.promotion}",
        f"registered as {champion.model_name} version {champion.version} and {champion.model_name}-images "
        f"version {champion.images_version}, alias `{champion.alias}`",
        f"the sealed test of this data has been opened {_times(champion.num_openings)} in this home",
        *(f"warning: {warning}" for warning in champion.warnings),
    ]
    if (test := champion.test) is None:
        return _list_lines(facts)
    columns = {f"all {test.num_slices} slices": test}
    if (of_patients := champion.score.of_patients) is not None:
        columns[f"by {test.each}, {test.num_groups}"] = of_patients
    if (other := champion.score.without_duplicates) is not None:
        columns[f"the {other.num_slices} slices without near-duplicates"] = other
    rows = [
        [name, *(str(figures.estimates[name]) if name in figures.estimates else "" for figures in columns.values())]
        for name in test.estimates
    ]
    note = f"95 % intervals over {test.num_groups} {test.group_name}: {test.describe_intervals()}. {test.can_tell}"
    return "\n\n".join([_list_lines(facts), _tabulate(["sealed test", *columns], rows), note])


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _show(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _list_lines(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line.strip()}" for line in lines if line.strip())


def _tabulate(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; a bar in a cell is escaped."""
    body = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in body)
