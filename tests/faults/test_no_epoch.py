"""A time budget in which not even one epoch can end: said after the first minute, with what to change."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from search.core.budget import Budget
from search.core.ledger import Ledger
from search.core.stop import StopReason, StopRequest
from search.engine.cluster import Cluster
from search.engine.first_epoch import FIRST_LOOK_S, FirstEpoch
from tests.search.reports import report
from tests.search.toy import play_in
from trainable import pace as pace_module
from trainable.pace import FIRST_NOTE_S, Pace, PaceNote, read_pace

BUDGET_S = 1000.0


class Running:
    RUNNING = status = "RUNNING"

    def __init__(self, number: int) -> None:
        self.config = {"number": number}


def pace_of(epoch_s: float) -> Pace:
    return Pace(num_done=10, num_steps=1000, step_s=epoch_s / 1000)


def look(tmp_path: Path, paces: dict[int, Pace | None], *, after_s: float = FIRST_LOOK_S, epochs: int = 0) -> str:
    """What a search with this budget says after so many seconds; nothing where it goes on."""
    ledger, stop, now_s = Ledger(), StopRequest(), [0.0]
    for number in paces:
        ledger.begin(number, {"architecture": f"resnet{number}"})
    for epoch in range(1, epochs + 1):
        ledger.report(0, report(epoch, 0.5))
    watch = FirstEpoch(
        ledger, Budget(tmp_path / "spent.json", time_budget_s=BUDGET_S, stop=stop), paces.get, lambda: now_s[0]
    )
    trials: list[Any] = [Running(number) for number in paces]
    watch.on_step_end(0, trials)
    now_s[0] = after_s
    watch.on_step_end(1, trials)
    assert stop.reason in (None, StopReason.NO_EPOCH)
    return stop.detail


def test_a_search_is_ended_only_where_no_running_trial_can_end_an_epoch(tmp_path: Path) -> None:
    slow, slower, fast = pace_of(3600.0), pace_of(7200.0), pace_of(600.0)
    output = look(tmp_path, {50: slow, 152: slower})
    assert output.startswith("no epoch can end within the budget: one of resnet50 takes about 1 h 00 min here")
    assert "the time budget is 16 min 40 s" in output and "--time-budget" in output and "--arch" in output
    assert look(tmp_path, {50: slow, 18: fast}) == "", "one is fast enough"
    assert look(tmp_path, {50: slow, 18: None}) == "", "nothing is known of one yet"
    assert look(tmp_path, {50: slow}, after_s=FIRST_LOOK_S - 1) == "", "it may be faster once it is warm"
    assert look(tmp_path, {0: slow}, epochs=1) == "", "an epoch has ended"
    assert look(tmp_path, {50: pace_of(BUDGET_S * 1.1)}) == "", "the machine may be busy for a while"


def test_a_pace_is_noted_once_an_epoch_is_long_and_goes_with_it(tmp_path: Path) -> None:
    now_s, uri = [0.0], str(tmp_path / "0007")
    note = PaceNote(uri, num_images=1000, batch_size=16, clock=lambda: now_s[0])
    for step_s in (0.0, 9.0, 2.0, 2.0, 2.0):  # the first step sets everything up
        now_s[0] += step_s
        note.step()
    assert now_s[0] < FIRST_NOTE_S and read_pace(uri) is None
    for _ in range(3):
        now_s[0] += 2.0
        note.step()
    found = read_pace(uri)
    assert found is not None and (found.num_steps, found.num_done, found.step_s) == (63, 7, 2.0)
    assert found.epoch_s == 126.0
    assert found.left_s(12.0) == pytest.approx(100.0)
    note.close()
    assert read_pace(uri) is None
    for content in (b"", b"{", b"[]", b'{"num_done": 1}'):
        (tmp_path / "0007" / pace_module.FILE).write_bytes(content)
        assert read_pace(uri) is None


@pytest.mark.timeout(600)
def test_a_real_search_ends_by_it_while_its_trials_are_amid_their_first_epoch(cluster: Cluster, tmp_path: Path) -> None:
    hung_file = tmp_path / "hung"

    def watches(ledger: Ledger, budget: Budget) -> list[Any]:
        minutes = iter(range(10**9))
        return [
            FirstEpoch(
                ledger,
                budget,
                lambda number: pace_of(10 * BUDGET_S) if hung_file.exists() else None,
                lambda: FIRST_LOOK_S * next(minutes),
            )
        ]

    def space(trial: Any) -> dict[str, Any]:
        return {"height": trial.suggest_float("height", 0, 1), "hangs_at": 1, "hung_file": str(hung_file)}

    played = play_in(tmp_path, cluster)(space, num_trials=None, time_budget_s=BUDGET_S, watches=watches)
    assert played.reason is StopReason.NO_EPOCH
    assert "no epoch can end" in str(played.budget.stop) and math.isfinite(played.budget.wall_s)
    assert all(state.name == "WAITING" for state in played.states()), "with a larger budget they go on"
