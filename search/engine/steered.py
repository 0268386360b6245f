"""Steered: Tune's callback that carries out what is asked of a running search (search/core/steering.py)."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray import tune

from search.core.budget import Budget
from search.core.steering import Answer, Request, answer, clear, read_requests
from search.core.stop import StopReason
from trainable.suggest import did_you_mean

if TYPE_CHECKING:
    from ray.tune.experiment import Trial as TuneTrial

    from search.engine.searcher import OptunaSearcher

LOOK_S = 1.0
_log = logging.getLogger(__name__)
BUDGETS = ("num_trials", "time_budget_s", "device_hours")
SHORT = {"lr": "learning_rate", "arch": "architecture"}


class Steered(tune.Callback):
    """Looks into `folder` about every second. `note(budgets)` writes a larger budget into the search's record.

    A request that cannot be is answered so, and changes nothing.
    """

    def __init__(
        self,
        folder: Path,
        searcher: OptunaSearcher,
        *,
        budget: Budget,
        note: Callable[[Mapping[str, Any]], object],
        say: Callable[[list[str]], object],
    ) -> None:
        self.folder = folder
        self.searcher = searcher
        self.budget = budget
        self.note = note
        self.say = say
        self.next_look_s = 0.0
        clear(folder)

    def on_step_end(self, iteration: int, trials: Sequence[TuneTrial], **info: Any) -> None:
        if time.monotonic() < self.next_look_s:
            return
        self.next_look_s = time.monotonic() + LOOK_S
        try:
            for request in read_requests(self.folder):
                self._answer(request)
        except OSError as error:  # a folder that is away must not end the search
            _log.warning("what the search is asked for in %s cannot be read or answered: %s", self.folder, error)

    def _answer(self, request: Request) -> None:
        try:
            given = Answer(done=True, text=self._carry_out(request))
            self.say([f"asked to {request.verb}: {given.text}"])
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            given = Answer(done=False, text=str(error))
        answer(request.file, given)

    def _carry_out(self, request: Request) -> str:
        content = request.content
        if request.verb == "stop":
            if not self.budget.stop.ask(StopReason.REQUESTED):
                return f"the search ends already: {self.budget.stop}"
            return "the search ends now, with its champion"
        if request.verb == "stop-trial":
            return self._stop_trial(int(content["trial"]))
        if request.verb == "try":
            return self._try(content["params"])
        if request.verb == "extend":
            return self._extend(content["budget"])
        raise ValueError(f"unknown request {request.verb!r}")

    def _stop_trial(self, number: int) -> str:
        entry = self.searcher.ledger.entries.get(number)
        if entry is None:
            raise ValueError(f"there is no trial {number}; the last is {max(self.searcher.ledger.entries, default=-1)}")
        if entry.outcome is not None:
            raise ValueError(f"trial {number} has ended already: {entry.outcome}")
        self.searcher.to_stop.add(number)
        when = "now" if entry.is_paused else "after the epoch that it is in"
        return f"trial {number} ends {when}; its best epoch stays"

    def _try(self, given: Mapping[str, Any]) -> str:
        params = {SHORT.get(name, name): value for name, value in given.items()}
        if twice := [name for short, name in SHORT.items() if short in given and name in given]:
            raise ValueError(f"{twice[0]} is given twice; give it once")
        wished = self.searcher.study.wish(self.searcher.space, params)
        if self.searcher.num_trials is not None:
            self._enlarge({"num_trials": self.searcher.num_trials + 1})
        shown = ", ".join(f"{name}={value}" for name, value in wished.items())
        return f"{shown} is the next trial that begins"

    def _extend(self, given: Mapping[str, float]) -> str:
        now = {
            "num_trials": self.searcher.num_trials,
            "time_budget_s": self.budget.time_budget_s,
            "device_hours": self.budget.device_hours,
        }
        for name, value in given.items():
            if name not in now:
                raise ValueError(f"unknown budget {name!r}{did_you_mean(name, BUDGETS)}")
            if (before := now[name]) is None:
                limits = ", ".join(other for other, limit in now.items() if limit is not None) or "nothing"
                raise ValueError(f"{name} is {value:g}, which would be a new limit; the search is limited by {limits}")
            if not (math.isfinite(value) and value > before):
                raise ValueError(f"{name} is {value:g}; the search has {before:g} already: give more, in all")
        self._enlarge(given)
        return "the search may spend " + ", ".join(f"{name}={value:g}" for name, value in given.items()) + ", in all"

    def _enlarge(self, given: Mapping[str, float]) -> None:
        self.note(given)  # first: what cannot be written down changes nothing
        if "num_trials" in given:
            self.searcher.num_trials = int(given["num_trials"])
        self.budget.time_budget_s = given.get("time_budget_s", self.budget.time_budget_s)
        self.budget.device_hours = given.get("device_hours", self.budget.device_hours)

    def __reduce__(self) -> tuple[type[object], tuple[()]]:
        return object, ()
