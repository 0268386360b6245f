"""What a running search is asked for: refused in a line where it cannot be, and never its end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import ctsearch
from search.cli import main
from search.commands import steer
from search.core import steering
from search.core.budget import Budget
from search.core.folder import create_search
from search.core.steering import Answer, ask, wait_for_answer
from search.engine.steered import Steered


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Of a search that runs, whose driver does not answer."""
    folder = create_search(tmp_path, "first", {"config": {}, "phase": "searching"})
    monkeypatch.setattr(steer, "ANSWER_S", 0.0)
    monkeypatch.setattr(steering, "wait_for_answer", lambda request, timeout_s: Answer(done=True, text="heard"))
    yield tmp_path
    folder.release()


@pytest.mark.parametrize(
    "text",
    [
        *("lr=1j", "lr={1, 2}", "lr=b'x'", "lr=...", "lr={[]: 1}", "lr=[1]", "lr=1e400"),
        *("lr=" + "(" * 5000, "lr=" + "[" * 100_000, "lr=" + "-" * 100_000 + "1"),
    ],
    ids=lambda text: text[:12],
)
def test_no_value_of_a_trial_ends_in_a_traceback(text: str, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["try", "first", text, "--home", str(home)])
    assert status in (0, 2)
    if status == 2:
        assert "it must be a finite number, true or false, or a text" in capsys.readouterr().err
    is_text = text.startswith(("lr={[]", "lr=((", "lr=[[", "lr=--"))
    assert (status == 0) == is_text, "what is no value of Python's is a text"


def test_a_value_of_numpy_is_taken_and_one_given_twice_refused(home: Path) -> None:
    assert ctsearch.enqueue("first", home=home, batch_size=np.int64(32), lr=np.float32(0.5)) == "heard"
    with pytest.raises(ValueError, match="lr is nan; it must be a finite number"):
        ctsearch.enqueue("first", home=home, lr=float("nan"))
    with pytest.raises(ValueError, match="lr is given twice"):
        steer.read_params(["lr=1e-3", "lr=1e-2"])


@pytest.mark.parametrize("budget", [{"num_trials": 0}, {"num_trials": -5}, {"gpu_hours": -1}, {"time_budget": -3}])
def test_a_budget_below_zero_never_reaches_the_driver(budget: dict[str, float], home: Path) -> None:
    with pytest.raises(ValueError, match="it must be above 0"):
        ctsearch.extend("first", home=home, **budget)


def test_a_trial_is_a_whole_number(home: Path) -> None:
    for wrong in (1.5, True, "x"):
        with pytest.raises(ValueError, match=r"trial is .*; it must be a"):
            ctsearch.stop("first", home=home, trial=wrong)  # type: ignore[arg-type]
    assert ctsearch.stop("first", home=home, trial=np.int64(1)) == "heard"  # type: ignore[arg-type]


def answer(
    folder: Path, verb: str, *, num_trials: int | None = None, note: Any = None, **content: Any
) -> tuple[Answer, Any]:
    """What a driver answers that runs without Ray, and its searcher."""
    searcher = SimpleNamespace(num_trials=num_trials, ledger=SimpleNamespace(entries={}))
    budget = Budget(folder / "spent.json", time_budget_s=3600)
    steered = Steered(folder, searcher, budget=budget, note=note or (lambda given: None), say=lambda lines: None)  # type: ignore[arg-type]
    request = ask(folder, verb, **content)
    steered.on_step_end(0, [])
    given = wait_for_answer(request, 0.0)
    assert given is not None
    return given, searcher


def test_a_limit_that_a_search_does_not_have_is_no_larger_budget(tmp_path: Path) -> None:
    given, searcher = answer(tmp_path, "extend", budget={"num_trials": 3})
    assert not given.done and searcher.num_trials is None
    assert given.text == "num_trials is 3, which would be a new limit; the search is limited by time_budget_s"


def test_a_budget_that_cannot_be_written_down_changes_nothing(tmp_path: Path) -> None:
    def refuse(given: Any) -> None:
        raise ValueError("the record is damaged")

    given, searcher = answer(tmp_path, "extend", num_trials=3, note=refuse, budget={"num_trials": 5})
    assert (given.done, searcher.num_trials) == (False, 3)


@pytest.mark.parametrize(
    ("verb", "content"),
    [
        ("try", {"params": [1]}),
        ("try", {"params": {"lr": 1, "learning_rate": 2}}),
        ("try", {}),
        ("extend", {"budget": "2h"}),
        ("extend", {"budget": {"num_trials": "x"}}),
        ("stop-trial", {"trial": None}),
    ],
)
def test_no_request_ends_a_search(verb: str, content: dict[str, Any], tmp_path: Path) -> None:
    given, _ = answer(tmp_path, verb, num_trials=3, **content)
    assert not given.done and given.text
