"""With `sampling.py` the only file that knows Optuna: the study as the record of a search, and Tune's searcher over it.

Ray's own `OptunaSearch` tells a stopped trial as complete and leaves a failed one running; this one does neither
(see DESIGN.md, "Four outcomes").
"""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState
from ray.tune.search import Searcher

from search.core.decisions import New, PastTrial, Resume, Rule
from search.core.events import Observer
from search.core.ledger import Ledger, TrialEntry
from search.core.own_space import OwnSpace, check_own_space
from search.core.space import Space, configuration_of
from search.engine.sampling import build_sampler
from trainable.images.faults import show_text
from trainable.records import RecordError
from trainable.report import Direction, Outcome, TrialReport
from trainable.suggest import did_you_mean

STUDY_NAME = "ctsearch"
WISHED = "wished"
"""Marks a point that a person asked for."""
NUM_PROBES, NUM_DRAWN_ALWAYS = 50, 10
OUTCOMES = {
    TrialState.COMPLETE: Outcome.COMPLETED,
    TrialState.PRUNED: Outcome.STOPPED,
    TrialState.FAIL: Outcome.FAILED,
}


@dataclass(frozen=True, kw_only=True)
class Begun:
    """A trial that is handed out: its configuration, the same as it was drawn (the space's own names), and its run."""

    number: int
    params: dict[str, Any]
    drawn: Mapping[str, Any]
    run_id: str | None = None


def is_begun(trial: FrozenTrial) -> bool:
    """Whether a trial has its configuration; the others are first points that wait."""
    return "params" in trial.user_attrs


class Study(Observer):
    """The study in its journal file: what was tried, epoch by epoch, over all sessions of a search.

    It hears of every event before all other observers. `live` are the trials that hold a worker, `paused` those that
    wait to go on: begun in this session, or left by an earlier one, whose driver may have died. The sampler of a
    resumed search begins from its seed plus the number of trials, so that it does not repeat its first draws.
    """

    def __init__(self, journal: Path, *, sampler: str, seed: int, direction: Direction) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        try:
            self.storage = JournalStorage(JournalFileBackend(str(journal)))
            self.study = optuna.create_study(
                study_name=STUDY_NAME, storage=self.storage, direction=direction.value, load_if_exists=True
            )
        except (AssertionError, AttributeError, LookupError, TypeError, ValueError) as error:
            why = f"{type(error).__name__}: {show_text(str(error))}"
            raise RecordError(
                f"{journal} is damaged: what is in it makes no study ({why}); restore it, from --storage if the search "
                "has one, or begin a new search"
            ) from error
        self.live: dict[int, Trial] = {}
        self.paused: dict[int, Trial] = {}
        trials = self.trials()
        waiting = [trial for trial in trials if trial.state == TrialState.WAITING and not is_begun(trial)]
        self.num_wishes = sum(WISHED in trial.user_attrs for trial in waiting)  # asked for by a person
        self.study.sampler = build_sampler(sampler, seed + len(trials), self.paused)
        for trial in trials:
            if is_begun(trial) and trial.state == TrialState.WAITING:
                self.storage.set_trial_state_values(trial._trial_id, state=TrialState.RUNNING)
            if is_begun(trial) and not trial.state.is_finished():
                self.paused[trial.number] = Trial(self.study, trial._trial_id)
            elif trial.state == TrialState.RUNNING:  # its driver died before it had a configuration
                self.storage.set_trial_state_values(trial._trial_id, state=TrialState.FAIL)

    def begin_with(self, points: Sequence[Mapping[str, Any]]) -> None:
        """Let a new study try these points first; a resumed one has them already."""
        if not self.trials():
            for point in points:
                self.study.enqueue_trial(dict(point))

    def trials(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False)

    def restore(self, ledger: Ledger) -> None:
        """Enter into the ledger what earlier sessions tried."""
        _enter(self.trials(), ledger, running=Outcome.INTERRUPTED)

    def history(self) -> list[PastTrial]:
        """The same for the rule: parameters in the space's own names."""
        return [
            PastTrial(
                number=trial.number,
                params=trial.params,
                values=trial.intermediate_values,
                outcome=OUTCOMES.get(trial.state, Outcome.INTERRUPTED),
            )
            for trial in self.trials()
            if is_begun(trial)
        ]

    def begin(self, space: Space, proposed: Mapping[str, Any] | None = None) -> Begun:
        """A new trial: the next of the first points, else what was proposed, else what the sampler draws."""
        if proposed is not None and not any(trial.state == TrialState.WAITING for trial in self.trials()):
            self.study.enqueue_trial(dict(proposed))
        trial = self.study.ask()
        self.num_wishes -= bool(trial.user_attrs.get(WISHED))
        params = self._draw(trial, space)
        trial.set_user_attr("params", json.dumps(params))
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

    def trial_paused(self, entry: TrialEntry) -> None:
        self.paused[entry.number] = self.live.pop(entry.number)

    def trial_ended(self, entry: TrialEntry) -> None:
        """The four outcomes as Optuna's states: complete, pruned with its values, failed, waiting to go on."""
        self.note_run(entry)
        trial = self.live.pop(entry.number, None) or self.paused.pop(entry.number, None)
        if trial is None:
            return
        if entry.outcome is Outcome.COMPLETED:
            self.study.tell(trial, entry.best_value)
        elif entry.outcome is Outcome.STOPPED:
            self.study.tell(trial, state=TrialState.PRUNED)
        elif entry.outcome is Outcome.FAILED:
            self.study.tell(trial, state=TrialState.FAIL)
        else:
            self.storage.set_trial_state_values(trial._trial_id, state=TrialState.WAITING)

    def importances(self) -> dict[str, float]:
        """Each hyperparameter's share in the spread of the results, where enough trials completed to tell.

        PED-ANOVA (optuna.importance) over the hyperparameters that all completed trials share, or that at least two of
        them have and two have not: fewer tell nothing.
        """
        completed = [trial for trial in self.trials() if trial.state == TrialState.COMPLETE]
        if len(completed) < 4 or len({trial.value for trial in completed}) < 2:
            return {}
        num_with = Counter(name for trial in completed for name in trial.params)
        told = [name for name, num in num_with.items() if num == len(completed) or 2 <= num <= len(completed) - 2]
        try:
            return dict(optuna.importance.get_param_importances(self.study, params=told))
        except (ValueError, RuntimeError):
            return {}

    def _draw(self, trial: Trial, space: Space) -> dict[str, Any]:
        try:
            return configuration_of(space(trial), trial.params)
        except BaseException:
            self.study.tell(trial, state=TrialState.FAIL)
            raise


def read_study(journal: Path, ledger: Ledger) -> None:
    """Enter the trials of a study into a ledger, and change nothing: a search may be running on it."""
    if not journal.exists():
        return
    storage = JournalStorage(JournalFileBackend(str(journal)))
    if STUDY_NAME in {study.study_name for study in storage.get_all_studies()}:
        _enter(storage.get_all_trials(storage.get_study_id_from_name(STUDY_NAME)), ledger, running=None)


def _enter(trials: Sequence[FrozenTrial], ledger: Ledger, *, running: Outcome | None) -> None:
    for trial in filter(is_begun, trials):
        is_running = trial.state == TrialState.RUNNING
        ledger.restore(
            TrialEntry(
                number=trial.number,
                params=json.loads(trial.user_attrs["params"]),
                run_id=trial.user_attrs.get("run_id"),
                values=dict(sorted(trial.intermediate_values.items())),
                outcome=running if is_running else OUTCOMES.get(trial.state, Outcome.INTERRUPTED),
            )
        )


def fit_wish(space: Space, params: Mapping[str, Any]) -> dict[str, Any]:
    """What must be enqueued for a trial to take `params`: them in the space's own names, and where these are drawn on
    a condition only, choices under which they are. Raises ValueError for what the space never draws.
    """
    probe = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    seen: dict[str, Any] = {}
    fitting: list[dict[str, Any]] = []
    for i in range(NUM_PROBES):
        wished = dict(params)
        for _ in range(2):  # the second time by the space's own names, such as learning_rate_sgd
            probe.enqueue_trial(wished)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                trial = probe.ask()
                try:
                    configuration = configuration_of(space(trial), trial.params)
                except ValueError as error:
                    told = ", ".join(f"{name}={value!r}" for name, value in wished.items())
                    raise ValueError(f"{told} is not in the space of this search: {error}") from error
            drawn, limits = trial.params, trial.distributions
            seen |= limits
            for name in [name for name in wished if name not in drawn and name in configuration]:
                if configuration[name] == wished[name]:
                    del wished[name]  # fixed in this space, to just that
                elif others := [other for other in drawn if other.startswith(f"{name}_")]:
                    wished[others[0]] = wished.pop(name)
        for name in wished.keys() & drawn.keys():
            if drawn[name] != wished[name] or not limits[name]._contains(limits[name].to_internal_repr(wished[name])):
                raise ValueError(f"{name} is {wished[name]!r}; this search draws it from {limits[name]}")
        if wished.keys() <= drawn.keys():
            chosen = {name: drawn[name] for name, kind in limits.items() if isinstance(kind, CategoricalDistribution)}
            fitting.append({**chosen, **wished})
        if fitting and i >= NUM_DRAWN_ALWAYS - 1:
            return {name: fitting[0][name] for name in fitting[0] if name in wished or len(fitting) <= i}
    never = next(name for name in wished if name not in drawn)
    raise ValueError(f"{never} is not drawn here{did_you_mean(never, seen)}; drawn are {', '.join(sorted(seen))}")


def check_space(space: OwnSpace) -> int:
    """Draw from a user's own space, along every branch, before anything is trained; how many draws it took.

    Raises ValueError, with file and line, for the first configuration that no trial could be trained with.
    """
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))

    def ask(point: Mapping[str, Any]) -> Trial:
        study.enqueue_trial(dict(point))
        return study.ask()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of values that one branch has drawn from another range
        return check_own_space(space, ask)


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
        """Nothing: the study hears of it from the ledger."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the journal is the record."""

    def restore(self, checkpoint_path: str) -> None:
        raise AssertionError("a search is resumed by a new Tuner.fit, never by Tuner.restore")

    def __reduce__(self) -> tuple[type[object], tuple[()]]:
        return object, ()
