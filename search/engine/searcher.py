"""Optuna seen by Tune: proposes configurations, and translates the four outcomes into Optuna's states.

Ray's own `OptunaSearch` tells a stopped trial as complete and leaves a failed one running; this one does neither
(see DESIGN.md, "Four outcomes").
"""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState
from ray.tune.search import Searcher

from search.core.ledger import Book
from search.core.space import Space, configuration_of
from search.engine.scheduler import COMPLETED, FAILED, INTERRUPTED, STOPPED
from trainable.config import TrialConfig

STUDY_NAME = "ctsearch"
STATES = {TrialState.COMPLETE: COMPLETED, TrialState.PRUNED: STOPPED, TrialState.FAIL: FAILED}


def build_sampler(name: str, seed: int) -> optuna.samplers.BaseSampler:
    """`tpe`: multivariate TPE over groups of hyperparameters that occur together; `random`: independent draws."""
    if name == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)


class Record:
    """The study in its journal file: what was tried, epoch by epoch, over all sessions of a search.

    Trials that a dead driver left running wait to be handed out again. The sampler of a resumed search begins from
    its seed plus the number of trials, so that it does not repeat its first draws.
    """

    def __init__(self, journal: Path, *, sampler: str, seed: int, higher_is_better: bool) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.storage = JournalStorage(JournalFileBackend(str(journal)))
        self.study = optuna.create_study(
            study_name=STUDY_NAME,
            storage=self.storage,
            direction="maximize" if higher_is_better else "minimize",
            load_if_exists=True,
        )
        trials = self.trials()
        self.study.sampler = build_sampler(sampler, seed + len(trials))
        for trial in trials:
            if trial.state == TrialState.RUNNING:
                self.put_back(trial.number)

    def begin_with(self, points: Sequence[Mapping[str, Any]]) -> None:
        """Let a new study try these points first; a resumed one has them already."""
        if not self.trials():
            for point in points:
                self.study.enqueue_trial(dict(point))

    def trials(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False)

    def trial(self, number: int) -> FrozenTrial:
        return self.storage.get_trial(self._trial_id(number))

    def put_back(self, number: int) -> None:
        """Let a running trial wait: the next `ask` returns it with its number, parameters and values."""
        self.storage.set_trial_state_values(self._trial_id(number), state=TrialState.WAITING)

    def fill(self, book: Book) -> None:
        """Enter into the book what earlier sessions tried."""
        for trial in self.trials():
            if "params" not in trial.user_attrs:
                continue
            entry = book.open(trial.number, json.loads(trial.user_attrs["params"]), trial.user_attrs.get("run_id"))
            entry.outcome = STATES.get(trial.state, INTERRUPTED)
            for epoch, value in sorted(trial.intermediate_values.items()):
                entry.note(epoch, value)

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

    def _trial_id(self, number: int) -> int:
        study_id = self.storage.get_study_id_from_name(STUDY_NAME)
        return self.storage.get_trial_id_from_study_id_trial_number(study_id, number)


def check_space(space: Space, *, num_draws: int = 3) -> None:
    """Draw a few configurations from a space before anything is trained. Raises ValueError naming what is wrong."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(num_draws):
        trial = study.ask()
        TrialConfig.from_params(configuration_of(space(trial), trial.params))


class OptunaSearcher(Searcher):
    """`begin_trial(number, params, run_id)` hears of every trial before it starts and returns its MLflow run, which
    a resumed trial has already; `outcome_of(number)` is the scheduler's word.

    At most `num_slots` trials are under way, so that a configuration is proposed when it can start, with all that
    is known by then. `num_trials` of None has no end.
    """

    def __init__(
        self,
        record: Record,
        space: Space,
        *,
        num_slots: int,
        num_trials: int | None,
        begin_trial: Callable[[int, dict[str, Any], str | None], str],
        outcome_of: Callable[[int], str | None],
        plans: dict[str, dict[str, str]],
    ) -> None:
        super().__init__(metric="value", mode="max")
        self.record = record
        self.study = record.study
        self.space = space
        self.num_slots = num_slots
        self.num_trials = num_trials
        self.begin_trial = begin_trial
        self.outcome_of = outcome_of
        self.plans = plans
        self.live: dict[str, Trial] = {}
        self.reported: dict[str, set[int]] = {}

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        if len(self.live) >= self.num_slots:
            return None
        if self._is_spent():
            return Searcher.FINISHED
        trial = self.study.ask()
        frozen = self.record.trial(trial.number)
        if "params" in frozen.user_attrs:
            params = json.loads(frozen.user_attrs["params"])
        else:
            params = self._draw(trial)
            trial.set_user_attr("params", json.dumps(params))
        known_run_id = frozen.user_attrs.get("run_id")
        run_id = self.begin_trial(trial.number, params, known_run_id)
        if known_run_id is None:
            trial.set_user_attr("run_id", run_id)
        self.live[trial_id] = trial
        self.reported[trial_id] = set(frozen.intermediate_values)
        return {"number": trial.number, "params": params, "run_id": run_id, "plans": dict(self.plans)}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        self._report(trial_id, result)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        trial = self.live.pop(trial_id, None)
        if trial is None:
            return
        outcome = FAILED if error else self.outcome_of(trial.number)
        if result is not None and "epoch" in result and not error:
            self._report(trial_id, result, trial)
        self.reported.pop(trial_id, None)
        if outcome == COMPLETED and result is not None:
            self.study.tell(trial, result["best_value"])
        elif outcome == STOPPED:
            self.study.tell(trial, state=TrialState.PRUNED)
        elif outcome == FAILED:
            self.study.tell(trial, state=TrialState.FAIL)
        else:
            self.record.put_back(trial.number)

    def put_back_live(self) -> list[int]:
        """The search ended around these trials: they wait for a resumed session. Returns their numbers."""
        numbers = [trial.number for trial in self.live.values()]
        for number in numbers:
            self.record.put_back(number)
        self.live.clear()
        return numbers

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the journal is the record."""

    def restore(self, checkpoint_path: str) -> None:
        raise AssertionError("a search is resumed by a new Tuner.fit, never by Tuner.restore")

    def __reduce__(self) -> tuple[type[object], tuple[()]]:
        return object, ()

    def _is_spent(self) -> bool:
        if self.num_trials is None:
            return False
        waiting = [trial for trial in self.record.trials() if trial.state == TrialState.WAITING]
        num_put_back = sum("params" in trial.user_attrs for trial in waiting)  # the others are first points
        num_begun = len(self.record.trials()) - len(waiting) + num_put_back
        return num_begun >= self.num_trials and not num_put_back

    def _draw(self, trial: Trial) -> dict[str, Any]:
        try:
            return configuration_of(self.space(trial), trial.params)
        except BaseException:
            self.study.tell(trial, state=TrialState.FAIL)
            raise

    def _report(self, trial_id: str, result: dict[str, Any], trial: Trial | None = None) -> None:
        trial = trial or self.live[trial_id]
        reported = self.reported[trial_id]
        if result["epoch"] not in reported:
            reported.add(result["epoch"])
            trial.report(result["value"], step=result["epoch"])
