"""What a search shows while it runs: a live table, or plain lines where there is no terminal."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from search.core.budget import Budget
from search.core.ledger import Book, TrialEntry
from search.engine.scheduler import OUTCOMES
from trainable.recipes import name_recipe

SPARKS = "▁▂▃▄▅▆▇█"
SHOWN_PARAMS = ("optimizer", "learning_rate", "batch_size", "augmentation", "weight_decay")
PLAIN_EVERY_S = 30.0


def format_duration(seconds: float) -> str:
    """`42 s`, `3 min 05 s` or `2 h 07 min`."""
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 1:
        return f"{rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def draw_spark(values: Sequence[float], low: float, high: float, width: int = 16) -> str:
    """A curve in block characters, its last `width` values scaled to [low, high]."""
    span = (high - low) or 1.0
    steps = (min(max((value - low) / span, 0.0), 1.0) for value in values[-width:])
    return "".join(SPARKS[round(step * (len(SPARKS) - 1))] for step in steps)


def describe_params(entry: TrialEntry) -> str:
    """The hyperparameters that matter most, in a few words, after the name of the recipe that they are, if any."""
    shown = []
    for name in SHOWN_PARAMS:
        if name in entry.params:
            value = entry.params[name]
            short = {
                "learning_rate": "lr",
                "batch_size": "batch",
                "augmentation": "aug",
                "weight_decay": "wd",
            }
            text = f"{value:.2g}" if isinstance(value, float) else str(value)
            shown.append(text if name == "optimizer" else f"{short[name]} {text}")
    recipe = name_recipe(entry.params)
    return (f"{recipe}: " if recipe else "") + ", ".join(shown)


class Board:
    """Draws the state of a search: budget, counts, the five best with their curves, and where MLflow is."""

    def __init__(
        self,
        console: Console,
        book: Book,
        budget: Budget,
        *,
        name: str,
        metric: str,
        num_trials: int | None,
        tracking_url: str,
        is_gpu: bool,
    ) -> None:
        self.console = console
        self.book = book
        self.budget = budget
        self.name = name
        self.metric = metric
        self.num_trials = num_trials
        self.tracking_url = tracking_url
        self.devices = "GPU-hours" if is_gpu else "core-hours"
        self.live: Live | None = None
        self.next_line_s = 0.0

    def show(self) -> AbstractContextManager[object]:
        """A context in which the table is live; without a terminal nothing is redrawn."""
        if not self.console.is_terminal:
            return nullcontext()
        self.live = Live(self, console=self.console, refresh_per_second=2, transient=True)
        return self.live

    def __rich__(self) -> Group:
        return Group(Text(self.headline(), style="bold"), self.table(), Text(f"MLflow  {self.tracking_url}", "dim"))

    def headline(self) -> str:
        counts = self.book.counts()
        parts = [f"{counts['running']} running", *(f"{counts[outcome]} {outcome}" for outcome in OUTCOMES)]
        ending = f"  |  ending: {self.budget.stop_reason}" if self.budget.stop_reason else ""
        return f"{self.name}  {self.describe_budget()}  |  {', '.join(parts)}{ending}"

    def describe_budget(self) -> str:
        ended = len(self.book.entries) - self.book.counts()["running"]
        parts = [f"{ended} of {self.num_trials} trials" if self.num_trials else f"{ended} trials"]
        wall = format_duration(self.budget.wall_s)
        limit_s = self.budget.time_budget_s
        parts.append(f"{wall} of {format_duration(limit_s)}" if limit_s else wall)
        hours = self.budget.device_s / 3600
        limit = self.budget.device_hours
        parts.append(f"{hours:.2f} of {limit:g} {self.devices}" if limit else f"{hours:.2f} {self.devices}")
        return ", ".join(parts)

    def table(self, num_best: int = 5) -> Table:
        best = self.book.ranked()[:num_best]
        table = Table(box=None, pad_edge=False, header_style="dim")
        for title in ("trial", f"val {self.metric}", "epochs", "architecture", "configuration", "curve", ""):
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
                describe_params(entry),
                draw_spark(curve, low, high),
                entry.outcome or "running",
            )
        return table

    def note_end(self, entry: TrialEntry) -> None:
        """A trial has its outcome: a plain line where there is no live table; a failure is always told."""
        if self.live is not None and entry.outcome != "failed":
            return
        value = "-" if entry.best_value is None else f"{entry.best_value:.4f}"
        line = (
            f"trial {entry.number:3d} {entry.outcome:11s} epoch {entry.num_epochs:3d}  val {self.metric} {value}  "
            f"{entry.params.get('architecture', '')}, {describe_params(entry)}"
        )
        self.say([line, *([f"    {entry.error}"] if entry.error else [])])

    def tick(self) -> None:
        """Called often; prints the headline now and then where there is no live table."""
        if self.live is None and time.monotonic() > self.next_line_s:
            self.next_line_s = time.monotonic() + PLAIN_EVERY_S
            self.say([self.headline()])

    def say(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.console.print(line, markup=False, highlight=False, soft_wrap=True)
