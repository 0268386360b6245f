"""`ctsearch curves export`: the learning curves of a search as one file, which `benchmarks/curves.py` replays."""

from __future__ import annotations

from pathlib import Path

from search.core.curve_file import RecordedCurves, write_curves
from search.core.extension import read_recorded_config
from search.core.folder import view_search
from search.core.rules import find_epochs
from search.engine.study_file import StudyFile
from trainable.objectives import parse_objective


def export_curves(home: Path, name: str, out: Path | None = None) -> Path:
    """Write `NAME.curves.json` here, or `out`; search/core/curve_file.py describes it. The search may be running.

    Raises ValueError where there is no such search, and where none of its trials has finished an epoch.
    """
    folder = view_search(home, name)
    record = folder.read_record()
    config = read_recorded_config(folder)
    trials = [trial for trial in StudyFile(folder.journal_file).history() if trial.values]
    if not trials:
        raise ValueError(f"no trial of the search {name!r} has finished an epoch; there is no curve to export yet")
    file = out or Path(f"{name}.curves.json")
    higher_is_better = parse_objective(config.metric).higher_is_better
    max_epochs = find_epochs(config, record, [max(trial.values) for trial in trials])
    write_curves(file, RecordedCurves(name, config.metric, higher_is_better, max_epochs, trials))
    return file
