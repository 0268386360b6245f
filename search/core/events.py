"""Observer: what the ledger calls at a search's events. It decides nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from search.core.ledger import TrialEntry
    from search.core.stop import StopReason
    from trainable.report import TrialReport


class Observer:
    """A base class of empty methods. Observers are called in the order of the ledger's tuple."""

    def trial_began(self, entry: TrialEntry) -> None:
        """A trial is about to start, or to go on after an interruption (then it has a `run_id`, or epochs)."""

    def epoch_reported(self, entry: TrialEntry, report: TrialReport) -> None:
        """An epoch that was not known before; the entry holds it already."""

    def trial_paused(self, entry: TrialEntry) -> None:
        """A trial gave its worker to another one, and may go on later."""

    def trial_resumed(self, entry: TrialEntry) -> None:
        """A paused trial goes on."""

    def trial_recovered(self, entry: TrialEntry) -> None:
        """A trial lost its worker and goes on elsewhere from its newest checkpoint."""

    def trial_ended(self, entry: TrialEntry) -> None:
        """A trial has its outcome."""

    def time_passed(self) -> None:
        """Called often, between the events above."""

    def search_ended(self, reason: StopReason) -> None:
        """No trial runs any more; every trial has its outcome."""
