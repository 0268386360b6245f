"""The checkpoint keeper: frees the files of trials that nobody needs any more."""

from __future__ import annotations

import logging
import math
from bisect import insort
from collections.abc import Callable
from typing import Literal

from search.core.events import Observer
from search.core.ledger import Ledger, TrialEntry
from search.core.stop import StopReason
from trainable.report import TrialReport

NUM_KEPT_BEST = 5
Kind = Literal["newest", "best"]
DeleteCheckpoint = Callable[[int, Kind], None]
_log = logging.getLogger(__name__)


class CheckpointKeeper(Observer):
    """Trials that have ended keep their best checkpoints while fewer than five before them in the order of `rank` are
    as good, so that the first five of `rank` that reach any given value are there: a champion leaves out trials below
    the median, which moves. They take no more than `kept_bytes`, but the very best one by value stays always; a trial
    that has ended needs no newest one. `delete(number, kind)` frees a trial's files.

    Paused trials keep both while they take no more than `paused_bytes`; the worst go first, and `forget(number)` is
    called for them: they can never go on.
    """

    def __init__(self, ledger: Ledger, delete: DeleteCheckpoint, kept_bytes: float = math.inf) -> None:
        self.ledger = ledger
        self.delete = delete
        self.kept_bytes = kept_bytes
        self.paused_bytes = math.inf
        self.num_kept_best = NUM_KEPT_BEST
        self.rank: Callable[[], list[TrialEntry]] = ledger.ranked
        self.forget: Callable[[int], None] = lambda number: None
        self.kept_best = {entry.number for entry in ledger.ranked()}
        self.unneeded: set[tuple[int, Kind]] = set()
        self.forgotten: set[int] = set()
        self.is_told = False
        self.at_work: dict[tuple[str, int], int] = {}  # the trial of each worker

    def epoch_reported(self, entry: TrialEntry, report: TrialReport) -> None:
        self.at_work[report.hostname, report.pid] = entry.number
        self._delete_unneeded()

    def trial_paused(self, entry: TrialEntry) -> None:
        """Of paused trials the worst lose their newest checkpoint where all take more room than they have."""
        held_bytes = 0
        for paused in self.ledger.ranked():
            if not paused.is_paused or paused.number in self.forgotten:
                continue
            held_bytes += paused.held_bytes
            if held_bytes > self.paused_bytes:
                self.forgotten.add(paused.number)
                self.unneeded.add((paused.number, "newest"))
                self.forget(paused.number)
        self._delete_unneeded()

    def trial_ended(self, entry: TrialEntry) -> None:
        """Of the trials that have ended only the best few keep their best checkpoint, as far as the room goes."""
        if entry.outcome is not None and entry.outcome.is_final:
            self.unneeded.add((entry.number, "newest"))
        self.kept_best.add(entry.number)
        best: set[int] = set()
        held_bytes = 0
        for ranked in self._list_best():
            held_bytes += ranked.best_bytes
            if not best or held_bytes <= self.kept_bytes:
                best.add(ranked.number)
        freed = self.kept_best - best - self.ledger.interrupted()
        self.unneeded |= {(number, "best") for number in freed}
        self.kept_best -= freed
        self._delete_unneeded()

    def _list_best(self) -> list[TrialEntry]:
        """The very best trial, and the first ones of `rank`, filled up by value: either may become the champion."""
        by_value = self.ledger.ranked()
        places = {entry.number: place for place, entry in enumerate(by_value)}
        wanted = {entry.number: entry for entry in by_value[:1]}
        best_before: list[int] = []
        for entry in self.rank():
            place = places[entry.number]
            if len(best_before) < self.num_kept_best or place < best_before[-1]:
                wanted[entry.number] = entry
                insort(best_before, place)
                del best_before[self.num_kept_best :]
        for entry in by_value:
            if len(wanted) < NUM_KEPT_BEST:
                wanted.setdefault(entry.number, entry)
        return list(wanted.values())

    def search_ended(self, reason: StopReason) -> None:
        """No worker writes any more."""
        self.at_work.clear()
        self.unneeded |= {(number, "newest") for number in self.ledger.ended()}
        self._delete_unneeded()

    def _delete_unneeded(self) -> None:
        """A worker may still be writing for its last trial: what that leaves goes when the next one reports there."""
        busy = set(self.at_work.values())
        for number, kind in [found for found in self.unneeded if found[0] not in busy]:
            try:
                self.delete(number, kind)
            except OSError as error:  # the storage is away, and room in it no matter now
                if not self.is_told:
                    _log.warning("checkpoints that nobody needs are deleted later: %s", error)
                self.is_told = True
                return
            self.unneeded.discard((number, kind))
