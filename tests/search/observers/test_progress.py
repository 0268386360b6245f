from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from search.core.budget import Budget
from search.core.ledger import Book, TrialEntry
from search.observers.progress import Board, draw_spark, format_duration


@pytest.fixture
def book() -> Book:
    book = Book()
    for number in range(8):
        book.open(number, {"architecture": "resnet18", "optimizer": "adamw", "learning_rate": 0.00123456})
        for epoch in range(1, 4):
            book.note(number, epoch, 0.5 + number / 20 + epoch / 100)
        if number < 6:
            book.entries[number].outcome = "stopped"
    return book


def build_board(book: Book, folder: Path, console: Console) -> Board:
    budget = Budget(folder / "spent.json", devices_per_trial=2, time_budget_s=7200, device_hours=4)
    budget.charge(1800)
    return Board(
        console,
        book,
        budget,
        name="first",
        metric="auc",
        num_trials=20,
        tracking_url="http://x/#/e",
        is_gpu=True,
    )


@pytest.mark.parametrize(("seconds", "text"), [(5, "5 s"), (185, "3 min 05 s"), (7620, "2 h 07 min")])
def test_durations_are_short(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def test_a_spark_rises_with_its_values() -> None:
    assert draw_spark([0.0, 0.5, 1.0], 0, 1) == "▁▅█"
    assert len(draw_spark(range(100), 0, 99)) == 16
    assert draw_spark([0.7, 0.7], 0.7, 0.7) == "▁▁"


def test_the_table_shows_budget_counts_the_five_best_and_mlflow(book: Book, tmp_path: Path) -> None:
    console = Console(width=160, record=True, force_terminal=True, quiet=False, file=(tmp_path / "out").open("w"))
    console.print(build_board(book, tmp_path, console))
    text = console.export_text()
    console.file.close()
    for part in ("first", "6 of 20 trials", "2 h 00 min", "1.00 of 4 GPU-hours", "2 running", "6 stopped"):
        assert part in text
    for part in ("0.8800", "resnet18", "adamw, lr 0.0012", "http://x/#/e"):
        assert part in text
    rows = [line.split()[0] for line in text.splitlines() if "resnet18" in line]
    assert rows == ["7", "6", "5", "4", "3"]


def test_without_a_terminal_there_are_plain_lines(book: Book, tmp_path: Path) -> None:
    with (tmp_path / "out").open("w") as out:
        board = build_board(book, tmp_path, Console(file=out, width=60))
        with board.show():
            board.tick()
            book.entries[7].outcome = "failed"
            book.entries[7].error = "FloatingPointError: the loss is nan"
            board.note_end(book.entries[7])
    text = (tmp_path / "out").read_text()
    assert "\x1b" not in text
    assert text.splitlines()[0].startswith("first  6 of 20 trials")
    assert "trial   7 failed" in text
    assert "the loss is nan" in text


def test_of_equal_trials_the_earlier_leads() -> None:
    book = Book()
    for number in (1, 0):
        book.open(number, {})
        book.note(number, 1, 0.5)
    assert [entry.number for entry in book.ranked()] == [0, 1]


def test_a_lower_loss_leads_and_the_earliest_best_epoch_counts() -> None:
    book = Book(higher_is_better=False)
    for number, values in enumerate(([0.4, 0.3, 0.3], [0.5, 0.2, 0.6])):
        book.open(number, {})
        for epoch, value in enumerate(values, 1):
            book.note(number, epoch, value)
    best, second = book.ranked()
    assert (best.number, best.best_value, best.best_epoch) == (1, 0.2, 2)
    assert second.best_epoch == 2


def test_the_first_value_of_an_epoch_stays() -> None:
    book = Book()
    book.open(0, {})
    book.note(0, 1, 0.5)
    book.note(0, 1, 0.9)
    assert book.history() == [(0, 1, 0.5)]


def test_the_best_epoch_is_the_earliest_of_equals_whatever_the_order() -> None:
    entry = TrialEntry(number=0, params={})
    for epoch, value in ((1, float("nan")), (2, 0.5), (4, 0.7), (3, 0.7), (3, 0.9)):
        entry.note(epoch, value)
    assert (entry.best_epoch, entry.best_value) == (3, 0.7)
    lower = TrialEntry(number=1, params={}, higher_is_better=False)
    for epoch, value in ((1, 0.4), (2, 0.5), (3, 0.3)):
        lower.note(epoch, value)
    assert (lower.best_epoch, lower.best_value) == (3, 0.3)
