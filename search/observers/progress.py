"""What a search shows while it runs: a live table, or plain lines where there is no terminal."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from search.core.budget import Budget
from search.core.describe import describe_params, draw_spark, format_duration
from search.core.events import Observer
from search.core.ledger import Ledger, TrialEntry
from search.core.stop import StopReason
from trainable.report import Outcome

PLAIN_EVERY_S = 30.0
NATURAL = (None, StopReason.ALL_TRIALS)


@dataclass(frozen=True, kw_only=True)
class Heading:
    """What stands above and below the table."""

    name: str
    metric: str
    num_trials: int | None = None
    tracking_url: str = ""
    devices: str = "core-hours"
    each: str = "trial"


class ProgressTable(Observer):
    """Draws the state of a search: budget, counts, the five best with their curves, and where MLflow is."""

    def __init__(self, console: Console, ledger: Ledger, budget: Budget, heading: Heading) -> None:
        self.console = console
        self.ledger = ledger
        self.budget = budget
        self.heading = heading
        self.live: Live | None = None
        self.next_line_s = 0.0

    def show(self) -> AbstractContextManager[object]:
        """A context in which the table is live; without a terminal nothing is redrawn."""
        if not (self.console.is_terminal or self.console.is_jupyter):
            return nullcontext()
        self.live = Live(self, console=self.console, refresh_per_second=2, transient=True)
        return self.live

    def __rich__(self) -> Group:
        return Group(
            Text(self.headline(), style="bold"), self.table(), Text(f"MLflow  {self.heading.tracking_url}", "dim")
        )

    def headline(self) -> str:
        counts = self.ledger.counts()
        live = [state for state in ("running", "paused") if state == "running" or counts[state]]
        parts = [
            *(f"{counts[state]} {state}" for state in live),
            *(f"{counts[outcome]} {outcome}" for outcome in Outcome),
        ]
        ending = f"  |  ending: {self.budget.stop}" if self.budget.stop.reason not in NATURAL else ""
        return f"{self.heading.name}  {self.describe_budget()}  |  {', '.join(parts)}{ending}"

    def describe_budget(self) -> str:
        ended = sum(entry.outcome is not None for entry in self.ledger.entries.values())
        each = f"{self.heading.each}s"
        parts = [f"{ended} of {self.heading.num_trials} {each}" if self.heading.num_trials else f"{ended} {each}"]
        wall = format_duration(self.budget.wall_s)
        limit_s = self.budget.time_budget_s
        parts.append(f"{wall} of {format_duration(limit_s)}" if limit_s else wall)
        hours = self.budget.device_s / 3600
        limit = self.budget.device_hours
        parts.append(
            f"{hours:.2f} of {limit:g} {self.heading.devices}" if limit else f"{hours:.2f} {self.heading.devices}"
        )
        return ", ".join(parts)

    def table(self, num_best: int = 5) -> Table:
        best = self.ledger.ranked()[:num_best]
        table = Table(box=None, pad_edge=False, header_style="dim")
        for title in (
            self.heading.each,
            f"val {self.heading.metric}",
            "epochs",
            "architecture",
            "configuration",
            "curve",
            "",
        ):
            table.add_column(title, no_wrap=True, overflow="ellipsis")
        values = [value for entry in best for value in entry.values.values()]
        low, high = min(values, default=0.0), max(values, default=1.0)
        for entry in best:
            curve = [entry.values[epoch] for epoch in sorted(entry.values)]
            table.add_row(
                f"{entry.number}",
                f"{entry.best_value:.4f}",
                f"{entry.num_epochs}",
                str(entry.params.get("architecture", "")),
                describe_params(entry.params),
                draw_spark(curve, low, high),
                entry.state,
            )
        return table

    def trial_ended(self, entry: TrialEntry) -> None:
        """A plain line where there is no live table; a failure always has its line."""
        if self.live is not None and entry.outcome is not Outcome.FAILED:
            return
        value = "-" if entry.best_value is None else f"{entry.best_value:.4f}"
        line = (
            f"{self.heading.each} {entry.number:3d} {entry.outcome:11s} epoch {entry.num_epochs:3d}  "
            f"val {self.heading.metric} {value}  "
            f"{entry.params.get('architecture', '')}, {describe_params(entry.params)}"
        )
        self.say([line, *([f"    {entry.error}"] if entry.error else [])])

    def trial_recovered(self, entry: TrialEntry) -> None:
        self.say([f"{self.heading.each} {entry.number:3d} lost its worker and goes on from its newest checkpoint"])

    def time_passed(self) -> None:
        """Called often; prints the headline now and then where there is no live table."""
        if self.live is None and time.monotonic() > self.next_line_s:
            self.next_line_s = time.monotonic() + PLAIN_EVERY_S
            self.say([self.headline()])

    def say(self, lines: Iterable[str]) -> None:
        """Print lines above the table."""
        for line in lines:
            self.console.print(line, markup=False, highlight=False, soft_wrap=True)
