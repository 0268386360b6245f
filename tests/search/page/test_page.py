from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from typing import Any

import pytest

from search.core.ledger import Ledger, TrialEntry
from search.core.outlook import Foresight, Prospect
from search.core.past import Scale
from search.page.html import PageParts, Tile, build_page
from search.page.plot import Axis, even_ticks, log_ticks
from search.page.trials import TrialsView
from trainable.report import Direction, Outcome

HOSTILE = '<script>alert("x")</script>'
VOID = {"meta", "circle", "path", "rect"}


def view_of(
    *entries: TrialEntry, direction: Direction = Direction.MAXIMIZE, members: tuple[int, ...] = ()
) -> TrialsView:
    ledger = Ledger(direction)
    for entry in entries:
        ledger.restore(entry)
    return TrialsView(
        ranked=ledger.leaderboard(),
        metric="auc" if direction is Direction.MAXIMIZE else "loss",
        higher_is_better=direction is Direction.MAXIMIZE,
        levels=(1, 3, 9),
        members=members,
    )


def trial(number: int, values: list[float], outcome: Outcome | None = Outcome.STOPPED, **params: Any) -> TrialEntry:
    by_epoch = dict(enumerate(values, 1))
    return TrialEntry(number=number, params=params, values=by_epoch, outcome=outcome)


ORDINARY = (
    trial(
        0, [0.5, 0.6, 0.7, 0.72, 0.74, 0.75, 0.76, 0.77, 0.78], Outcome.COMPLETED, architecture="resnet18", rate=1e-3
    ),
    trial(1, [0.5], Outcome.STOPPED, architecture="small_cnn", rate=1e-5, depth=3),
    trial(2, [0.55, 0.6, 0.62], None, architecture="small_cnn", rate=1e-2, depth=4),
    trial(3, [], Outcome.FAILED, architecture="resnet18", rate=1e-1),
)
PARTS = PageParts(name="first", badge="ended", tiles=[Tile(what="Trials", value="4")])


class Balance(HTMLParser):
    """Every tag that opens closes, in order; and the addresses that the page names."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value for name, value in attrs if name in ("src", "href") and value]
        if tag not in VOID or tag in ("circle", "path", "rect"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Closed already."""

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def check(page: str) -> str:
    """The page is well formed, and loads nothing from elsewhere."""
    reader = Balance()
    reader.feed(page)
    assert reader.open == []
    assert reader.addresses == []
    assert "nan" not in re.sub(r"<title>.*?</title>|<td.*?</td>|isNaN", "", page, flags=re.DOTALL).lower()
    for drawn in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        ElementTree.fromstring(drawn)
    return page


def test_the_page_has_every_trial_and_every_chart() -> None:
    page = check(build_page(view_of(*ORDINARY), PARTS))
    rows = re.findall(r'<tr data-t="(\d+)"', page)
    assert rows == ["0", "2", "1", "3"]
    for title in ("The best so far", "Learning curves", "Rungs", "Parallel coordinates", "Slices", "Leaderboard"):
        assert f"<h2>{title}</h2>" in page
    assert "What is left to gain" not in page


def test_a_rung_says_how_many_came_and_how_many_went_on() -> None:
    page = build_page(view_of(*ORDINARY), PARTS)
    assert re.findall(r">(\d+) came<", page) == ["3", "2", "1"]
    assert re.findall(r">(\d+) went on<", page) == ["2", "1"]


def test_a_trial_that_stands_at_a_rung_is_drawn_by_its_state() -> None:
    paused = trial(2, [0.55, 0.6, 0.62], None, architecture="small_cnn")
    paused.is_paused = True
    page = check(build_page(view_of(ORDINARY[0], paused), PARTS))
    assert 'class="dot paused lit" data-t="2"' in page
    assert '<span class="paused"><i></i>paused</span>' in page


def test_the_members_of_the_champion_are_lit() -> None:
    assert view_of(*ORDINARY).lit == {0, 1, 2}
    page = build_page(view_of(*ORDINARY, members=(0,)), PARTS)
    assert re.findall(r'<tr data-t="(\d+)" class="lit"', page) == ["0"]


def test_what_is_left_to_gain_is_drawn_and_said() -> None:
    prospects = [
        Prospect(2, {"architecture": "small_cnn"}, 3, mean=0.79, deviation=0.02, gain=0.012, seconds=60),
        Prospect(None, {"architecture": "resnet18"}, 0, mean=0.7, deviation=0.1, gain=0.01, seconds=90),
    ]
    parts = PageParts(name="a", badge="ended", foresight=Foresight(0.78, prospects), outlook="some gain is left")
    page = check(build_page(view_of(*ORDINARY), parts))
    for text in ("some gain is left", "trial 2 from epoch 3: small_cnn", "a new one: resnet18", "+0.0120 expected"):
        assert text in page


def test_names_of_users_are_text_and_no_markup() -> None:
    failed = trial(1, [0.5], Outcome.FAILED, architecture="b")
    failed.error = HOSTILE
    parts = PageParts(name=HOSTILE, badge=HOSTILE, champion={HOSTILE: HOSTILE}, tracking_url=f"javascript:{HOSTILE}")
    page = check(build_page(view_of(trial(0, [0.6], architecture=HOSTILE), failed), parts))
    assert page.count("<script>") == 1
    assert "javascript:" not in page


@pytest.mark.parametrize(
    "entries",
    [
        (),
        (trial(0, [], Outcome.FAILED),),
        (trial(0, [math.nan], Outcome.FAILED, rate=1),),
        (trial(0, [0.5], None, rate=0.0, flag=True),),
        (trial(0, [0.5, math.nan, 0.5], rate=1), trial(1, [0.5], rate=1)),
        (trial(0, [1e9, 2.0]), trial(1, [0.1], rate=-3)),
        tuple(trial(number, [0.5], rate=number, kind=str(number % 20)) for number in range(60)),
    ],
    ids=["none", "failed", "nan", "one", "alike", "far", "many"],
)
@pytest.mark.parametrize("direction", Direction)
def test_there_is_a_page_whatever_the_trials_hold(entries: tuple[TrialEntry, ...], direction: Direction) -> None:
    page = check(build_page(view_of(*entries, direction=direction), PARTS))
    assert page.count("<tr data-t=") == len(entries)


def test_a_thousand_trials_are_a_page_of_a_few_megabytes() -> None:
    entries = [trial(n, [0.5 + n / 9000] * 9, architecture="resnet18", rate=1 + n, depth=n % 5) for n in range(1000)]
    page = check(build_page(view_of(*entries), PARTS))
    assert len(page) < 4e6
    assert "The other 500 are in leaderboard.csv." in page


def test_ticks_are_round_and_within_the_range() -> None:
    assert even_ticks(Scale(0.48, 0.93), 5) == pytest.approx([0.5, 0.6, 0.7, 0.8, 0.9])
    assert log_ticks(Scale(1e-5, 1e-2, is_log=True), 5) == pytest.approx([1e-5, 1e-4, 1e-3, 1e-2])
    assert [text for _, text in Axis.of(Scale(3.0, 3.0)).ticks]
    assert log_ticks(Scale(2.0, 5.0, is_log=True), 5) == [2.0, 5.0]
