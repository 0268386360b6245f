"""Finalists: the trials whose mean becomes the champion, and those that should be trained to their end first."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

from trainable.report import Outcome

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from search.core.ledger import Ledger, TrialEntry
    from trainable.report import Direction


@dataclass(frozen=True, kw_only=True)
class Finalists:
    """`members` are the best trials that may join a mean, best first; `to_continue` those of them, and of the other
    stopped ones, that would have to be trained to their last epoch for `members` to be full-length trials alone.
    """

    members: tuple[TrialEntry, ...]
    to_continue: tuple[TrialEntry, ...]

    def describe(self) -> str:
        """One line for the terminal; "" where every member has been trained to its end."""
        num_short = sum(entry.outcome is not Outcome.COMPLETED for entry in self.members)
        if not num_short:
            return ""
        return f"{num_short} of the {len(self.members)} best trials were stopped before their last epoch"


def rank_finalists(ledger: Ledger, last_rung: int = 0, *, will_complete: bool = False) -> list[TrialEntry]:
    """Trials that may join a mean, in that order: those that completed, best first; then those that have reached
    `last_rung`, the last epoch below the end at which trials are compared (0: nobody).

    Trials that were stopped early rank high by a lucky epoch and are worth little (Signal). With `will_complete` those
    still running there rank as if they had completed.
    """
    ranked = [entry for entry in ledger.ranked() if entry.outcome is not Outcome.FAILED]
    completed, late = [], []
    for entry in ranked:
        is_late = entry.num_epochs >= last_rung > 0
        if entry.outcome is Outcome.COMPLETED or (will_complete and is_late and entry.state == "running"):
            completed.append(entry)
        elif is_late:
            late.append(entry)
    return [*completed, *late]


def find_trusted(ranked: Sequence[TrialEntry], baselines: Collection[int], direction: Direction) -> list[TrialEntry]:
    """Those of `baselines`, best first, from which the first of `ranked`, best first, is no farther than
    `find_flattery` says.

    The best of many values flatters its trial; that of a configuration which was there before any value does not.
    """
    least = direction.score(ranked[0].best_value) - find_flattery(ranked) if ranked else 0.0
    return [entry for entry in ranked if entry.number in baselines and direction.score(entry.best_value) >= least]


def find_flattery(ranked: Sequence[TrialEntry]) -> float:
    """By how much the value of the first of `ranked` is expected to flatter it where all trials are worth the same.

    This is the standard error of that value times the expected largest of so many standard normal values (Blom,
    "Statistical Estimates and Transformed Beta-Variables", 1958); 0 where no standard error is known.
    """
    num = len(ranked)
    return (ranked[0].standard_error or 0.0) * NormalDist().inv_cdf((num - 0.375) / (num + 0.25))


def choose_finalists(ledger: Ledger, *, size: int, last_rung: int = 0) -> Finalists:
    """The best `size` finalists; where fewer have completed, the best others by value are those to continue."""
    members = rank_finalists(ledger, last_rung)[:size]
    num_completed = sum(entry.outcome is Outcome.COMPLETED for entry in ledger.entries.values() if entry.values)
    others = [e for e in ledger.ranked() if e.outcome not in (Outcome.COMPLETED, Outcome.FAILED)]
    return Finalists(members=tuple(members), to_continue=tuple(others[: max(size - num_completed, 0)]))


def find_last_rung(levels: Sequence[int], max_epochs: int) -> int:
    """The last epoch below the end at which trials are compared; 0 without any."""
    return max((level for level in levels if level < max_epochs), default=0)
