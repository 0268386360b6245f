from __future__ import annotations

import json
from pathlib import Path

import pytest

from search.core.folder import create_search, default_home, list_searches, make_name, reopen_search, write_json


def test_a_taken_name_is_refused_and_resume_is_named(tmp_path: Path) -> None:
    create_search(tmp_path, "first", {}).release()
    with pytest.raises(ValueError, match="--resume first"):
        create_search(tmp_path, "first", {})


def test_a_name_that_leaves_the_folder_is_refused(tmp_path: Path) -> None:
    for name in ("../up", "a/b", ".hidden", ""):
        if name:
            with pytest.raises(ValueError, match="--name"):
                create_search(tmp_path, name, {})


def test_without_a_name_the_date_is_taken(tmp_path: Path) -> None:
    assert create_search(tmp_path, None, {}).name.startswith("search-20")
    assert make_name().startswith("search-20")


def test_an_unknown_search_lists_the_known(tmp_path: Path) -> None:
    create_search(tmp_path, "first", {}).release()
    with pytest.raises(ValueError, match=r"no search 'second'.*first"):
        reopen_search(tmp_path, "second")


def test_a_running_search_cannot_be_opened_twice(tmp_path: Path) -> None:
    home = create_search(tmp_path, "first", {})
    with pytest.raises(ValueError, match="running in another process"):
        reopen_search(tmp_path, "first")
    home.release()
    assert reopen_search(tmp_path, "first").resumed


def test_the_record_keeps_what_it_is_not_asked_to_change(tmp_path: Path) -> None:
    home = create_search(tmp_path, "first", {"seed": 3})
    home.update_record(plans={"a": 1})
    assert home.read_record() == {"seed": 3, "plans": {"a": 1}}


def test_a_discarded_search_frees_its_name(tmp_path: Path) -> None:
    create_search(tmp_path, "first", {}).discard()
    assert list_searches(tmp_path) == []
    create_search(tmp_path, "first", {})


def test_writing_json_leaves_nothing_aside(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"path": Path("x")})
    assert json.loads((tmp_path / "a.json").read_text()) == {"path": "x"}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_the_home_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CTSEARCH_HOME", str(tmp_path))
    assert default_home() == tmp_path
    monkeypatch.delenv("CTSEARCH_HOME")
    assert default_home() == Path.home() / ".ctsearch"
