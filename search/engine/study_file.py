"""A study read from its journal, with Ray nowhere near and nothing changed: a search may be running on it."""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from search.core.decisions import PastTrial
from search.core.ledger import Ledger, TrialEntry
from search.core.past import Scale
from trainable.files import check_regular_file
from trainable.images.faults import show_text
from trainable.records import ADVICE, RecordError
from trainable.report import Outcome
from trainable.smoothing import find_best

STUDY_NAME = "ctsearch"
EPOCHS = "epochs"
"""The attribute of a trial that has what Optuna has no place for: seconds and standard error of each epoch."""
COSTS = "costs"
"""The attribute of a trial that has what its model costs, where the search weighs that."""
OUTCOMES = {
    TrialState.COMPLETE: Outcome.COMPLETED,
    TrialState.PRUNED: Outcome.STOPPED,
    TrialState.FAIL: Outcome.FAILED,
}


class WholeLines(JournalFileBackend):
    """A journal to which entries are appended whole, or not at all: a full disk takes half a line, and what came after
    that could never be read."""

    def __init__(self, journal: Path) -> None:
        super().__init__(str(journal))
        self.journal = journal

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Raises OSError; then the journal is as it was. One process writes a journal."""
        size = self.journal.stat().st_size
        try:
            super().append_logs(logs)
        except OSError:
            os.truncate(self.journal, size)
            raise


@contextmanager
def naming_journal(journal: Path) -> Iterator[None]:
    """Whatever a damaged journal makes of reading it is a RecordError that names it."""
    try:
        yield
    except (AssertionError, AttributeError, LookupError, TypeError, ValueError, RecursionError) as error:
        why = f"{type(error).__name__}: {show_text(str(error))}"
        raise RecordError(f"{journal} is damaged: what is in it makes no study ({why}); {ADVICE}") from error


class StudyFile:
    """The trials of a search's journal; none where it has none yet. Raises RecordError for a damaged one."""

    def __init__(self, journal: Path) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.journal = journal
        self.study: optuna.Study | None = None
        if not journal.exists():
            return
        check_regular_file(journal, "the journal of the search")
        with naming_journal(journal):
            storage = JournalStorage(JournalFileBackend(str(journal)))
            if STUDY_NAME in {study.study_name for study in storage.get_all_studies()}:
                self.study = optuna.load_study(study_name=STUDY_NAME, storage=storage)

    def trials(self) -> list[FrozenTrial]:
        return [] if self.study is None else self.study.get_trials(deepcopy=False)

    def enter(self, ledger: Ledger) -> None:
        """Enter the trials into a ledger; one without an outcome runs, or is paused. Raises RecordError."""
        with naming_journal(self.journal):
            enter_trials(self.trials(), ledger, running=None)

    def history(self) -> list[PastTrial]:
        """The trials for a rule. Raises RecordError."""
        with naming_journal(self.journal):
            return read_history(self.trials())

    def importances(self) -> dict[str, float]:
        return {} if self.study is None else find_importances(self.study)

    def scales(self) -> dict[str, Scale]:
        """The range of every number that a trial drew; where it differs from trial to trial, all of them together."""
        scales: dict[str, Scale] = {}
        for trial in self.trials():
            for name, kind in trial.distributions.items():
                if isinstance(kind, FloatDistribution | IntDistribution):
                    scale = Scale(float(kind.low), float(kind.high), is_log=kind.log)
                    scales[name] = scale.joined(scales.get(name, scale))
        return scales


def read_study(journal: Path, ledger: Ledger) -> None:
    """Enter the trials of a study into a ledger."""
    StudyFile(journal).enter(ledger)


def is_begun(trial: FrozenTrial) -> bool:
    """Whether a trial has its configuration; the others are first points that wait."""
    return "params" in trial.user_attrs


def enter_trials(trials: Sequence[FrozenTrial], ledger: Ledger, *, running: Outcome | None) -> None:
    for trial in filter(is_begun, trials):
        is_running = trial.state == TrialState.RUNNING
        ledger.restore(
            TrialEntry(
                number=trial.number,
                params=json.loads(trial.user_attrs["params"]),
                run_id=trial.user_attrs.get("run_id"),
                values=dict(sorted(trial.intermediate_values.items())),
                outcome=running if is_running else OUTCOMES.get(trial.state, Outcome.INTERRUPTED),
                costs=dict(trial.user_attrs.get(COSTS, {})),
                is_paused=is_running and running is None and bool(_epochs(trial).get("is_paused")),
            )
        )


def read_history(trials: Sequence[FrozenTrial]) -> list[PastTrial]:
    """The trials for a rule: parameters in the space's own names."""
    return [
        PastTrial(
            number=trial.number,
            params=trial.params,
            values={epoch: float(value) for epoch, value in trial.intermediate_values.items()},
            outcome=OUTCOMES.get(trial.state, Outcome.INTERRUPTED),
            standard_errors=_by_epoch(trial, "standard_errors"),
            seconds=_by_epoch(trial, "seconds"),
        )
        for trial in trials
        if is_begun(trial)
    ]


def note_epochs(entry: TrialEntry, known: Mapping[str, Any], *, is_paused: bool) -> dict[str, Any]:
    """What the attribute `EPOCHS` of a trial holds, with the epochs of this session beside those `known`."""
    took = {str(epoch): round(r.ended_at_s - r.began_at_s, 3) for epoch, r in entry.reports.items()}
    seconds = {epoch: value for epoch, value in took.items() if value > 0}
    errors = {str(epoch): r.standard_error for epoch, r in entry.reports.items() if r.standard_error is not None}
    return {
        "seconds": {**known.get("seconds", {}), **seconds},
        "standard_errors": {**known.get("standard_errors", {}), **errors},
        "is_paused": is_paused,
    }


def find_importances(study: optuna.Study) -> dict[str, float]:
    """Each hyperparameter's share in what separates the best trials from the others, where there are enough of them.

    PED-ANOVA (optuna.importance; Watanabe et al. 2023, arXiv:2304.10255) over all trials with a value, each by its best
    one: those that were paused or stopped early are what the others are better than. It speaks of hyperparameters that
    all of them share, or that at least two have and two have not.
    """
    higher_is_better = study.direction == optuna.study.StudyDirection.MAXIMIZE
    seen = [copied for trial in study.get_trials(deepcopy=False) if (copied := _as_complete(trial, higher_is_better))]
    if len(seen) < 4 or len({trial.value for trial in seen}) < 2:
        return {}
    num_with = Counter(name for trial in seen for name in trial.params)
    known = [name for name, num in num_with.items() if num == len(seen) or 2 <= num <= len(seen) - 2]
    compared = optuna.create_study(direction=study.direction)
    compared.add_trials(seen)
    try:
        return dict(optuna.importance.get_param_importances(compared, params=known))
    except (ValueError, RuntimeError):
        return {}


def _as_complete(trial: FrozenTrial, higher_is_better: bool) -> FrozenTrial | None:
    """A trial as Optuna's measures of importance take it; None without a finite value."""
    values = {epoch: value for epoch, value in trial.intermediate_values.items() if math.isfinite(value)}
    if trial.state == TrialState.COMPLETE and trial.value is not None:
        value = trial.value
    elif values:
        _, value = find_best(values, higher_is_better=higher_is_better)
    else:
        return None
    if not math.isfinite(value):
        return None
    return optuna.trial.create_trial(value=value, params=trial.params, distributions=trial.distributions)


def _epochs(trial: FrozenTrial) -> Mapping[str, Any]:
    return trial.user_attrs.get(EPOCHS, {})


def _by_epoch(trial: FrozenTrial, name: str) -> dict[int, float]:
    return {int(epoch): value for epoch, value in _epochs(trial).get(name, {}).items()}
