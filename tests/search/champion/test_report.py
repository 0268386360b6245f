from __future__ import annotations

import csv
import re
from dataclasses import replace
from pathlib import Path

from search.champion.conclude import describe_test
from search.champion.crown import Champion
from search.champion.report import ReportParts, write_report
from search.champion.sealed import SealedFigures, SealedScore
from search.core.ledger import Ledger, TrialEntry
from trainable.intervals import UNKNOWN, Interval
from trainable.report import Direction, Outcome
from trainable.scorecard import Estimate

NAN = float("nan")


def build_ledger(direction: Direction = Direction.MAXIMIZE) -> Ledger:
    """Five trials, with every outcome among them."""
    ledger = Ledger(direction)
    plain = {"architecture": "small_cnn", "learning_rate": 0.001234567}
    own = {"architecture": "my|net.py:build", "momentum": 0.9}
    for number, outcome, values, params in (
        (0, Outcome.STOPPED, {1: 0.6}, plain),
        (1, Outcome.FAILED, {}, plain),
        (2, Outcome.COMPLETED, {1: 0.7, 2: 0.91, 3: 0.85}, own),
        (3, Outcome.INTERRUPTED, {1: 0.8}, plain),
        (4, Outcome.STOPPED, {1: 0.8}, plain),
    ):
        ledger.restore(
            TrialEntry(number=number, params=params, outcome=outcome, values=dict(values), run_id=f"run{number}")
        )
    return ledger


AUC = Estimate(value=0.9, interval=Interval(low=0.85, high=0.94, method="Newcombe"))
SHARE = Estimate(value=0.5, interval=Interval(low=0.4, high=0.6, method="Wilson"))
FIGURES = SealedFigures(
    num_slices=203,
    num_groups=90,
    estimates={"auc": AUC, "f1": Estimate(value=NAN, interval=UNKNOWN), "accuracy": SHARE},
    can_tell="AUC: with 90 patients, two models must differ by 6 points to be told apart",
    group_name="patients",
)
SCORE = SealedScore(
    figures=FIGURES,
    of_patients=replace(FIGURES, estimates={"auc": Estimate(value=0.95, interval=AUC.interval)}),
    without_duplicates=replace(FIGURES, num_slices=201, num_groups=89, estimates={"auc": AUC, "f1": SHARE}),
    figure_files=(),
    warnings=(),
)
CHAMPION = Champion(
    number=2,
    members=(0, 2),
    params={"architecture": "my|net.py:build"},
    outcome=Outcome.COMPLETED,
    epoch=2,
    models=Path("models"),
    model_name="covid-ct",
    version="3",
    images_version="2",
    alias="challenger",
    metric="auc",
    value=0.91,
    best_trial_value=0.9,
    score=SCORE,
    num_openings=2,
    warnings=("patients are unknown",),
)


def test_trials_are_ranked_by_value_then_number_those_without_a_value_last() -> None:
    assert [entry.number for entry in build_ledger().leaderboard()] == [2, 3, 4, 0, 1]
    assert [entry.number for entry in build_ledger(Direction.MINIMIZE).leaderboard()] == [0, 3, 4, 2, 1]


def test_the_leaderboard_holds_every_trial_and_hyperparameter_in_full(tmp_path: Path) -> None:
    write_report(tmp_path, build_ledger(), ReportParts(search="first", metric="auc"))
    with (tmp_path / "leaderboard.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["trial"] for row in rows] == ["2", "3", "4", "0", "1"]
    assert rows[0] == {
        "rank": "1",
        "trial": "2",
        "outcome": "completed",
        "auc": "0.88",
        "best_epoch": "3",
        "epochs": "3",
        "run_id": "run2",
        "architecture": "my|net.py:build",
        "momentum": "0.9",
        "learning_rate": "",
    }
    assert rows[1]["learning_rate"] == "0.001234567"
    assert (rows[4]["auc"], rows[4]["best_epoch"], rows[4]["epochs"]) == ("", "", "0")


def test_the_page_holds_champion_data_budget_and_figures(tmp_path: Path) -> None:
    parts = ReportParts(
        search="first",
        metric="auc",
        data_lines=["covid-ct, data hash abc", "  746 slices of 384 patients", ""],
        budget_lines=["20 of 20 trials"],
        importances={"learning_rate": 0.7, "architecture": 0.3},
        champion=CHAMPION,
    )
    written = write_report(tmp_path, build_ledger(), parts)
    names = {path.name for path in written}
    assert names == {"leaderboard.csv", "report.md", "learning_curves.png", "importances.png"}
    assert all(path.stat().st_size > 0 for path in written)
    page = (tmp_path / "report.md").read_text(encoding="utf-8")
    for text in (
        "# Search first",
        "- 5 trials: 1 completed, 2 stopped, 1 failed, 1 interrupted",
        "- 20 of 20 trials",
        "  746 slices of 384 patients",
        "- trials 0 and 2, validation auc 0.9100",
        "- the best member alone, trial 2: 0.9000",
        "covid-ct version 3 and covid-ct-images version 2, alias `challenger`",
        "opened 2 times in this home",
        "- warning: patients are unknown",
        "| sealed test | all 203 slices | by patient, 90 | the 201 slices without near-duplicates |",
        "| auc | 0.900 (0.850 to 0.940) | 0.950 (0.850 to 0.940) | 0.900 (0.850 to 0.940) |",
        "| f1 | undefined |  | 0.500 (0.400 to 0.600) |",
        "95 % intervals over 90 patients: Newcombe's method 5 (auc), Wilson's method (accuracy). AUC: with 90 patients",
        "my\\|net.py:build",
    ):
        assert text in page
    for image in re.findall(r"\]\((.+?)\)", page):
        assert (tmp_path / image).is_file()


def test_every_table_of_the_page_has_as_many_cells_in_each_row(tmp_path: Path) -> None:
    write_report(tmp_path, build_ledger(), ReportParts(search="first", metric="auc", champion=CHAMPION))
    tables = re.findall(r"(?:^\|.*\n)+", (tmp_path / "report.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(tables) == 2
    for table in tables:
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(widths) == 1


def test_the_last_lines_give_the_test_by_slice_and_by_patient_and_name_the_intervals() -> None:
    assert describe_test(SCORE) == [
        "Sealed test  auc 0.900 (0.850 to 0.940), accuracy 0.500 (0.400 to 0.600)",
        "             auc 0.950 (0.850 to 0.940), by patient",
        "             203 slices, 95 % intervals by Newcombe's method 5 (auc), Wilson's method (accuracy) "
        "over 90 patients",
        "             AUC: with 90 patients, two models must differ by 6 points to be told apart",
    ]
    plain = replace(SCORE, figures=replace(FIGURES, estimates={"auc": AUC}, can_tell=""), of_patients=None)
    assert describe_test(plain)[1:] == [
        "             203 slices, 95 % intervals by Newcombe's method 5 over 90 patients"
    ]
    assert describe_test(replace(SCORE, figures=None)) == []


def test_a_search_without_a_champion_has_a_report(tmp_path: Path) -> None:
    failed = Ledger(Direction.MINIMIZE)
    failed.restore(TrialEntry(number=0, params={}, outcome=Outcome.FAILED))
    for ledger in (Ledger(), failed):
        write_report(tmp_path, ledger, ReportParts(search="first", metric="loss"))
        page = (tmp_path / "report.md").read_text(encoding="utf-8")
        assert "None: no trial finished an epoch." in page
        assert f"{len(ledger.entries)} trials: 0 completed" in page
