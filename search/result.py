"""SearchResult: what a search came to, as plain values read from its folder; the search may still be running."""

from __future__ import annotations

import json
import os
import warnings as python_warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from search.core.folder import Phase, SearchFolder
from search.core.ledger import Ledger, TrialEntry
from trainable.files import open_regular_file
from trainable.objectives import name_metric
from trainable.records import RecordError
from trainable.report import Direction

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A figure of the sealed test with its 95 % interval and the method of that; NaN bounds where there is none."""

    value: float
    low: float
    high: float
    method: str = ""

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


@dataclass(frozen=True, kw_only=True)
class Trials(Sequence[TrialEntry]):
    """The trials of a search by number."""

    metric: str
    entries: tuple[TrialEntry, ...]

    @overload
    def __getitem__(self, index: int) -> TrialEntry: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[TrialEntry, ...]: ...
    def __getitem__(self, index: int | slice) -> TrialEntry | tuple[TrialEntry, ...]:
        return self.entries[index]

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[TrialEntry]:
        return iter(self.entries)

    def to_dataframe(self) -> pd.DataFrame:
        """A row a trial: number, outcome, the metric at its best epoch, epochs, and every hyperparameter drawn;
        what its model costs, where the search weighs that."""
        import pandas as pd

        rows = [
            {
                "trial": entry.number,
                "outcome": str(entry.outcome or "running"),
                self.metric: entry.best_value,
                "best_epoch": entry.best_epoch,
                "epochs": entry.num_epochs,
                "run_id": entry.run_id,
                **entry.costs,
                **entry.params,
            }
            for entry in self.entries
        ]
        return pd.DataFrame(rows)


@dataclass(frozen=True, kw_only=True)
class ChampionResult:
    """The model a search gave: the mean of the trials `members`. `trial` is the best of them, `configuration` holds the
    hyperparameters of that; `validation` is the model's `metric` on validation.

    `test` maps a metric to its figure on the sealed test, `test_patients` to that by patient: empty where each patient
    has one slice. `version` is "" where MLflow stayed away.
    """

    trial: int
    members: tuple[int, ...]
    configuration: Mapping[str, Any]
    metric: str
    validation: float
    test: Mapping[str, Figure]
    test_patients: Mapping[str, Figure]
    model_name: str
    version: str
    alias: str
    warnings: tuple[str, ...]
    models: Path

    def load(self) -> Any:
        """The model as a torch module: uint8 pixels (N, S, S) in, probabilities float32 (N, classes) out."""
        return self._classifier().predict

    def classify(self, paths: str | Path | Iterable[str | Path]) -> pd.DataFrame:
        """Class and probabilities of image files, volumes and folders, a row for each image or volume.

        What cannot be read has its reason under `error`; an image unlike the training's, why under `doubt`.
        Masks beside images in folders are skipped, with a UserWarning.
        """
        import pandas as pd

        from search.commands.answer_tables import describe
        from search.commands.inputs import list_scans
        from trainable.answers import classify_scans

        given = [paths] if isinstance(paths, str | Path) else list(paths)
        notes: list[str] = []
        scans = list_scans([Path(path) for path in given], notes)
        for note in dict.fromkeys(notes):
            python_warnings.warn(note, stacklevel=2)
        classifier = self._classifier()
        rows = []
        for file, answer in classify_scans(scans, classifier):
            if isinstance(answer, Exception):
                rows.append({"path": str(file), "error": str(answer)})
            else:
                rows.append({**describe(file, answer, classifier), "error": ""})
        return pd.DataFrame(rows)

    def _classifier(self) -> Any:
        from trainable.classifier import load_registered

        folder = self.models / "pixels"
        if not (folder / "MLmodel").is_file():
            raise ValueError(
                f"there is no model in {folder}, where the champion was saved; restore it, or take the one that is "
                f"registered: ctsearch classify --model models:/{self.model_name}/{self.version}"
            )
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # of files that lie here
        from mlflow.exceptions import MlflowException

        try:
            return load_registered(str(folder))
        except MlflowException as error:
            raise ValueError(f"the model in {folder} cannot be loaded: {error.message}") from error


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """A search: `phase` says how far it has come, `stop_reason` why no further trial began, in words.

    `champion` is None until there is one. `report` is a Markdown page, `tracking_url` the search's run in MLflow.
    """

    name: str
    folder: Path
    phase: Phase
    stop_reason: str
    trials: Trials
    champion: ChampionResult | None
    tracking_url: str
    report: Path

    @property
    def figures(self) -> dict[str, Any]:
        """Everything that `result.json` holds; empty before the end."""
        return _read_json(self.folder / "result.json")

    @classmethod
    def read(cls, search: SearchFolder) -> SearchResult:
        """What a search has come to."""
        from search.engine.study_file import read_study

        record, result = search.read_record(), _read_json(search.folder / "result.json")
        metric = name_metric(str(search.recorded_options.get("metric", "auc")))
        ledger = Ledger(Direction.of(metric))
        read_study(search.journal_file, ledger)
        entries = tuple(ledger.entries[number] for number in sorted(ledger.entries))
        return cls(
            name=search.name,
            folder=search.folder,
            phase=search.phase,
            stop_reason=record.get("stop_reason", ""),
            trials=Trials(metric=metric, entries=entries),
            champion=_read_champion(result, search) if "champion" in result else None,
            tracking_url=record.get("tracking_url", ""),
            report=search.folder / "report.md",
        )


def _read_champion(result: Mapping[str, Any], search: SearchFolder) -> ChampionResult:
    """Raises RecordError for what no search has written."""
    others = ("patients_", "without_duplicates_")
    try:
        figures = _read_figures(result, "test_")
        return ChampionResult(
            trial=int(result["champion"]),
            members=tuple(map(int, result.get("members", [result["champion"]]))),
            configuration=dict(result["params"]),
            metric=str(result["metric"]),
            validation=float(result["validation_value"]),
            test={name: figure for name, figure in figures.items() if not name.startswith(others)},
            test_patients=_read_figures(result, "test_patients_"),
            model_name=str(result["model_name"]),
            version=str(result["version"]),
            alias=str(result["alias"]),
            warnings=tuple(map(str, result.get("warnings", ()))),
            models=search.models,
        )
    except (KeyError, TypeError, ValueError) as error:
        what = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise _damaged(search.folder / "result.json", what) from error


def _read_figures(result: Mapping[str, Any], prefix: str) -> dict[str, Figure]:
    nan = float("nan")
    return {
        name.removeprefix(prefix): Figure(
            value=float(value),
            low=float(result[f"{name}_low"]),
            high=float(result.get(f"{name}_high", nan)),
            method=str(result.get(f"{name}_method", "bootstrap")),  # before methods were named
        )
        for name, value in result.items()
        if name.startswith(prefix) and f"{name}_low" in result
    }


def _read_json(file: Path) -> dict[str, Any]:
    """The object in a file, {} without one. Raises RecordError."""
    if not file.exists():
        return {}
    try:
        with open_regular_file(file, "the result of a search") as opened:
            content = json.loads(opened.read())
    except (ValueError, RecursionError) as error:
        raise _damaged(file, str(error)) from error
    if not isinstance(content, dict):
        raise _damaged(file, f"it holds a {type(content).__name__} and no object")
    return content


def _damaged(file: Path, what: str) -> RecordError:
    return RecordError(
        f"{file} is damaged ({what}); restore it, from --storage if the search has one, or take it away: trials and "
        "models lie elsewhere"
    )
