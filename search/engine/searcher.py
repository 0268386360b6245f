"""The only room that knows Optuna: the study as the record of a search, and Tune's searcher over it.

Ray's own `OptunaSearch` tells a stopped trial as complete and leaves a failed one running; this one does neither
(see DESIGN.md, "Four outcomes").
"""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState
from ray.tune.search import Searcher

from search.core.events import Observer
from search.core.ledger import Ledger, TrialEntry
from search.core.space import Space, configuration_of
from trainable.config import TrialConfig
from trainable.report import Direction, Outcome, TrialReport

STUDY_NAME = "ctsearch"
OUTCOMES = {
    TrialState.COMPLETE: Outcome.COMPLETED,
    TrialState.PRUNED: Outcome.STOPPED,
    TrialState.FAIL: Outcome.FAILED,
}


def build_sampler(name: str, seed: int) -> optuna.samplers.BaseSampler:
    """`tpe`: multivariate TPE over groups of hyperparameters that occur together; `random`: independent draws."""
    if name == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)


class Study(Observer):
    """The study in its journal file: what was tried, epoch by epoch, over all sessions of a search.

    It hears of every event before all other observers. Trials that a dead driver left running wait to be handed out
    again. The sampler of a resumed search begins from its seed plus the number of trials, so that it does not repeat
    its first draws.
    """

    def __init__(self, journal: Path, *, sampler: str, seed: int, direction: Direction) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.storage = JournalStorage(JournalFileBackend(str(journal)))
        self.study = optuna.create_study(
            study_name=STUDY_NAME, storage=self.storage, direction=direction.value, load_if_exists=True
        )
        self.live: dict[int, Trial] = {}  # handed out in this session
        trials = self.trials()
        self.study.sampler = build_sampler(sampler, seed + len(trials))
        for trial in trials:
            if trial.state == TrialState.RUNNING:
                self._put_back(trial.number)

    def begin_with(self, points: Sequence[Mapping[str, Any]]) -> None:
        """Let a new study try these points first; a resumed one has them already."""
        if not self.trials():
            for point in points:
                self.study.enqueue_trial(dict(point))

    def trials(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False)

    def restore(self, ledger: Ledger) -> None:
        """Enter into the ledger what earlier sessions tried."""
        _enter(self.trials(), ledger)

    def ask(self, space: Space) -> tuple[int, dict[str, Any], str | None]:
        """The next trial: its number, its configuration, and its MLflow run if it goes on."""
        trial = self.study.ask()
        known = self.storage.get_trial(self._trial_id(trial.number)).user_attrs
        if "params" in known:
            params = json.loads(known["params"])
        else:
            params = self._draw(trial, space)
            trial.set_user_attr("params", json.dumps(params))
        self.live[trial.number] = trial
        return trial.number, params, known.get("run_id")

    def has_next(self, num_trials: int | None) -> bool:
        """Whether a further trial may begin, or one waits to go on, where `num_trials` may begin in all."""
        if num_trials is None:
            return True
        trials = self.trials()
        waiting = [trial for trial in trials if trial.state == TrialState.WAITING]
        num_put_back = sum("params" in trial.user_attrs for trial in waiting)  # the others are first points
        return len(trials) - len(waiting) + num_put_back < num_trials or num_put_back > 0

    def trial_began(self, entry: TrialEntry) -> None:
        """Nothing: `ask` has begun it. Its run is noted when there is one (`note_run`)."""

    def note_run(self, entry: TrialEntry) -> None:
        """Remember the MLflow run of a trial."""
        if entry.run_id is not None and (trial := self.live.get(entry.number)) is not None:
            trial.set_user_attr("run_id", entry.run_id)

    def epoch_reported(self, entry: TrialEntry, report: TrialReport) -> None:
        if (trial := self.live.get(entry.number)) is not None:
            trial.report(report.value, step=report.epoch)

    def trial_ended(self, entry: TrialEntry) -> None:
        """The four outcomes as Optuna's states: complete, pruned with its values, failed, waiting to go on."""
        trial = self.live.pop(entry.number, None)
        if trial is None:
            return
        if entry.outcome is Outcome.COMPLETED:
            self.study.tell(trial, entry.best_value)
        elif entry.outcome is Outcome.STOPPED:
            self.study.tell(trial, state=TrialState.PRUNED)
        elif entry.outcome is Outcome.FAILED:
            self.study.tell(trial, state=TrialState.FAIL)
        else:
            self._put_back(entry.number)

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

    def _put_back(self, number: int) -> None:
        """Let a running trial wait: the next `ask` returns it with its number, parameters and values."""
        self.storage.set_trial_state_values(self._trial_id(number), state=TrialState.WAITING)

    def _trial_id(self, number: int) -> int:
        study_id = self.storage.get_study_id_from_name(STUDY_NAME)
        return self.storage.get_trial_id_from_study_id_trial_number(study_id, number)


def read_study(journal: Path, ledger: Ledger) -> None:
    """Enter the trials of a study into a ledger, and change nothing: a search may be running on it."""
    if not journal.exists():
        return
    storage = JournalStorage(JournalFileBackend(str(journal)))
    if STUDY_NAME in {study.study_name for study in storage.get_all_studies()}:
        _enter(storage.get_all_trials(storage.get_study_id_from_name(STUDY_NAME)), ledger)


def _enter(trials: Sequence[FrozenTrial], ledger: Ledger) -> None:
    for trial in trials:
        if "params" in trial.user_attrs:
            ledger.restore(
                TrialEntry(
                    number=trial.number,
                    params=json.loads(trial.user_attrs["params"]),
                    run_id=trial.user_attrs.get("run_id"),
                    values=dict(sorted(trial.intermediate_values.items())),
                    outcome=None
                    if trial.state == TrialState.RUNNING
                    else OUTCOMES.get(trial.state, Outcome.INTERRUPTED),
                )
            )


def _outcome_of(trial: FrozenTrial) -> Outcome:
    return OUTCOMES.get(trial.state, Outcome.INTERRUPTED)


def check_space(space: Space, *, num_draws: int = 3) -> None:
    """Draw a few configurations from a space before anything is trained. Raises ValueError naming what is wrong."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(num_draws):
        trial = study.ask()
        TrialConfig.from_params(configuration_of(space(trial), trial.params))


class OptunaSearcher(Searcher):
    """Hands the study's next trial to Tune; all else the study hears from the ledger.

    At most `num_slots` trials are under way, so that a configuration is proposed when it can start, with all that
    is known by then. `num_trials` of None has no end. `step_plans` go to every trial.
    """

    def __init__(
        self, study: Study, space: Space, ledger: Ledger, *, num_slots: int, num_trials: int | None = None
    ) -> None:
        super().__init__()
        self.study = study
        self.space = space
        self.ledger = ledger
        self.num_slots = num_slots
        self.num_trials = num_trials
        self.step_plans: dict[str, dict[str, str]] = {}

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        if len(self.study.live) >= self.num_slots:
            return None
        if not self.study.has_next(self.num_trials):
            return Searcher.FINISHED
        number, params, run_id = self.study.ask(self.space)
        entry = self.ledger.begin(number, params, run_id)
        if run_id is None:
            self.study.note_run(entry)
        return {"number": number, "params": params, "run_id": entry.run_id, "plans": dict(self.step_plans)}

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
