"""Confirmation: the best configurations trained again, in folds of patients, before the champion is chosen.

Every slice of train and val is then scored by models that have not seen its patient (out-of-fold predictions), and
the models of all folds together have seen all patients.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from heapq import heapreplace
from typing import TYPE_CHECKING, Any

from search.core.describe import format_duration
from search.core.stop import StopReason

if TYPE_CHECKING:
    from search.core.ledger import TrialEntry

LADDER = ((5, 5), (4, 5), (3, 5), (3, 3), (2, 3), (1, 5), (1, 3))
"""Trials and folds, the best first: what is afforded by itself is the first that fits. Even the three folds of one
sound trial are better on new patients than the mean of five trials where those are few and unlike, as they are in a
search that affords no more (benchmarks/LOG.md)."""
SHARE, SHARE_OF_TRAINED = 0.5, 1 / 3
"""The most of a search's budget that its confirmation takes by itself; without one, of the time its trials took."""
START_S, WORKERS_S = 2.0, 8.0
"""Of a training: its model is built, its last checkpoint written; of all: their workers start."""
FORWARDS_TRAINED, FORWARDS_SCORED = 3.0, 2.0
"""Passes forward that a slice takes in an epoch: back is twice forward; mean and raw weights are scored."""
MARGIN = 1.15
"""What is kept of a budget for a confirmation, over the time expected of it."""
CONFIRMED = (StopReason.ALL_TRIALS, StopReason.TIME_BUDGET, StopReason.DEVICE_HOURS, StopReason.CONVERGED)
"""The ends after which there is a confirmation; who stops a search by hand wants its champion now."""


@dataclass(frozen=True, kw_only=True)
class Confirmation:
    """`members` are the trials that are trained again, best first, each in `num_folds` folds.

    The trainings are numbered from 0, a member's folds one after another; with a `final_size` in pixels, all of them
    are done at that size too. `cost_s` is the time expected of it all,
    `device_s` the time that its trainings hold their devices, one by one.
    """

    members: tuple[int, ...]
    num_folds: int
    final_size: int | None = None
    cost_s: float = 0.0
    device_s: float = 0.0

    @property
    def num_trainings(self) -> int:
        """At one size."""
        return len(self.members) * self.num_folds

    def member_of(self, training: int) -> int:
        """The trial whose configuration a training has."""
        return self.members[training // self.num_folds]

    def trainings_of(self, member: int) -> range:
        """The trainings of a trial, in the order of the folds."""
        first = self.members.index(member) * self.num_folds
        return range(first, first + self.num_folds)

    def tag(self, training: TrialEntry) -> dict[str, str]:
        """What the run of a training is tagged with."""
        fold = training.number % self.num_folds + 1
        return {"confirms": str(self.member_of(training.number)), "fold": f"{fold} of {self.num_folds}"}

    def describe(self) -> str:
        """What it is and what it costs, for the terminal."""
        also = f", and as many at {self.final_size} px" if self.final_size else ""
        *first, last = map(str, self.members)
        who = f"trials {', '.join(first)} and {last} are" if first else f"trial {last} is"
        return (
            f"{who} trained again in {self.num_folds} folds of train and val: {self.num_trainings} trainings{also}, "
            f"about {format_duration(self.cost_s)}"
        )

    def to_record(self) -> dict[str, Any]:
        size = {"final_size": self.final_size} if self.final_size else {}
        return {"members": list(self.members), "num_folds": self.num_folds, **size}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Confirmation:
        members, size = tuple(record["members"]), record.get("final_size")
        return cls(members=members, num_folds=record["num_folds"], final_size=size)


@dataclass(frozen=True, kw_only=True)
class Pace:
    """What a confirmation's cost follows from.

    A trial trains on `num_train` slices of `num_slices`, and is scored on the others. `most_folds` is how many the
    patients allow. With a `final_size` all is done at `image_size` and at that.
    """

    max_epochs: int
    num_slots: int
    num_train: int
    num_slices: int
    most_folds: int
    image_size: int = 0
    final_size: int | None = None

    def plan(self, ranked: Sequence[TrialEntry], num_members: int, num_folds: int) -> Confirmation | None:
        """The confirmation of the first `num_members` of `ranked`; None where there are fewer, or folds, or times."""
        entries = ranked[:num_members]
        seconds = [entry.epoch_s for entry in entries if entry.epoch_s is not None]
        if len(entries) < num_members or num_folds > self.most_folds or not seconds:
            return None
        larger = self._epoch_of(self.num_slices * (1 - 1 / num_folds)) / self._epoch_of(self.num_train)
        each_s = [
            START_S + (entry.epoch_s or max(seconds)) * larger * self.max_epochs
            for entry in entries
            for _ in range(num_folds)
        ]
        by_size = [each_s]
        if self.final_size is not None:
            by_size.append([seconds * (self.final_size / self.image_size) ** 2 for seconds in each_s])
        return Confirmation(
            members=tuple(entry.number for entry in entries),
            num_folds=num_folds,
            final_size=self.final_size,
            cost_s=sum(WORKERS_S + find_makespan(size_s, self.num_slots) for size_s in by_size),
            device_s=sum(map(sum, by_size)),
        )

    def _epoch_of(self, num_train: float) -> float:
        """What an epoch takes that trains on so many slices, in slices that are scored."""
        return FORWARDS_TRAINED * num_train + FORWARDS_SCORED * (self.num_slices - num_train)


def find_makespan(seconds: Sequence[float], num_slots: int) -> float:
    """How long jobs of so many seconds take, begun in that order, each on the slot that is free first."""
    free_s = [0.0] * num_slots
    for each_s in seconds:
        heapreplace(free_s, free_s[0] + each_s)
    return max(free_s)


def choose_confirmation(
    ranked: Sequence[TrialEntry],
    pace: Pace,
    *,
    num_folds: int | None,
    num_members: int,
    allowed_s: float,
    trusted: Sequence[TrialEntry] = (),
) -> Confirmation | None:
    """The confirmation that a search affords, of the finalists `ranked`; None where it affords none.

    With `num_folds` it is of that many, whatever it costs (fewer where the patients allow fewer), with as many of
    `num_members` as there are. Else the first of the ladder that takes `allowed_s` seconds or less, of the best or else
    of those `trusted`; of one trial alone it is only if that is trusted.
    """
    if num_folds is not None:
        return pace.plan(ranked, min(num_members, len(ranked)), min(num_folds, pace.most_folds))
    for members, folds in LADDER:
        for entries in (ranked, trusted) if members > 1 else (trusted,):
            found = pace.plan(entries, members, folds) if members <= num_members else None
            if found is not None and found.cost_s <= allowed_s:
                return found
    return None
