"""Which trial becomes the champion: the best whose checkpoint can be read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trainable.task import locate_trial

if TYPE_CHECKING:
    from search.core.ledger import Ledger, TrialEntry
    from trainable.task import TrialTask


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


def choose_champion(ledger: Ledger, task: TrialTask, *, opened_for: int | None = None) -> Candidate | None:
    """The trial with the best value at its best epoch, whatever its outcome; of equals the lower number.

    A trial without a readable best checkpoint gives way to the next one, with a warning; a checkpoint of an earlier
    epoch counts by the value of that one. `opened_for` is the trial for which the sealed test was opened before: it
    comes first. None where no trial has a value. Raises FileNotFoundError where no checkpoint can be read.
    """
    from trainable.checkpoint import CheckpointStore  # torch is loaded when a search ends, not when the driver starts

    ranked = [entry for entry in ledger.ranked() if not math.isnan(entry.best_value or 0.0)]
    if not ranked:
        return None
    ranked.sort(key=lambda entry: entry.number != opened_for)
    warnings: list[str] = []
    for entry in ranked:
        loaded = CheckpointStore(locate_trial(task.trials_uri, entry.number)).load("best")
        if loaded is None:
            lost = f"the best epoch of trial {entry.number}, {entry.best_value:.4f}, cannot be read"
            warnings.append(f"{lost}: its checkpoint is missing or damaged, the next best trial takes its place")
            continue
        state, facts = loaded
        if facts["epoch"] != entry.best_epoch:
            warnings.append(
                f"the best epoch of trial {entry.number}, {entry.best_epoch} with {entry.best_value:.4f}, was lost: "
                f"its checkpoint is of epoch {facts['epoch']} with {facts['value']:.4f}"
            )
        return Candidate(entry=entry, state=state, facts=facts, warnings=tuple(warnings))
    raise FileNotFoundError(
        f"none of {len(ranked)} trials has a readable `best` checkpoint in {task.trials_uri}: restore that folder and "
        "resume the search"
    )
