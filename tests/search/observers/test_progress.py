from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from search.core.budget import Budget
from search.core.describe import draw_spark, format_duration
from search.core.ledger import Ledger
from search.observers.progress import Heading, ProgressTable
from tests.search.reports import report
from trainable.report import Outcome, TrialFailure


@pytest.fixture
def ledger() -> Ledger:
    ledger = Ledger()
    for number in range(8):
        ledger.begin(number, {"architecture": "resnet18", "optimizer": "adamw", "learning_rate": 0.00123456})
        for epoch in range(1, 4):
            ledger.report(number, report(epoch, 0.5 + number / 20 + epoch / 100))
        if number < 6:
            ledger.end(number, Outcome.STOPPED)
    return ledger


def build_table(ledger: Ledger, folder: Path, console: Console) -> ProgressTable:
    budget = Budget(folder / "spent.json", devices_per_trial=2, time_budget_s=7200, device_hours=4)
    budget.charge(1800)
    heading = Heading(name="first", metric="auc", num_trials=20, tracking_url="http://x/#/e", devices="GPU-hours")
    return ProgressTable(console, ledger, budget, heading)


@pytest.mark.parametrize(("seconds", "text"), [(5, "5 s"), (185, "3 min 05 s"), (7620, "2 h 07 min")])
def test_durations_are_short(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def test_a_spark_rises_with_its_values() -> None:
    assert draw_spark([0.0, 0.5, 1.0], 0, 1) == "▁▅█"
    assert len(draw_spark(range(100), 0, 99)) == 16
    assert draw_spark([0.7, 0.7], 0.7, 0.7) == "▁▁"


def test_the_table_shows_budget_counts_the_five_best_and_mlflow(ledger: Ledger, tmp_path: Path) -> None:
    console = Console(width=160, record=True, force_terminal=True, quiet=False, file=(tmp_path / "out").open("w"))
    console.print(build_table(ledger, tmp_path, console))
    text = console.export_text()
    console.file.close()
    for part in ("first", "6 of 20 trials", "2 h 00 min", "1.00 of 4 GPU-hours", "2 running", "6 stopped"):
        assert part in text
    for part in ("0.8750", "resnet18", "adamw, lr 0.0012", "http://x/#/e"):
        assert part in text
    rows = [line.split()[0] for line in text.splitlines() if "resnet18" in line]
    assert rows == ["7", "6", "5", "4", "3"]


def test_without_a_terminal_there_are_plain_lines(ledger: Ledger, tmp_path: Path) -> None:
    with (tmp_path / "out").open("w") as out:
        table = build_table(ledger, tmp_path, Console(file=out, width=60))
        ledger.observers = (table,)
        with table.show():
            ledger.pass_time()
            ledger.fail(7, TrialFailure(error="FloatingPointError: the loss is nan"))
            ledger.end(7, Outcome.FAILED)
    text = (tmp_path / "out").read_text()
    assert "\x1b" not in text
    assert text.splitlines()[0].startswith("first  6 of 20 trials")
    assert "trial   7 failed" in text
    assert "the loss is nan" in text
