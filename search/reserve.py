"""What a search keeps of its budget for its confirmation: which one it affords, as far as is known by now."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from search.core.budget import Budget, Kept
from search.core.confirmation import MARGIN, SHARE, SHARE_OF_TRAINED, Confirmation, Pace, choose_confirmation
from search.core.events import Observer
from search.core.finalists import find_flattery, find_last_rung, find_trusted, rank_finalists
from search.core.ledger import TrialEntry
from trainable.folds import count_folds
from trainable.report import TrialReport

if TYPE_CHECKING:
    from search.session import Session

LOOK_S = 1.0
MOST_MEMBERS = 5


class Reserve(Observer):
    """Keeps of a search's budget what its confirmation will cost, as far as is known by now."""

    def __init__(self, budget: Budget, choose: Callable[[], Confirmation | None]) -> None:
        self.budget = budget
        self.choose = choose
        self.next_look_s = 0.0
        budget.reckon = self.reckon

    def epoch_reported(self, entry: TrialEntry, report: TrialReport) -> None:
        if self.budget.is_limited and time.monotonic() >= self.next_look_s:
            self.next_look_s = time.monotonic() + LOOK_S
            self.budget.kept = self.reckon()

    def reckon(self) -> Kept:
        """What is to be kept by what the trials have shown by now."""
        found = self.choose()
        if found is None:
            return Kept()
        device_s = MARGIN * found.device_s * self.budget.devices_per_trial
        return Kept(MARGIN * found.cost_s, device_s, len(found.members), found)


def find_pace(session: Session) -> Pace:
    """What the cost of a confirmation follows from."""
    data = session.plan.data.training
    return Pace(
        max_epochs=session.plan.settings.max_epochs,
        num_slots=session.plan.cluster.num_slots,
        num_train=int((~data.is_val).sum()),
        num_slices=len(data.labels),
        most_folds=count_folds(data.labels, data.groups),
        image_size=data.image_size,
        final_size=session.plan.config.final_size,
    )


def choose(session: Session, pace: Pace, left_s: float = math.inf, kept_s: float = 0.0) -> Confirmation | None:
    """What the search affords as it stands, with `left_s` seconds to go; None without a budget that is large enough.

    Where `kept_s` seconds have been kept for it, it may take them, though it takes longer than it seemed to.
    """
    config, budget = session.plan.config, session.budget
    ranked = rank(session)
    trained_s = budget.device_s / budget.devices_per_trial / pace.num_slots
    allowed = [SHARE_OF_TRAINED * trained_s]
    if config.time_budget_s is not None:
        allowed = [SHARE * config.time_budget_s]
    if config.device_hours is not None:
        allowed.append(SHARE * config.device_hours * 3600 / (budget.devices_per_trial * pace.num_slots))
    return choose_confirmation(
        ranked,
        pace,
        num_folds=config.confirm,
        num_members=config.ensemble if config.ensemble > 1 else MOST_MEMBERS,
        allowed_s=min(max(min(allowed), kept_s), left_s),
        trusted=find_trusted(ranked, session.plan.baselines, session.ledger.direction),
    )


def settle(session: Session) -> Confirmation | None:
    """The confirmation that follows once the trials have ended; from here on nothing is kept for it.

    Where the end of a trial has made another one the best, which is too dear, it is the one for which the search ended.
    """
    pace = find_pace(session)
    kept, session.budget.kept = session.budget.kept, Kept()
    left_s = session.budget.left(pace.num_slots).seconds
    found, expected = choose(session, pace, left_s, kept.seconds), kept.confirmation
    return expected if found is None and expected is not None and expected.cost_s <= left_s else found


def rank(session: Session) -> list[TrialEntry]:
    """The finalists, best first; before there is any, all trials that have a value.

    Who is running and nearly done is one of them: no search ends for a confirmation that this trial's end makes void.
    """
    max_epochs = session.plan.settings.max_epochs
    last_rung = find_last_rung(session.levels, max_epochs) or max_epochs
    return rank_finalists(session.ledger, last_rung, will_complete=True) or session.ledger.ranked()


def explain(session: Session, confirmation: Confirmation) -> str:
    """Why the best finalist is not confirmed; "" where it is."""
    ranked = rank(session)
    best = ranked[0]
    if best.number in confirmation.members:
        return ""
    flattery, score = find_flattery(ranked), session.ledger.direction.score
    members = [score(entry.best_value) for entry in ranked if entry.number in confirmation.members]
    if flattery and score(best.best_value) - max(members, default=-math.inf) > flattery:
        return f"trial {best.number}, {best.best_value:.4f}, has become the best since, and would take too much"
    by = f", {flattery:.4f}" if flattery else ""  # a resumed search knows no standard error
    return (
        f"trial {best.number}, {best.best_value:.4f}, is not ahead by more than the best of {len(ranked)} flatters "
        f"itself by chance{by}"
    )


def wants(session: Session) -> bool:
    """Whether there may be a confirmation: of one trial alone, without a search, or where one model is asked for, it
    has to be asked for."""
    config = session.plan.config
    is_asked = config.confirm is not None or config.final_size is not None
    return not session.runtime.is_local and config.confirm != 0 and (config.ensemble > 1 or is_asked)


def reserve(session: Session) -> Reserve | None:
    """The observer that keeps budget for a confirmation; None where there will be none."""
    if not wants(session):
        return None
    return Reserve(session.budget, partial(choose, session, find_pace(session)))
