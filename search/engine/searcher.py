"""Tune's searcher over the study: it hands out trials as the rule decides.

Ray's own `OptunaSearch` reports a stopped trial as complete and leaves a failed one running; this one does neither
(see DESIGN.md, "Four outcomes").
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ray.tune.search import Searcher

from search.core.decisions import New, Resume, Rule
from search.core.ledger import Ledger
from search.core.space import Space
from search.engine.study import Study


class OptunaSearcher(Searcher):
    """Hands trials to Tune as the rule decides: a new one, or one of an earlier session that goes on.

    At most `num_slots` trials hold a worker, so that a decision is made when it can be carried out, with all that is
    known by then. `num_trials` may begin in all; None has no end. `step_plans` go to every trial. A trial that was
    paused in this session is known to Tune: its number is put into `to_resume`, for the scheduler. `exhausted` is
    called when nothing runs and nothing is left to do, be it that paused trials wait for ever.
    """

    def __init__(
        self, study: Study, space: Space, ledger: Ledger, rule: Rule, *, num_slots: int, num_trials: int | None = None
    ) -> None:
        super().__init__()
        self.study = study
        self.space = space
        self.ledger = ledger
        self.rule = rule
        self.num_slots = num_slots
        self.num_trials = num_trials
        self.step_plans: dict[str, dict[str, str]] = {}
        self.exhausted: Callable[[], object] = lambda: None
        self.to_resume: set[int] = set()
        self.to_stop: set[int] = set()  # trials that a person wants ended
        self.decided: list[New | Resume] = []
        self._known: set[int] = set()

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        return True

    def decide(self) -> New | Resume | None:
        """What a free worker does next; what a person asked for comes first."""
        if self.study.num_wishes:
            return New(None, 0)
        return self.rule.next(may_begin=self.study.may_begin(self.num_trials))

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        if len(self.study.live) >= self.num_slots:
            return None
        decision = self.decided.pop(0) if self.decided else self.decide()
        if isinstance(decision, Resume) and decision.number not in self.study.paused:
            return None  # a person has ended it meanwhile
        if decision is None:
            if self.study.live:
                return None
            self.exhausted()
            return Searcher.FINISHED
        if isinstance(decision, Resume):
            begun = self.study.resume(decision.number)
            if begun.number in self._known:
                self.to_resume.add(begun.number)
                self.ledger.resume(begun.number)
                return None
        else:
            begun = self.study.begin(self.space, decision.params)
            self.rule.begin(begun.number, begun.drawn)
        entry = self.ledger.begin(begun.number, begun.params, begun.run_id)
        self.study.note_run(entry)
        self._known.add(begun.number)
        return {"number": begun.number, "params": begun.params, "run_id": entry.run_id, "plans": dict(self.step_plans)}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Nothing: the ledger has it already."""

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Nothing: the study gets it from the ledger."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the journal is the record."""

    def restore(self, checkpoint_path: str) -> None:
        raise AssertionError("a search is resumed by a new Tuner.fit, never by Tuner.restore")

    def __reduce__(self) -> tuple[type[object], tuple[()]]:
        return object, ()
