"""The study: what was tried, epoch by epoch, in Optuna's journal file; what only reads one is in `study_file.py`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.trial import FrozenTrial, Trial, TrialState

from search.core.decisions import PastTrial
from search.core.events import Observer
from search.core.ledger import Ledger, TrialEntry
from search.core.space import Space, configuration_of
from search.engine.draft import Draft
from search.engine.sampling import WARM, build_sampler
from search.engine.space_probe import fit_wish
from search.engine.study_file import (
    COSTS,
    EPOCHS,
    STUDY_NAME,
    WholeLines,
    enter_trials,
    find_importances,
    is_begun,
    naming_journal,
    note_epochs,
    read_history,
)
from trainable.report import Direction, Outcome, TrialReport

WISHED = "wished"
"""Marks a point that a person asked for."""


@dataclass(frozen=True, kw_only=True)
class Begun:
    """A trial that is handed out: its configuration, the same as it was drawn (the space's own names), and its run."""

    number: int
    params: dict[str, Any]
    drawn: Mapping[str, Any]
    run_id: str | None = None


class Study(Observer):
    """The study in its journal file: what was tried, epoch by epoch, over all sessions of a search.

    It is called at every event before all other observers. `live` are the trials that hold a worker, `paused` those
    that wait to go on: begun in this session, or left by an earlier one, whose driver may have died. The sampler of a
    resumed search begins from its seed plus the number of trials, so that it does not repeat its first draws.
    """

    def __init__(self, journal: Path, *, sampler: str, seed: int, direction: Direction) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        with naming_journal(journal):
            self.storage = JournalStorage(WholeLines(journal))
            self.study = optuna.create_study(
                study_name=STUDY_NAME, storage=self.storage, direction=direction.value, load_if_exists=True
            )
        self.live: dict[int, Trial] = {}
        self.paused: dict[int, Trial] = {}
        trials = self.trials()
        waiting = [trial for trial in trials if not trial.state.is_finished() and not is_begun(trial)]
        self.num_wishes = sum(WISHED in trial.user_attrs for trial in waiting)  # asked for by a person
        self.study.sampler = build_sampler(sampler, seed + len(trials), self.paused)
        for trial in trials:
            if is_begun(trial) and trial.state == TrialState.WAITING:
                self.storage.set_trial_state_values(trial._trial_id, state=TrialState.RUNNING)
            if is_begun(trial) and not trial.state.is_finished():
                self.paused[trial.number] = Trial(self.study, trial._trial_id)
            elif trial.state == TrialState.RUNNING:  # its driver died before it had a configuration: it is the next
                self.storage.set_trial_state_values(trial._trial_id, state=TrialState.WAITING)

    def begin_with(self, points: Sequence[Mapping[str, Any]], *, num_warm: int = 0) -> None:
        """Let a new study try these points first; a resumed one has them already. The first `num_warm` are known from
        earlier searches."""
        if not self.trials():
            for place, point in enumerate(points):
                self.study.enqueue_trial(dict(point), user_attrs={WARM: True} if place < num_warm else None)

    def trials(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False)

    def restore(self, ledger: Ledger) -> None:
        """Enter into the ledger what earlier sessions tried."""
        enter_trials(self.trials(), ledger, running=Outcome.INTERRUPTED)

    def history(self) -> list[PastTrial]:
        """The same for the rule: parameters in the space's own names."""
        return read_history(self.trials())

    def begin(self, space: Space, proposed: Mapping[str, Any] | None = None) -> Begun:
        """A new trial: the next of the first points, else what was proposed, else what the sampler draws."""
        trials = self.trials()
        is_waited_for = any(trial.state is TrialState.WAITING for trial in trials)
        if proposed is not None and not is_waited_for:
            self.study.enqueue_trial(dict(proposed))
        elif not is_waited_for:
            return self._begin_drawn(Draft(self.study, trials), space)
        trial = self.study.ask()
        self.num_wishes -= bool(trial.user_attrs.get(WISHED))
        try:
            params = configuration_of(space(trial), trial.params)
        except BaseException:
            self.study.tell(trial, state=TrialState.FAIL)
            raise
        trial.set_user_attr("params", json.dumps(params))
        return self._begin(trial, params)

    def _begin_drawn(self, draft: Draft, space: Space) -> Begun:
        try:
            params = configuration_of(space(draft.trial), draft.trial.params)
        except BaseException:
            draft.fail()
            raise
        return self._begin(draft.enter(params=json.dumps(params)), params)

    def _begin(self, trial: Trial, params: dict[str, Any]) -> Begun:
        self.live[trial.number] = trial
        return Begun(number=trial.number, params=params, drawn=trial.params)

    def wish(self, space: Space, params: Mapping[str, Any]) -> dict[str, Any]:
        """Let a new trial soon take these `params`, in the space's own names or the configuration's; the others are
        drawn. Gives them as they are enqueued. Raises ValueError, naming it, for one that the space cannot draw.
        """
        wished = fit_wish(space, params)
        self.study.enqueue_trial(wished, user_attrs={WISHED: True})
        self.num_wishes += 1
        return wished

    def resume(self, number: int) -> Begun:
        """A paused trial holds a worker again."""
        trial = self.live[number] = self.paused.pop(number)
        if (noted := trial.user_attrs.get(EPOCHS)) is not None:
            trial.set_user_attr(EPOCHS, {**noted, "is_paused": False})
        known = trial.user_attrs
        return Begun(number=number, params=json.loads(known["params"]), drawn=trial.params, run_id=known.get("run_id"))

    def may_begin(self, num_trials: int | None) -> bool:
        """Whether a new trial may begin, where `num_trials` may begin in all; None has no end."""
        return num_trials is None or sum(map(is_begun, self.trials())) < num_trials

    def note_run(self, entry: TrialEntry) -> None:
        """Remember the MLflow run of a trial, as soon as it is known."""
        trial = self.live.get(entry.number)
        if trial is not None and entry.run_id is not None and "run_id" not in trial.user_attrs:
            trial.set_user_attr("run_id", entry.run_id)

    def epoch_reported(self, entry: TrialEntry, report: TrialReport) -> None:
        if (trial := self.live.get(entry.number)) is not None:
            trial.report(report.value, step=report.epoch)
            if report.costs and COSTS not in trial.user_attrs:
                trial.set_user_attr(COSTS, dict(report.costs))

    def trial_paused(self, entry: TrialEntry) -> None:
        trial = self.paused[entry.number] = self.live.pop(entry.number)
        trial.set_user_attr(EPOCHS, note_epochs(entry, trial.user_attrs.get(EPOCHS, {}), is_paused=True))

    def trial_ended(self, entry: TrialEntry) -> None:
        """The four outcomes as Optuna's states: complete, pruned with its values, failed, waiting to go on."""
        self.note_run(entry)
        trial = self.live.pop(entry.number, None) or self.paused.pop(entry.number, None)
        if trial is None:
            return
        if entry.reports:
            trial.set_user_attr(EPOCHS, note_epochs(entry, trial.user_attrs.get(EPOCHS, {}), is_paused=False))
        if entry.outcome is Outcome.COMPLETED:
            self.study.tell(trial, entry.best_value)
        elif entry.outcome is Outcome.STOPPED:
            self.study.tell(trial, state=TrialState.PRUNED)
        elif entry.outcome is Outcome.FAILED:
            self.study.tell(trial, state=TrialState.FAIL)
        else:
            self.storage.set_trial_state_values(trial._trial_id, state=TrialState.WAITING)

    def importances(self) -> dict[str, float]:
        """Each hyperparameter's share in what separates the best trials from the others, where there are enough."""
        return find_importances(self.study)
