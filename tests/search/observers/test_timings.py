from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest

from search.core.ledger import Ledger
from search.observers.timings import Timings, process_began_at_s
from tests.search.reports import report
from trainable.report import Outcome


class Search:
    """Reports of trials, as the ledger passes them on."""

    def __init__(self, timings: Timings) -> None:
        self.ledger = Ledger(observers=[timings])

    def note(self, number: int, began_at_s: float, *, node: str = "a", pid: int = 1, **others: Any) -> None:
        if number not in self.ledger.entries:
            self.ledger.begin(number, {})
        epoch = self.ledger.entries[number].num_epochs + 1
        given = {"began_at_s": began_at_s, "ended_at_s": began_at_s + 0.1, "hostname": node, "pid": pid, **others}
        self.ledger.report(number, report(epoch, 0.5, **given))

    def end(self, number: int, ended_at_s: float) -> None:
        """The last epoch of the trial ended then."""
        entry = self.ledger.entries[number]
        last = max(entry.reports)
        entry.reports[last] = replace(entry.reports[last], ended_at_s=ended_at_s)
        self.ledger.end(number, Outcome.COMPLETED)


def test_the_start_is_reported_in_parts_that_add_up() -> None:
    timings = Timings(began_at_s=time.time() - 2)
    search = Search(timings)
    with timings.part("images"):
        time.sleep(0.01)
    output: list[list[str]] = []
    timings.started = output.append
    search.note(0, timings.began_at_s + 9, timings_s={"step plan": 1.5})
    assert timings.start_s == pytest.approx(9)
    assert timings.parts_s["imports"] == pytest.approx(2, abs=0.1)
    assert timings.parts_s["images"] >= 0.01
    assert timings.parts_s["step plan"] == 1.5
    assert sum(timings.parts_s.values()) == pytest.approx(9)
    assert timings.lines()[0].startswith("Timings ")
    assert len(timings.lines()) == 1 + len(timings.parts_s)
    search.note(0, 50.0)
    assert output == [timings.lines()], "only the first report of a search says how it started"


def test_a_clock_that_is_set_back_gives_no_times_rather_than_wrong_ones() -> None:
    timings = Timings()
    search = Search(timings)
    search.note(0, timings.began_at_s - 3600.0)
    search.end(0, timings.began_at_s + 10.0)
    search.note(1, timings.began_at_s - 3590.0)
    search.end(1, timings.began_at_s - 3580.0)
    search.note(2, timings.began_at_s - 3579.0)
    assert timings.start_s is None and timings.to_record()["start_s"] is None
    assert timings.turn_rounds_s == pytest.approx([1.0])
    assert timings.passed_s >= 0


def test_a_turn_round_is_from_a_processs_end_to_its_next_first_step() -> None:
    timings = Timings()
    timings.num_slots = 2
    search = Search(timings)
    search.note(0, 10.0, pid=1)
    search.note(0, 11.0, pid=1)
    search.end(0, 12.0)
    search.note(1, 12.1, pid=2)  # the first of the other slot, which came up late
    search.note(2, 12.3, pid=1)
    search.note(2, 13.0, pid=1)
    search.end(1, 14.0)
    search.end(2, 14.5)
    search.note(4, 15.5, pid=1)
    search.note(3, 14.2, pid=2)
    assert timings.turn_rounds_s == pytest.approx([0.3, 1.0, 0.2])


def test_a_fresh_process_follows_the_one_that_ended_first() -> None:
    timings = Timings()
    timings.num_slots = 2
    search = Search(timings)
    for number, began_at_s in ((0, 10.0), (1, 11.0)):
        search.note(number, began_at_s, pid=number)
    search.end(1, 12.0)
    search.end(0, 13.0)
    search.note(2, 15.0, pid=2)
    search.note(3, 15.5, pid=3)
    assert timings.turn_rounds_s == pytest.approx([3.0, 2.5])


def test_a_paused_trial_gives_its_slot_away_and_its_resume_is_told_apart() -> None:
    timings = Timings()
    search = Search(timings)
    search.note(0, 10.0)
    search.ledger.pause(0)
    search.note(1, 10.4)
    search.ledger.pause(1)
    search.ledger.resume(0)
    search.note(0, 10.7)
    search.note(0, 11.0)
    search.end(0, 12.0)
    search.note(2, 12.1)
    search.ledger.end(1, Outcome.STOPPED)
    assert timings.turn_rounds_s == pytest.approx([0.3, 0.2, 0.1])
    assert timings.resumes_s == pytest.approx([0.2])
    assert timings.to_record()["resume_s"] == pytest.approx(0.2)


def test_slots_of_another_node_do_not_count() -> None:
    timings = Timings()
    search = Search(timings)
    search.note(0, 10.0, node="a")
    search.end(0, 12.0)
    search.note(1, 20.0, node="b")
    assert timings.turn_rounds_s == []


def test_the_record_holds_the_median_and_what_workers_held() -> None:
    timings = Timings()
    search = Search(timings)
    for number, began_at_s in enumerate((1.0, 2.5, 5.0)):
        search.note(number, began_at_s, resident_bytes=(number + 1) * 2**20)
        search.end(number, began_at_s + 1)
    record = timings.to_record()
    assert record["turn_round_s"] == pytest.approx(1.0)
    assert record["resident_mib"] == [1, 2, 3]
    assert Timings().to_record()["turn_round_s"] is None


def test_this_process_began_before_now_and_not_long_ago() -> None:
    assert 0 < time.time() - process_began_at_s() < 24 * 3600
