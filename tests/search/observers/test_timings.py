from __future__ import annotations

import time
from typing import Any

import pytest

from search.observers.timings import Pace, process_began_at_s


def result(
    began_at_s: float,
    *,
    node: str = "a",
    pid: int = 1,
    resident: int = 2**20,
    timings_s: dict[str, float] | None = None,
) -> dict[str, Any]:
    where = {"hostname": node, "pid": pid}
    return where | {"began_at_s": began_at_s, "resident_bytes": resident, "timings_s": timings_s or {}}


def test_the_start_is_told_in_parts_that_add_up() -> None:
    pace = Pace(began_at_s=time.time() - 2)
    with pace.part("images"):
        time.sleep(0.01)
    assert pace.note(0, result(pace.began_at_s + 9, timings_s={"step plan": 1.5}))
    assert pace.start_s == pytest.approx(9)
    assert pace.parts_s["imports"] == pytest.approx(2, abs=0.1)
    assert pace.parts_s["images"] >= 0.01
    assert pace.parts_s["step plan"] == 1.5
    assert sum(pace.parts_s.values()) == pytest.approx(9)
    assert pace.lines()[0].startswith("Timings ")
    assert len(pace.lines()) == 1 + len(pace.parts_s)
    assert not pace.note(0, result(50.0)), "only the first report of a search tells its start"


def test_a_turn_round_is_from_a_processs_end_to_its_next_first_step() -> None:
    pace = Pace()
    pace.num_slots = 2
    pace.note(0, result(10.0, pid=1))
    pace.note(0, result(11.0, pid=1))
    pace.end(0, "a", 12.0)
    pace.note(1, result(12.1, pid=2))  # the first of the other slot, which came up late
    pace.note(2, result(12.3, pid=1))
    pace.note(2, result(13.0, pid=1))
    pace.end(1, "a", 14.0)
    pace.end(2, "a", 14.5)
    pace.note(4, result(15.5, pid=1))
    pace.note(3, result(14.2, pid=2))
    assert pace.turn_rounds_s == pytest.approx([0.3, 1.0, 0.2])


def test_a_fresh_process_follows_the_one_that_ended_first() -> None:
    pace = Pace()
    pace.num_slots = 2
    for number, began_at_s in ((0, 10.0), (1, 11.0)):
        pace.note(number, result(began_at_s, pid=number))
    pace.end(1, "a", 12.0)
    pace.end(0, "a", 13.0)
    pace.note(2, result(15.0, pid=2))
    pace.note(3, result(15.5, pid=3))
    assert pace.turn_rounds_s == pytest.approx([3.0, 2.5])


def test_slots_of_another_node_do_not_count() -> None:
    pace = Pace()
    pace.note(0, result(10.0, node="a"))
    pace.end(0, "a", 12.0)
    pace.note(1, result(20.0, node="b"))
    assert pace.turn_rounds_s == []


def test_the_record_holds_the_median_and_what_workers_held() -> None:
    pace = Pace()
    for number, began_at_s in enumerate((1.0, 2.5, 5.0)):
        pace.note(number, result(began_at_s, resident=(number + 1) * 2**20))
        pace.end(number, "a", began_at_s + 1)
    record = pace.to_record()
    assert record["turn_round_s"] == pytest.approx(1.0)
    assert record["resident_mib"] == [1, 2, 3]
    assert Pace().to_record()["turn_round_s"] is None


def test_this_process_began_before_now_and_not_long_ago() -> None:
    assert 0 < time.time() - process_began_at_s() < 24 * 3600
