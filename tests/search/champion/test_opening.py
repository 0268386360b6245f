"""The opening of the sealed test: once for one model, counted across searches."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from search.champion.opening import SealedTestError, read_opening, record_opening


def test_the_same_champion_goes_on_and_another_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "first"
    folder.mkdir()
    opening = record_opening(folder, search="first", members=(3,), data_hash="abc")
    assert opening.num_openings == 1
    assert record_opening(folder, search="first", members=(3,), data_hash="abc") == opening
    with pytest.raises(SealedTestError, match=r"opened for trial 3 .* for trial 4"):
        record_opening(folder, search="first", members=(4,), data_hash="abc")


def test_openings_of_the_same_data_are_counted_across_searches(tmp_path: Path) -> None:
    counts = []
    for name, data_hash in (("a", "abc"), ("b", "other"), ("c", "abc"), ("d", "abc")):
        (tmp_path / name).mkdir()
        opening = record_opening(tmp_path / name, search=name, members=(0,), data_hash=data_hash)
        counts.append(opening.num_openings)
    assert counts == [1, 1, 2, 3]


def test_an_ensemble_is_known_by_its_members_and_an_old_record_by_its_trial(tmp_path: Path) -> None:
    folder = tmp_path / "first"
    folder.mkdir()
    opening = record_opening(folder, search="first", members=(5, 1, 3), data_hash="abc")
    assert opening.members == (1, 3, 5)
    assert record_opening(folder, search="first", members=(3, 5, 1), data_hash="abc") == opening
    with pytest.raises(SealedTestError, match=r"for trials 1, 3 and 5 .* for trial 3 too"):
        record_opening(folder, search="first", members=(3,), data_hash="abc")
    left = record_opening(folder, search="first", members=(3, 5), data_hash="abc", others_are_lost=True)
    assert (left.members, left.earlier, left.num_openings) == ((3, 5), ((1, 3, 5),), 2)
    assert left.warning is not None and "lost a checkpoint, after its sealed test had been opened" in left.warning
    with pytest.raises(SealedTestError, match="for trials 3 and 5"):
        record_opening(folder, search="first", members=(3, 4), data_hash="abc", others_are_lost=True)
    old = {"search": "old", "champion": 7, "data_hash": "abc", "opened_at": opening.opened_at, "num_openings": 1}
    (tmp_path / "sealed_test.json").write_text(json.dumps(old))
    assert read_opening(tmp_path / "sealed_test.json") == replace(opening, search="old", members=(7,))


def test_a_damaged_record_is_not_taken_for_none(tmp_path: Path) -> None:
    folder = tmp_path / "first"
    folder.mkdir()
    (folder / "sealed_test.json").write_text('{"search": "fir')
    with pytest.raises(SealedTestError, match=r"sealed_test\.json is damaged"):
        record_opening(folder, search="first", members=(3,), data_hash="abc")
