"""The epochs of a single training as they end: a bar, or a line an epoch where there is no terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from search.core.events import Observer
from search.core.ledger import TrialEntry
from trainable.report import TrialReport


class EpochLines(Observer):
    """Shows losses, the validation AUC and the best value so far."""

    def __init__(self, console: Console, max_epochs: int) -> None:
        self.console = console
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not (console.is_terminal or console.is_jupyter),
        )
        self.task = self.bar.add_task("training", total=max_epochs)

    @contextmanager
    def show(self) -> Iterator[None]:
        """A context in which the bar is drawn."""
        with self.bar:
            yield

    def epoch_reported(self, entry: TrialEntry, report: TrialReport) -> None:
        metrics = report.metrics
        line = (
            f"epoch {report.epoch:3d}  train loss {metrics['train_loss']:.4f}  val loss {metrics['val_loss']:.4f}  "
            f"val auc {metrics['val_auc']:.4f}  best {entry.best_value:.4f}"
        )
        self.bar.update(self.task, completed=report.epoch, description=line)
        if self.bar.disable:
            self.console.print(line, markup=False, highlight=False, soft_wrap=True)
