"""The checkpoint keeper: frees the files of trials that nobody needs any more."""

from __future__ import annotations

import math
from collections.abc import Callable

from search.core.events import Observer
from search.core.ledger import Ledger, TrialEntry
from search.core.stop import StopReason
from trainable.report import TrialReport

NUM_KEPT_BEST = 5
DeleteCheckpoint = Callable[[int, str], None]


class CheckpointKeeper(Observer):
    """The five best trials that have ended keep their best checkpoints while these take no more than `kept_bytes`,
    the very best one always. `delete(number, kind)` frees a trial's files of a kind.
    """

    def __init__(self, ledger: Ledger, delete: DeleteCheckpoint, kept_bytes: float = math.inf) -> None:
        self.ledger = ledger
        self.delete = delete
        self.kept_bytes = kept_bytes
        self.kept_best = {entry.number for entry in ledger.ranked()}
        self.unneeded_best: set[int] = set()
        self.at_work: dict[tuple[str, int], int] = {}  # the trial of each worker

    def epoch_reported(self, entry: TrialEntry, report: TrialReport) -> None:
        self.at_work[report.hostname, report.pid] = entry.number
        self._delete_unneeded()

    def trial_ended(self, entry: TrialEntry) -> None:
        """Of the trials that have ended only the best few keep their best checkpoint, as far as the room goes."""
        self.kept_best.add(entry.number)
        best: set[int] = set()
        held_bytes = 0
        for ranked in self.ledger.ranked()[:NUM_KEPT_BEST]:
            held_bytes += ranked.best_bytes
            if not best or held_bytes <= self.kept_bytes:
                best.add(ranked.number)
        going_on = self.ledger.interrupted()
        self.unneeded_best |= self.kept_best - best - going_on
        self.kept_best -= self.unneeded_best
        self._delete_unneeded()

    def search_ended(self, reason: StopReason) -> None:
        """Workers deleted the `newest` of trials that others followed; here go the rest."""
        self.at_work.clear()
        self._delete_unneeded()
        for number in self.ledger.ended():
            self.delete(number, "newest")

    def _delete_unneeded(self) -> None:
        """A worker may still be writing for its last trial: what that leaves goes when the next one reports there."""
        for number in self.unneeded_best - set(self.at_work.values()):
            self.delete(number, "best")
            self.unneeded_best.discard(number)
