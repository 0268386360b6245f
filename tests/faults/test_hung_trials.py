"""A trial that hangs: its worker is ended, it alone fails, and no end of a search waits for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from search.core.events import Observer
from search.core.ledger import TrialEntry
from search.core.stop import StopReason
from search.engine import fit
from search.engine.cluster import Cluster
from search.engine.trial_clock import GRACE_S, TrialClock
from tests.search.toy import Play, play_in

TIMEOUT_S = 20.0


@pytest.fixture
def play(cluster: Cluster, tmp_path: Path) -> Play:
    return play_in(tmp_path, cluster)


class HungTime:
    """Seconds that pass only while a trial hangs, whatever this machine is busy with."""

    def __init__(self, hung_file: Path) -> None:
        self.hung_file = hung_file
        self.now_s = 0.0

    def __call__(self) -> float:
        if self.hung_file.exists():
            self.now_s += 3.0
        return self.now_s


class Forget(Observer):
    """Trials that end hang no more."""

    def __init__(self, hung_file: Path) -> None:
        self.hung_file = hung_file

    def trial_ended(self, entry: TrialEntry) -> None:
        self.hung_file.unlink(missing_ok=True)


def hang_some(hung_file: Path, ways: Mapping[int, bool]) -> Callable[[Any], dict[str, Any]]:
    """Trials by number: whether their process is stopped where it hangs, or waits for ever. They are better than
    all others, so that they get there.
    """

    def space(trial: Any) -> dict[str, Any]:
        stops = ways.get(trial.number)
        if stops is None:
            return {"height": 1.0 + trial.number}
        return {"height": 100.0 + trial.number, "hangs_at": 3, "hung_file": str(hung_file), "stops": stops}

    return space


@pytest.mark.timeout(600)
def test_trials_that_wait_for_ever_or_are_stopped_fail_with_that_reason_and_the_others_go_on(
    play: Play, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hung_file = tmp_path / "hung"
    hung_time = HungTime(hung_file)

    def clock(timeout_s: float, blame: Callable[[int, str], object]) -> TrialClock:
        return TrialClock(timeout_s, blame, hung_time)

    monkeypatch.setattr(fit, "TrialClock", clock)
    played = play(
        hang_some(hung_file, {1: False, 3: True}),
        slots=1,
        num_trials=5,
        timeout_s=TIMEOUT_S,
        observers=lambda ledger: [Forget(hung_file)],
    )
    assert played.reason is StopReason.ALL_TRIALS
    assert [state is TrialState.FAIL for state in played.states()] == [False, True, False, True, False]
    assert all(state.is_finished() for state in played.states())
    for number in (1, 3):
        error = played.memory.errors[number]
        assert error is not None and "ran past its timeout of 20 s" in error
        assert played.memory.reported[number] == [1, 2]
    assert played.started == [0, 1, 2, 3, 4], "neither was begun again"
    assert hung_time.now_s > 2 * (TIMEOUT_S + GRACE_S)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("stops", [False, True], ids=["waits for ever", "is stopped"])
def test_a_search_that_is_asked_to_end_does_not_wait_for_a_worker_that_hangs(
    play: Play, tmp_path: Path, stops: bool
) -> None:
    hung_file = tmp_path / "hung"
    played = play(hang_some(hung_file, {1: stops}), slots=2, num_trials=6, stop_when=hung_file)
    assert played.reason is StopReason.REQUESTED
    assert played.states()[1] is TrialState.WAITING, "a resume goes on with it"


class Steps:
    """What Tune gives a callback of its trials."""

    RUNNING, PAUSED, PENDING = "RUNNING", "PAUSED", "PENDING"

    def __init__(self) -> None:
        self.status = self.PENDING
        self.config = {"number": 7}


def test_waiting_and_paused_time_and_a_driver_that_stood_still_are_not_counted() -> None:
    now_s = [0.0]
    clock = TrialClock(100.0, lambda number, why: pytest.fail(why), lambda: now_s[0])
    trial = Steps()

    def pass_steps(status: str, *steps_s: float) -> None:
        trial.status = status
        for step_s in steps_s:
            now_s[0] += step_s
            clock.on_step_end(0, [trial])

    pass_steps(trial.PENDING, 4.0, 4.0)
    pass_steps(trial.RUNNING, 4.0, 3600.0)
    pass_steps(trial.PAUSED, 4.0, 4.0)
    pass_steps(trial.RUNNING, 1.0)
    assert clock.held_s[7] == 4.0 + 5.0 + 1.0
