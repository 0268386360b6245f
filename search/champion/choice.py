"""Which trials become the champion: the best ones whose checkpoints can be read."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from search.core.finalists import rank_finalists
from trainable.task import locate_trial

if TYPE_CHECKING:
    from search.core.ledger import Ledger, TrialEntry
    from trainable.task import TrialTask

LEAST_MEMBERS = 2
"""A mean needs two; with fewer the best single trial is the champion."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A trial with its best checkpoint: `state` and what it says of itself, and the value of that epoch.

    `warnings` say what was passed over.
    """

    entry: TrialEntry
    state: Mapping[str, Any]
    facts: Mapping[str, Any]
    warnings: tuple[str, ...] = ()

    @property
    def value(self) -> float:
        return float(self.facts["value"])

    @property
    def epoch(self) -> int:
        return int(self.facts["epoch"])


def choose_members(
    ledger: Ledger, task: TrialTask, *, size: int, last_rung: int = 0, opened_for: Sequence[int] = ()
) -> list[Candidate]:
    """The trials whose mean is the champion, best first: at most `size` of `rank_finalists`, or one, or none.

    One that cannot be read gives way to the next, with a warning. Where fewer than two are left it is the best single
    trial (`choose_champion`). `opened_for` are the trials for which the sealed test was opened before: they are the
    members, as far as they can be read, whatever has become better since.
    """
    if len(opened_for) == 1 or (size < LEAST_MEMBERS and not opened_for):
        return _choose_one(ledger, task, opened_for)
    if opened_for:
        size = len(opened_for)
        finalists = [entry for entry in _rank(ledger, last_rung) if entry.number in opened_for]
    else:
        finalists = list_eligible(ledger, last_rung)
    members: list[Candidate] = []
    warnings: list[str] = []
    for entry in finalists:
        candidate = load_candidate(entry, task)
        if candidate is None:
            warnings.append(f"{_describe_lost(entry)}: its checkpoint is missing or damaged, it is no member")
        else:
            members.append(candidate)
        if len(members) == size:
            break
    if len(members) < LEAST_MEMBERS and not (opened_for and members):
        return _choose_one(ledger, task, opened_for)
    return [replace(members[0], warnings=(*warnings, *members[0].warnings)), *members[1:]]


def list_eligible(ledger: Ledger, last_rung: int = 0) -> list[TrialEntry]:
    """The trials that may be members of a mean, in that order (`rank_finalists`).

    A trial below the median of the search is none: in a small search it may have learnt nothing.
    """
    return [entry for entry in _rank(ledger, last_rung) if _is_no_worse_than_median(entry, ledger)]


def choose_champion(ledger: Ledger, task: TrialTask, *, opened_for: int | None = None) -> Candidate | None:
    """The trial with the best value, whatever its outcome; of equals the lower number.

    A trial without a readable best checkpoint gives way to the next one, with a warning; a checkpoint of an earlier
    epoch counts by the value of that one. `opened_for` is the trial for which the sealed test was opened before: it
    comes first. None where no trial has a value. Raises FileNotFoundError where no checkpoint can be read.
    """
    ranked = [entry for entry in ledger.ranked() if not _is_nan(entry)]
    if not ranked:
        return None
    ranked.sort(key=lambda entry: entry.number != opened_for)
    warnings: list[str] = []
    for entry in ranked:
        candidate = load_candidate(entry, task)
        if candidate is not None:
            return replace(candidate, warnings=(*warnings, *candidate.warnings))
        warnings.append(
            f"{_describe_lost(entry)}: its checkpoint is missing or damaged, the next best trial takes its place"
        )
    raise FileNotFoundError(
        f"none of {len(ranked)} trials has a readable `best` checkpoint in {task.trials_uri}: restore that folder and "
        "resume the search"
    )


def load_candidate(entry: TrialEntry, task: TrialTask) -> Candidate | None:
    """A trial with its best checkpoint; None where that cannot be read."""
    from trainable.checkpoint import CheckpointStore  # torch is loaded when a search ends, not when the driver starts

    loaded = CheckpointStore(locate_trial(task.trials_uri, entry.number)).load("best")
    if loaded is None:
        return None
    state, facts = loaded
    warnings: tuple[str, ...] = ()
    if facts["epoch"] != entry.best_epoch:
        warnings = (
            f"the best epoch of trial {entry.number}, {entry.best_epoch} with {entry.best_value:.4f}, was lost: "
            f"its checkpoint is of epoch {facts['epoch']} with {facts['value']:.4f}",
        )
    return Candidate(entry=entry, state=state, facts=facts, warnings=warnings)


def _rank(ledger: Ledger, last_rung: int) -> list[TrialEntry]:
    return [entry for entry in rank_finalists(ledger, last_rung) if not _is_nan(entry)]


def _choose_one(ledger: Ledger, task: TrialTask, opened_for: Sequence[int]) -> list[Candidate]:
    candidate = choose_champion(ledger, task, opened_for=opened_for[0] if opened_for else None)
    return [] if candidate is None else [candidate]


def _is_no_worse_than_median(entry: TrialEntry, ledger: Ledger) -> bool:
    scores = [ledger.direction.score(other.best_value) for other in ledger.ranked()]
    return ledger.direction.score(entry.best_value) >= statistics.median_low(scores)


def _describe_lost(entry: TrialEntry) -> str:
    return f"the best epoch of trial {entry.number}, {entry.best_value:.4f}, cannot be read"


def _is_nan(entry: TrialEntry) -> bool:
    return math.isnan(entry.best_value or 0.0)
