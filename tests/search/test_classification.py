from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from mlflow import MlflowClient

from search.classification import find_champion, list_files
from search.cli import main
from tests.conftest import FinishedSearch
from trainable.classify import Classifier, classify_files


def classify(search: FinishedSearch, *arguments: str) -> int:
    return main(["classify", *arguments, "--tracking-uri", search.uri, "--home", str(search.home)])


def test_the_champion_and_its_checkpoint_say_the_same_of_every_file(
    finished_search: FinishedSearch, made_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(next(made_folder.glob("covid/*")))
    table, lines = tmp_path / "found.csv", tmp_path / "found.json"
    assert (
        classify(finished_search, folder, "--model", "finished-model", "--csv", str(table), "--json", str(lines)) == 0
    )
    assert "MLFLOW_TRACKING_URI" not in os.environ, "what follows in this process is not sent elsewhere"
    shown = capsys.readouterr().out
    assert "Model        models:/finished-model/1, trial " in shown
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert [row["path"] for row in rows] == sorted(str(path) for path in Path(folder).glob("*.png"))
    assert [json.loads(line)["class"] for line in lines.read_text().splitlines()] == [row["class"] for row in rows]
    for row in rows:
        assert f"{row['class']}  {float(row['probability']):.4f}  {row['path']}" in shown
        assert float(row["probability_covid"]) + float(row["probability_normal"]) == pytest.approx(1, abs=1e-6)

    number = finished_search.record["champion"]
    checkpoint = str(finished_search.folder / "trials" / f"{number:04d}")
    again = tmp_path / "again.csv"
    assert classify(finished_search, folder, "--model", checkpoint, "--csv", str(again)) == 0
    for row, other in zip(rows, csv.DictReader(again.read_text().splitlines()), strict=True):
        assert float(row["probability_covid"]) == pytest.approx(float(other["probability_covid"]), abs=1e-6)


def test_without_a_model_the_champion_crowned_last_is_taken(finished_search: FinishedSearch) -> None:
    uri = find_champion(MlflowClient(finished_search.uri))
    name, version = uri.removeprefix("models:/").split("/")
    assert not name.endswith("-images")
    assert str(finished_search.client.get_model_version_by_alias(name, "champion").version) == version


def test_a_file_that_cannot_be_used_is_named_and_the_others_are_classified(
    finished_search: FinishedSearch, made_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.png").write_text("no picture")
    good = str(next(made_folder.glob("normal/*/*.png")))
    assert classify(finished_search, str(tmp_path), good, "--model", "finished-model") == 1
    captured = capsys.readouterr()
    assert good in captured.out
    assert "notes.png: its content is neither DICOM nor a picture" in captured.err
    assert "1 of 2 files could not be used" in captured.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.png"], "there is no file or folder nowhere.png"),
        (["README.md", "--model", "no-such-model"], "no-such-model cannot be loaded"),
        (["README.md", "--model", "models:/finished-model-images@champion"], "is no pixel model of ctsearch"),
        (["README.md", "--model", "tests"], "tests holds no `best` checkpoint"),
    ],
)
def test_bad_input_is_an_error_that_says_what_to_give(
    finished_search: FinishedSearch, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert classify(finished_search, *arguments) == 2
    assert message in capsys.readouterr().err


def test_ten_thousand_files_are_never_all_in_memory(made_folder: Path) -> None:
    file, num_asked = list_files([made_folder])[0], 0

    def ask() -> Iterator[Path]:
        nonlocal num_asked
        for _ in range(10_000):
            num_asked += 1
            yield file

    def predict(pixels: torch.Tensor) -> torch.Tensor:
        return torch.full((len(pixels), 2), 0.5)

    classifier = Classifier(label="even", classes=("a", "b"), image_size=32, predict=predict)
    found = classify_files(ask(), classifier)
    path, row = next(found)
    assert path == file
    assert isinstance(row, np.ndarray)
    assert num_asked <= 64
