"""What happens in the driver at every event of Tune: the book, the budget, MLflow, checkpoints and the terminal."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray import tune

from search.core.budget import Budget
from search.core.folder import SearchHome
from search.core.ledger import Book, TrialEntry
from search.engine.scheduler import FAILED, INTERRUPTED, Scheduler
from search.observers.progress import Board
from search.observers.timings import Pace
from trainable.recipes import name_recipe

if TYPE_CHECKING:
    from ray.tune.experiment import Trial as TuneTrial

    from search.observers.tracking import Tracking

NUM_KEPT_BEST = 5
NUM_FAILURES_TO_END = 5
_log = logging.getLogger(__name__)


class Listener(tune.Callback):
    """Translates Tune's events; it decides nothing.

    `trial_tags` go to every trial's run, `copy_records` keeps the search's records beside its checkpoints,
    `delete_checkpoint(number, kind)` frees a trial's files, `read_best(number)` gives the facts of its best checkpoint.
    The five best trials that have ended keep their best checkpoints while these take no more than `kept_bytes`, the
    very best one always.
    """

    def __init__(
        self,
        *,
        home: SearchHome,
        book: Book,
        budget: Budget,
        scheduler: Scheduler,
        tracking: Tracking,
        board: Board,
        pace: Pace,
        plans: dict[str, dict[str, str]],
        trial_tags: Mapping[str, str],
        delete_checkpoint: Callable[[int, str], None],
        read_best: Callable[[int], Mapping[str, Any] | None],
        kept_bytes: float = math.inf,
        shows_timings: bool = False,
        copy_records: Callable[[], None] = lambda: None,
    ) -> None:
        self.home = home
        self.book = book
        self.budget = budget
        self.scheduler = scheduler
        self.tracking = tracking
        self.board = board
        self.pace = pace
        self.plans = plans
        self.trial_tags = trial_tags
        self.delete_checkpoint = delete_checkpoint
        self.read_best = read_best
        self.kept_bytes = kept_bytes
        self.shows_timings = shows_timings
        self.copy_records = copy_records
        self.tracebacks: dict[int, str] = {}
        self.kept_best = {entry.number for entry in book.ranked()}
        self.unneeded_best: set[int] = set()
        self.at_work: dict[tuple[str, int], int] = {}

    def begin(self, number: int, params: Mapping[str, Any], run_id: str | None) -> str:
        """A trial is about to start, or to go on under `run_id`. Returns its MLflow run."""
        if run_id is None:
            recipe = name_recipe(params)
            tags = {**self.trial_tags, **({"recipe": recipe} if recipe else {})}
            run_id = self.tracking.open_trial(number, params, tags)
        else:
            self.tracking.adopt_trial(number, run_id)
        self.book.open(number, params, run_id)
        return run_id

    def on_trial_result(
        self,
        iteration: int,
        trials: Sequence[TuneTrial],
        trial: TuneTrial,
        result: dict[str, Any],
        **info: Any,
    ) -> None:
        number = trial.config["number"]
        self.at_work[result["hostname"], result["pid"]] = number
        self._delete_unneeded()
        self.budget.charge(result["time_this_iter_s"])
        if "error" in result:
            self.book.entries[number].error = result["error"]
            self.tracebacks[number] = result["traceback"]
            return
        if self.pace.note(number, result) and self.shows_timings:
            self.board.say(self.pace.lines())
        self.book.note(number, result["epoch"], result["value"])
        self.tracking.hear(number, result["epoch"], result["timestamp_ms"], result["metrics"])
        plan = result["plan"]
        entry = self.book.entries[number]
        entry.best_bytes = result["checkpoint_bytes"].get("best", 0)
        entry.tags = {
            "node": result["hostname"],
            "device": result["device"],
            "precision": plan["precision"],
            "memory_format": plan["memory_format"],
            **result["memory_tags"],
        }
        if result["plan_key"] not in self.plans:
            self.plans[result["plan_key"]] = plan
            self.home.update_record(plans=self.plans)

    def on_trial_complete(self, iteration: int, trials: Sequence[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        number, last = trial.config["number"], trial.last_result
        self.pace.end(number, last.get("hostname", ""), last.get("ended_at_s", time.time()))
        self.end(self.book.entries[number], self.scheduler.outcomes.get(number, INTERRUPTED))

    def on_trial_recover(self, iteration: int, trials: Sequence[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        self.board.say([f"trial {trial.config['number']:3d} lost its worker and goes on from its newest checkpoint"])

    def on_trial_error(self, iteration: int, trials: Sequence[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        entry = self.book.entries[trial.config["number"]]
        entry.error = f"its worker died again and again, last: {last_line(trial.error_file)}"
        self.end(entry, FAILED)

    def on_step_end(self, iteration: int, trials: Sequence[TuneTrial], **info: Any) -> None:
        self.board.tick()

    def end(self, entry: TrialEntry, outcome: str) -> None:
        """Write a trial's outcome everywhere, and free the checkpoints that nobody needs any more."""
        if outcome in (INTERRUPTED, FAILED):
            self._hear_last(entry)
        entry.outcome = outcome
        tags = entry.tags | {"rung": str(self.scheduler.rungs.rung_of(entry.number))}
        error = self.tracebacks.pop(entry.number, entry.error)
        self.tracking.close_trial(entry.number, outcome, tags=tags, error=error)
        self.board.note_end(entry)
        num_failed = self.book.counts()[FAILED]
        if num_failed >= NUM_FAILURES_TO_END and not self.book.ranked():
            self.budget.stop_reason = f"the first {num_failed} trials all failed"
        self.kept_best.add(entry.number)
        self.copy_records()
        self._free_checkpoints()

    def sweep(self) -> None:
        """At the end of a session: workers deleted the `newest` of trials that others followed; here go the rest."""
        self.at_work.clear()
        self._delete_unneeded()
        for entry in self.book.entries.values():
            if entry.outcome not in (None, INTERRUPTED):
                self.delete_checkpoint(entry.number, "newest")

    def __reduce__(self) -> tuple[type[object], tuple[()]]:
        return object, ()

    def _hear_last(self, entry: TrialEntry) -> None:
        """A worker ends its epoch while the search ends around it, or dies before it has told: it may be the best."""
        try:
            facts = self.read_best(entry.number)
        except OSError as error:  # the outcome is written all the same
            _log.warning("trial %d: its last checkpoint cannot be read: %s", entry.number, error)
            return
        if facts is not None and facts["epoch"] > entry.num_epochs:
            self.book.note(entry.number, facts["epoch"], facts["value"])
            self.tracking.hear(entry.number, facts["epoch"], int(time.time() * 1000), facts["metrics"])

    def _free_checkpoints(self) -> None:
        """Of the trials that have ended only the best few keep their best checkpoint, as far as the room goes."""
        best: set[int] = set()
        held_bytes = 0
        for ranked in self.book.ranked()[:NUM_KEPT_BEST]:
            held_bytes += ranked.best_bytes
            if not best or held_bytes <= self.kept_bytes:
                best.add(ranked.number)
        going_on = self.book.interrupted()
        self.unneeded_best |= self.kept_best - best - going_on
        self.kept_best -= self.unneeded_best
        self._delete_unneeded()

    def _delete_unneeded(self) -> None:
        """A worker may still be writing for its last trial: what that leaves goes when the next one reports there."""
        for number in self.unneeded_best - set(self.at_work.values()):
            self.delete_checkpoint(number, "best")
            self.unneeded_best.discard(number)


def last_line(error_file: str | None) -> str:
    """The last line of a worker's traceback: what was raised, in its own words."""
    text = Path(error_file).read_text() if error_file and Path(error_file).exists() else ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "ended without a word"
