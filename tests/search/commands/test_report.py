from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest

import ctsearch
from benchmarks.curve_tables import read_tables
from search.cli import main
from search.commands.report import look_into
from search.core.config import SearchConfig
from search.core.curve_file import read_curves
from search.core.folder import SearchFolder, create_search
from search.engine.study_file import StudyFile
from tests.search.recorded import record_search


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> SearchFolder:
    return record_search(tmp_path_factory.mktemp("home"), "first", num_trials=16, max_epochs=9)


def test_the_page_of_a_search_lies_in_its_folder(ended: SearchFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "first", "--home", str(ended.home)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"\S+ more is expected of the best next step, .+, for \d+ s of one worker", said[1])
    file = Path(said[0])
    assert file == ended.folder / "search.html"
    page = file.read_text()
    assert page.count("<tr data-t=") == 16
    assert "<h2>What is left to gain</h2>" in page
    assert "is expected to add" in page


def test_a_champion_is_on_the_page_with_its_sealed_test(ended: SearchFolder, tmp_path: Path) -> None:
    figures = {"champion": 3, "members": [3, 1], "params": {"architecture": "resnet18"}, "metric": "auc"}
    figures |= {"validation_value": 0.91, "model_name": "m", "version": "2", "alias": "champion"}
    figures |= {"test_auc": 0.88, "test_auc_low": 0.8, "test_auc_high": 0.93, "test_can_tell": "6 points"}
    result = ended.folder / "result.json"
    result.write_text(json.dumps(figures))
    try:
        assert main(["report", "first", "--home", str(ended.home), "--out", str(tmp_path / "page.html")]) == 0
    finally:
        result.unlink()
    page = (tmp_path / "page.html").read_text()
    for text in ("0.9100", "the mean of 2 trials", "95 %: 0.800 to 0.930", "m version 2 as champion", "6 points"):
        assert text in page


def test_a_running_search_has_a_page_and_its_paused_trials_are_seen(tmp_path: Path) -> None:
    folder = record_search(tmp_path, "live", num_trials=9, max_epochs=9, is_running=True)
    assert main(["report", "live", "--home", str(tmp_path)]) == 0
    page = (folder.folder / "search.html").read_text()
    assert '<span class="badge running">running</span>' in page
    assert '<span class="chip paused">paused</span>' in page
    folder.release()
    assert main(["report", "live", "--home", str(tmp_path)]) == 0
    assert "not running" in (folder.folder / "search.html").read_text()
    states = [entry.state for entry in ctsearch.open("live", home=tmp_path).trials]
    assert (states.count("paused"), states.count("completed")) == (8, 1)


def test_a_search_that_has_not_begun_a_trial_has_a_page(tmp_path: Path) -> None:
    create_search(tmp_path, "new", {"config": SearchConfig(name="new", home=tmp_path).to_record()}).release()
    assert main(["report", "new", "--home", str(tmp_path)]) == 0
    assert "No trial has begun yet." in (tmp_path / "searches" / "new" / "search.html").read_text()


def test_a_search_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["report"], ["curves", "export"]):
        assert main([*command, "none", "--home", str(tmp_path)]) == 2
        assert "there is no search 'none'" in capsys.readouterr().err


def test_the_model_of_the_curves_sees_what_is_left_to_gain(ended: SearchFolder) -> None:
    config = SearchConfig.from_record(ended.read_record()["config"])
    foresight = look_into(StudyFile(ended.journal_file), config, 9)
    assert foresight is not None
    assert 0.6 < foresight.best < 1
    rates = [prospect.rate for prospect in foresight.prospects]
    assert rates == sorted(rates, reverse=True)
    assert {prospect.number is None for prospect in foresight.prospects} == {True, False}
    assert all(prospect.gain >= 0 and math.isfinite(prospect.mean) for prospect in foresight.prospects)


def test_exported_curves_are_the_searches_own_with_seconds_and_errors(
    ended: SearchFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "first.curves.json"
    assert main(["curves", "export", "first", "--home", str(ended.home), "--out", str(file)]) == 0
    assert capsys.readouterr().out.strip() == str(file)
    curves, study = read_curves(file), StudyFile(ended.journal_file)
    assert (curves.name, curves.metric, curves.max_epochs, curves.higher_is_better) == ("first", "auc", 9, True)
    for read, known in zip(curves.trials, study.history(), strict=True):
        assert dict(read.values) == known.values
        assert dict(read.params) == known.params
        assert set(read.seconds.values()) == {1.0}
        assert set(read.standard_errors.values()) == {0.03}
        assert set(read.seconds) == set(read.standard_errors) == set(read.values)


def test_exported_curves_are_a_table_that_the_bench_can_search(ended: SearchFolder, tmp_path: Path) -> None:
    main(["curves", "export", "first", "--home", str(ended.home), "--out", str(tmp_path / "first.curves.json")])
    (table,) = read_tables(tmp_path)
    assert (table.name, len(table.params), table.max_epochs) == ("first", 16, 9)


def test_a_search_without_a_curve_exports_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    create_search(tmp_path, "new", {"config": SearchConfig(name="new", home=tmp_path).to_record()}).release()
    assert main(["curves", "export", "new", "--home", str(tmp_path)]) == 2
    assert "no trial of the search 'new' has finished an epoch" in capsys.readouterr().err
