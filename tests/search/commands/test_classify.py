from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from mlflow import MlflowClient
from PIL import Image

from benchmarks.not_ct import draw_kind
from search.cli import main
from search.commands.answer_tables import open_csv, open_json_lines
from search.commands.chosen_model import find_champion
from search.commands.classify import classify as classify_paths
from search.commands.inputs import list_files
from search.commands.overlays import name_overlay
from tests.conftest import FinishedSearch
from trainable.answers import Answer, classify_files
from trainable.architectures import build_model
from trainable.checkpoint import CheckpointStore
from trainable.classifier import Classifier
from trainable.config import TrialConfig
from trainable.images.decode import decode_slice


def classify(search: FinishedSearch, *arguments: str) -> int:
    return main(["classify", *arguments, "--tracking-uri", search.uri, "--home", str(search.home)])


def test_the_champion_and_its_checkpoint_say_the_same_of_every_file(
    finished_search: FinishedSearch,
    synthetic_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (aside := tmp_path / "aside").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(aside))
    folder = str(next(synthetic_folder.glob("covid/*")))
    table, lines = tmp_path / "found.csv", tmp_path / "found.json"
    assert (
        classify(finished_search, folder, "--model", "finished-model", "--csv", str(table), "--json", str(lines)) == 0
    )
    assert not list(aside.iterdir()), "no copy of the model is left behind"
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
    finished_search: FinishedSearch, synthetic_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.png").write_text("no picture")
    good = str(next(synthetic_folder.glob("normal/*/*.png")))
    assert classify(finished_search, str(tmp_path), good, "--model", "finished-model") == 1
    captured = capsys.readouterr()
    assert good in captured.out
    assert "notes.png: its content is neither DICOM nor an image" in captured.err
    assert "1 of 2 files could not be used" in captured.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.png"], "there is no file or folder nowhere.png"),
        (["README.md", "--model", "README.md"], "README.md is no `best` checkpoint"),
        (["README.md", "--model", "no-such-model"], "no-such-model cannot be loaded"),
        (["README.md", "--model", "models:/finished-model-images@champion"], "is no pixel model of ctsearch"),
        (["README.md", "--model", "tests"], "tests is no `best` checkpoint"),
    ],
)
def test_bad_input_is_an_error_that_says_what_to_give(
    finished_search: FinishedSearch, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert classify(finished_search, *arguments) == 2
    assert message in capsys.readouterr().err


def test_ten_thousand_files_are_never_all_in_memory(synthetic_folder: Path) -> None:
    file, num_asked = list_files([synthetic_folder])[0], 0

    def ask() -> Iterator[Path]:
        nonlocal num_asked
        for _ in range(10_000):
            num_asked += 1
            yield file

    def predict(pixels: torch.Tensor) -> torch.Tensor:
        return torch.full((len(pixels), 2), 0.5)

    classifier = Classifier(label="even", classes=("a", "b"), image_size=32, predict=predict)
    found = classify_files(ask(), classifier)
    path, answer = next(found)
    assert path == file
    assert isinstance(answer, Answer)
    assert num_asked <= 64


def test_an_image_that_is_no_slice_gets_a_word_and_the_reason(
    finished_search: FinishedSearch, synthetic_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for kind in ("photos", "noise", "pages"):
        next(iter(draw_kind(kind, 1))).save(tmp_path / f"{kind}.png")
    slices = next(synthetic_folder.glob("covid/*"))
    table, lines = tmp_path / "found.csv", tmp_path / "found.json"
    arguments = [*map(str, sorted(tmp_path.glob("*.png"))), str(slices), "--model", "finished-model"]
    assert classify(finished_search, *arguments, "--csv", str(table), "--json", str(lines)) == 0
    shown = capsys.readouterr().out
    assert f"not a chest CT?  {tmp_path / 'photos.png'}: " in shown
    assert "Doubted      3 of 6 files may be no chest CT" in shown
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert [(row["class"] == "not a chest CT?", row["probability"] == "", row["doubt"] != "") for row in rows] == (
        [(True,) * 3] * 3 + [(False,) * 3] * 3
    )
    assert json.loads(lines.read_text().splitlines()[0])["probability"] is None
    assert all(float(row["probability_covid"]) + float(row["probability_normal"]) > 0.999 for row in rows)


def test_explanations_lie_beside_the_table_as_the_files_lie_to_each_other(
    finished_search: FinishedSearch, synthetic_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "found.csv"
    folders = [str(path) for path in sorted(synthetic_folder.glob("covid/*"))[:2]]
    assert classify(finished_search, *folders, "--model", "finished-model", "--csv", str(table), "--explain") == 0
    assert f"Explained    {tmp_path / 'found-explained'}/" in capsys.readouterr().out
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert len({row["explanation"] for row in rows}) == len(rows) == 6
    for row in rows:
        path = Path(row["path"])
        assert Path(row["explanation"]) == tmp_path / "found-explained" / path.parent.name / f"{path.name}.cam.png"
        with Image.open(row["explanation"]) as overlay:
            assert overlay.width > 2 * 448

    checkpoint = next((finished_search.folder / "trials").glob(f"{finished_search.record['champion']:04d}/best-*.pt"))
    again = tmp_path / "again.csv"
    assert classify(finished_search, *folders, "--model", str(checkpoint), "--csv", str(again), "--explain") == 0
    for row in rows:
        other = row["explanation"].replace("found-explained", "again-explained")
        difference = np.abs(np.asarray(Image.open(row["explanation"]), int) - np.asarray(Image.open(other), int))
        assert difference.max() <= 3, "the registered model and its checkpoint explain alike"


def test_the_champion_is_exported_to_onnx(
    finished_search: FinishedSearch, synthetic_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "champion.onnx"
    place = ["--tracking-uri", finished_search.uri, "--home", str(finished_search.home)]
    assert main(["export", "--onnx", str(file), "--model", "finished-model", *place]) == 0
    shown = capsys.readouterr().out
    assert "Input        pixels, uint8 (N, 64, 64)" in shown
    assert "Output       probabilities, float32 (N, 2): covid, normal" in shown
    files = list_files([synthetic_folder])[::10]
    table = tmp_path / "found.csv"
    assert classify(finished_search, *map(str, files), "--model", "finished-model", "--csv", str(table)) == 0
    pixels = np.stack([decode_slice(path, 64) for path in files])
    (found,) = onnxruntime.InferenceSession(file).run(None, {"pixels": pixels})
    expected = [float(row["probability_covid"]) for row in csv.DictReader(table.read_text().splitlines())]
    np.testing.assert_allclose(found[:, 0], expected, atol=1e-4)
    assert main(["export", "--onnx", str(file), "--model", "no-such-model", *place]) == 2


@pytest.fixture
def small_checkpoint(tmp_path: Path) -> Path:
    """The folder of a trial whose model says something of every image."""
    folder = tmp_path / "searches" / "small" / "trials" / "0000"
    config = {"architecture": "small_cnn"}
    facts = {"config": config, "classes": ["covid", "normal"], "image_size": 32, "epoch": 3}
    model = build_model(TrialConfig(architecture="small_cnn"), 2)
    CheckpointStore(folder).save("best", {"model": model.state_dict()}, facts)
    return folder


def test_every_file_gets_a_row_and_none_ends_the_run(
    small_checkpoint: Path, synthetic_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = next(synthetic_folder.glob("covid/*/*.png")).read_bytes()
    (folder := tmp_path / "slices").mkdir()
    long, odd = "y" * 246 + ".png", os.fsdecode(b"odd \xff\n.png")
    good = ["a.png", "Übersicht 肺.png", odd, long, "z.png"]
    for name in good:
        (folder / name).write_bytes(content)
    (folder / "cut.png").write_bytes(content[:60])
    (folder / "link.png").symlink_to(tmp_path / "gone.png")
    os.mkfifo(folder / "pipe.png")
    (folder / "archive.zip").write_bytes(b"PK\3\4")
    for hidden in (".hidden.png", ".cache/inner.png", "Thumbs.db", "__MACOSX/a.png"):
        (folder / hidden).parent.mkdir(exist_ok=True)
        (folder / hidden).write_bytes(content)
    (folder / "loop").symlink_to(folder)
    table, lines = tmp_path / "found.csv", tmp_path / "found.json"
    assert (
        classify_paths(
            [folder], model=str(small_checkpoint), home=tmp_path, csv_file=table, json_file=lines, explain=True
        )
        == 1
    )
    with table.open(newline="", encoding="utf-8") as file:
        rows = {Path(row["path"]).name: row for row in csv.DictReader(file)}
    shown = os.fsencode(odd).decode("utf-8", "backslashreplace")
    assert set(rows) == {*good, "cut.png", "link.png", "pipe.png", "archive.zip"} - {odd} | {shown}
    bad = {name: row["error"] for name, row in rows.items() if row["error"]}
    assert set(bad) == {"cut.png", "link.png", "pipe.png", "archive.zip"}
    assert bad["link.png"] == f"{folder / 'link.png'}: No such file or directory"
    assert bad["pipe.png"].endswith("a named pipe, not a file")
    assert bad["archive.zip"].endswith("a zip archive; unpack it first")
    assert all(rows[name]["class"] == rows[name]["probability"] == rows[name]["explanation"] == "" for name in bad)
    assert all(Path(rows[name]["explanation"]).is_file() for name in ("a.png", long, "z.png"))
    records = [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines()]
    assert [record["path"] for record in records] == [row["path"] for row in rows.values()]
    assert [bool(record["error"]) for record in records] == [bool(row["error"]) for row in rows.values()]
    captured = capsys.readouterr()
    assert captured.err.count("\n") == len(bad) + 1 and "4 of 9 files could not be used" in captured.err
    assert r"odd \xff\n.png" in captured.out


def test_masks_beside_images_are_left_out_and_told_unless_they_are_given_themselves(tmp_path: Path) -> None:
    for name in ("1.png", "1_mask.png", "more/2.png", "masks/1.png", "masks/.hidden"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "masks/loop").symlink_to(tmp_path)
    told: list[str] = []
    assert list_files([tmp_path], told) == [tmp_path / "1.png", tmp_path / "more/2.png"]
    assert told == [
        f"{tmp_path / 'masks'} (1 files): masks are not read",
        f"1 files of {tmp_path} (1_mask.png): masks are not read",
    ]
    (tmp_path / "masks/loop").unlink()
    given = [tmp_path / "1_mask.png", tmp_path / "masks"]
    assert list_files(given) == [tmp_path / "1_mask.png", tmp_path / "masks/1.png"]


def test_a_row_is_in_the_table_as_soon_as_it_is_known(tmp_path: Path) -> None:
    with open_csv(table := tmp_path / "found.csv") as add, open_json_lines(lines := tmp_path / "found.json") as note:
        for number in range(3):
            for write in (add, note):
                write({"path": f"slices/{number}.png", "class": "covid"})
            assert len(table.read_text().splitlines()) == number + 2
            assert len(lines.read_text().splitlines()) == number + 1


def test_names_of_overlays_fit_and_stay_apart() -> None:
    assert name_overlay("a.png") == "a.png.cam.png"
    names = [name_overlay(letter * 200 + str(number)) for letter in ("x", "é") for number in range(2)]
    names += [name_overlay("y" * 250 + str(number)) for number in range(2)]
    assert len(set(names)) == 6
    assert all(len(os.fsencode(name)) <= 255 and name.endswith(".cam.png") for name in names)


def test_large_images_are_not_kept_while_others_wait(tmp_path: Path) -> None:
    Image.new("L", (6000, 5000), 90).save(file := tmp_path / "large.png")
    classifier = Classifier(
        label="even", classes=("a", "b"), image_size=32, predict=lambda pixels: torch.full((len(pixels), 2), 0.5)
    )
    (_, answer), *_ = classify_files([file] * 2, classifier)
    assert isinstance(answer, Answer) and answer.image is None

    class Even:
        def explain(self, pixels: torch.Tensor) -> np.ndarray:
            return np.zeros(pixels.shape, np.float32)

    (_, answer), *_ = classify_files([file] * 2, classifier, explainer=Even())  # type: ignore[arg-type]
    assert isinstance(answer, Answer) and answer.image is not None
    assert max(answer.image.size) <= 2048
