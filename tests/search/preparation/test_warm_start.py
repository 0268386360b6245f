"""Warm start: whose configurations a search begins with, and that what does not fit is passed over or refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from search.core.config import SearchConfig
from search.core.decisions import New
from search.core.folder import SearchFolder, create_search
from search.core.ledger import Ledger
from search.core.promotion import Promotion
from search.core.ranges import parse_range
from search.core.space import DefaultSpace, Wish, configuration_of
from search.engine.study import Study
from search.preparation.warm_start import NUM_POINTS, WarmStart, warm_start
from tests.search.recorded import ARCHITECTURES, record_search
from trainable.report import Direction

SPACE = DefaultSpace(ARCHITECTURES)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three searches: two on the same data, one on other data of another name."""
    home = tmp_path_factory.mktemp("home")
    for name, data_hash, data_name, seed in (
        ("first", "aaa", "lungs", 1),
        ("grown", "bbb", "lungs", 2),
        ("other", "ccc", "hearts", 3),
    ):
        folder = record_search(home, name, num_trials=6, max_epochs=3, seed=seed)
        folder.update_record(data_hash=data_hash, data_name=data_name)
        folder.splits_file.touch()
    return home


def open_new(home: Path, name: str, **options: Any) -> tuple[SearchConfig, SearchFolder]:
    config = SearchConfig(name=name, home=home, **options)
    return config, create_search(home, name, {"config": config.to_record()})


def begin(home: Path, name: str, mode: str, **options: Any) -> WarmStart:
    config, folder = open_new(home, name, warm_start=mode, **options)
    try:
        return warm_start(config, folder, SPACE, data_hash="aaa", task="lungs")
    finally:
        folder.discard()


def test_a_search_begins_with_the_best_on_the_same_data_and_then_on_data_of_the_same_name(home: Path) -> None:
    known = begin(home, "new", "auto")
    assert len(known.points) == NUM_POINTS
    assert [source.partition("/")[0] for source in known.sources] == ["first", "grown", "first"]
    assert known.tags() == {"warm_start": ", ".join(known.sources)}


def test_the_points_are_the_trials_own_configurations(home: Path) -> None:
    known = begin(home, "new", "first")
    ledger = Ledger()
    Study(home / "searches/first/optuna.journal", sampler="random", seed=0, direction=Direction.MAXIMIZE).restore(
        ledger
    )
    for source, point in zip(known.sources, known.points, strict=True):
        name, _, number = source.partition("/")
        assert name == "first"
        wanted = ledger.entries[int(number)].params
        assert configuration_of(SPACE(Wish(point)), point) == wanted
    assert known.sources[0] == f"first/{ledger.ranked()[0].number}"


def test_without_being_asked_no_search_learns_from_another(home: Path) -> None:
    assert SearchConfig().warm_start == "off"
    assert begin(home, "new", "off") == WarmStart()


def test_where_nothing_fits_a_search_begins_as_any_other(home: Path, tmp_path: Path) -> None:
    known = begin(home, "new", "auto", metric="loss")
    assert known == WarmStart()
    assert known.lines() == ["no earlier search in this home fits"]
    assert begin(tmp_path, "new", "auto") == WarmStart()


def test_a_search_named_is_taken_whatever_its_data(home: Path) -> None:
    assert {source.partition("/")[0] for source in begin(home, "new", "other").sources} == {"other"}


def test_a_search_that_is_not_there_is_refused_with_the_nearest_name(home: Path) -> None:
    with pytest.raises(ValueError, match=r"'firts'; did you mean 'first'.*must be auto, off or a search of this home"):
        begin(home, "new", "firts")


def test_what_the_space_lacks_is_left_out_and_said(home: Path) -> None:
    config, folder = open_new(home, "narrow", warm_start="auto")
    space = DefaultSpace(ARCHITECTURES, {"dropout": parse_range("dropout", "0.55:0.6")})
    known = warm_start(config, folder, space, data_hash="aaa", task="lungs")
    assert len(known.points) < NUM_POINTS
    assert known.skipped
    assert known.lines()[-1].endswith("are not in the space of this search")
    folder.discard()
    config, folder = open_new(home, "nothing", warm_start="first")
    with pytest.raises(ValueError, match="could try: 6 trials, such as first/"):
        warm_start(config, folder, DefaultSpace(("vgg16",)), data_hash="aaa", task="lungs")
    folder.discard()


def test_a_resumed_search_has_the_points_that_it_began_with(home: Path) -> None:
    config, folder = open_new(home, "again", warm_start="auto")
    first = warm_start(config, folder, SPACE, data_hash="aaa", task="lungs")
    folder.update_record(data_hash="aaa", data_name="lungs")
    second = warm_start(config, folder, SPACE, data_hash="other", task="other")
    assert [dict(point) for point in second.points] == [dict(point) for point in first.points]
    assert list(second.sources) == list(first.sources)
    folder.discard()


def test_bad_knowledge_costs_a_few_epochs() -> None:
    """Three points that are worth nothing, and then good ones: one of the three goes on, while there are no others."""
    rule = Promotion((1, 3, 9))
    epochs = dict.fromkeys(range(40), 0)
    begun = 0
    while (decision := rule.next(may_begin=begun < 40)) is not None:
        if isinstance(decision, New):
            number, begun = begun, begun + 1
            rule.begin(number, {})
        else:
            number = decision.number
        for epoch in range(epochs[number] + 1, rule.board.trials[number].until + 1):
            rule.report(number, epoch, 0.1 if number < NUM_POINTS else 0.5 + number / 100)
            epochs[number] = epoch
    assert sorted(epochs[number] for number in range(NUM_POINTS)) == [1, 1, 3]
    assert max(epochs.values()) == 9


@pytest.mark.parametrize("name", ["search.json", "optuna.journal"])
def test_a_search_that_cannot_be_read_is_none_to_learn_from(name: str, tmp_path: Path) -> None:
    for search, seed in (("whole", 1), ("damaged", 2)):
        folder = record_search(tmp_path, search, num_trials=6, max_epochs=3, seed=seed)
        folder.update_record(data_hash="aaa", data_name="lungs")
        folder.splits_file.touch()
    (folder.folder / "search.json.good").unlink()
    content = {"search.json": json.dumps(folder.read_record() | {"config": None}), "optuna.journal": "{}\n"}
    (folder.folder / name).write_text(content[name])
    assert {source.partition("/")[0] for source in begin(tmp_path, "new", "auto").sources} == {"whole"}
