"""The clock of the machine is set back amid a search: what its trials have held is measured by one that cannot be."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from search.core.budget import Budget
from search.core.ledger import Ledger
from search.engine.callback import TuneEvents


def test_what_a_trial_has_held_goes_by_no_clock_that_can_be_set(tmp_path: Path) -> None:
    budget, ledger, now_s = Budget(tmp_path / "spent.json"), Ledger(), [100.0]
    ledger.begin(0, {})
    scheduler: Any = SimpleNamespace()
    events = TuneEvents(ledger, budget, scheduler, lambda number: None)
    events.clock = lambda: now_s[0]
    trial: Any = SimpleNamespace(config={"number": 0}, error_file=None, run_metadata=SimpleNamespace(num_failures=0))

    def pass_time(seconds: float) -> None:
        now_s[0] += seconds

    events.on_trial_start(0, [], trial)
    pass_time(5.0)
    events.on_trial_result(0, [], trial, {"time_this_iter_s": -3595.0})
    pass_time(2.0)
    events.on_trial_recover(0, [], trial)  # what its worker was at has been paid for as well
    pass_time(60.0)  # it waits for another one
    events.on_trial_recover(0, [], trial)  # which dies as it is started
    pass_time(60.0)
    events.on_trial_start(0, [], trial)
    pass_time(3.0)
    events.on_trial_result(0, [], trial, {"time_this_iter_s": 3605.0})
    assert budget.device_s == 10.0
    budget.save()
    assert Budget(tmp_path / "spent.json").device_s == 10.0
