"""A registered champion on another labelled set: real files, a real registry."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import ctsearch
from search.champion.external import score_all
from search.cli import main
from tests.conftest import FinishedSearch


def test_the_champion_is_scored_on_another_set_with_intervals_over_its_patients(
    finished_search: FinishedSearch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from trainable.images.synthetic import write_synthetic_set

    other = write_synthetic_set(tmp_path / "other", num_patients=12, slices_per_patient=2, image_size=48)
    (next((other / "covid").iterdir()) / "broken.png").write_bytes(b"not an image")
    given = ["evaluate", "finished-model", "--data", str(other), "--home", str(finished_search.home)]
    given += ["--tracking-uri", finished_search.uri]
    assert main(given) == 2, "a file that cannot be used is said, not dropped"
    assert "broken.png" in capsys.readouterr().err
    assert main([*given, "--skip-bad-images", "--json", str(tmp_path / "found.json")]) == 0
    shown = capsys.readouterr().out
    assert "Read as:" in shown and "24 slices of 12 patients" in shown and "images of 48 px" in shown
    assert "1 files could not be used" in shown
    found = json.loads((tmp_path / "found.json").read_text())
    assert 0 <= found["test_auc_low"] <= found["test_auc"] <= found["test_auc_high"] <= 1
    assert found["test_num_slices"] == 24 and found["test_patients_num_slices"] == 24
    assert 0 <= found["test_unlike_training"] <= 1


def test_a_set_of_other_classes_is_refused_and_passed_over_at_the_end_of_a_search(
    finished_search: FinishedSearch, synthetic_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(synthetic_folder / "covid", tmp_path / "other" / "pneumonia")
    shutil.copytree(synthetic_folder / "normal", tmp_path / "other" / "normal")
    with pytest.raises(ValueError, match="has the classes normal, pneumonia, the model knows covid, normal"):
        ctsearch.evaluate(
            tmp_path / "other", "finished-model", home=finished_search.home, tracking_uri=finished_search.uri
        )
    sets = {"other": str(tmp_path / "other"), "same": str(synthetic_folder)}
    (score,) = score_all(sets, finished_search.folder / "models", cache_dir=tmp_path / "cache", num_workers=1)
    assert score.name == "same" and score.to_metrics("external_same")["external_same_num_slices"] == 90
    assert "not scored on --external other" in caplog.text


def test_a_further_set_that_is_not_there_is_said_before_anything_is_trained(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"external far is .*there is no such folder"):
        ctsearch.search(home=tmp_path, external={"far": str(tmp_path / "far")}, progress=False)
