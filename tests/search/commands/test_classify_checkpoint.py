"""`ctsearch classify` by a checkpoint of a trial: rebuilt from its search, refused where it is damaged."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from search.cli import main
from search.commands.inputs import list_files
from tests.search.commands.test_classify import small_checkpoint as small_checkpoint
from trainable.architectures import build_model
from trainable.checkpoint import CheckpointStore
from trainable.classifier import build_explainer, load_checkpoint
from trainable.config import TrialConfig
from trainable.images.decode import decode_slice

OWN_MODEL = """
from torch import nn

def build(num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(32 * 32, num_classes))
"""


def test_a_checkpoint_of_an_own_model_is_rebuilt_from_its_search(synthetic_folder: Path, tmp_path: Path) -> None:
    model = build_model(TrialConfig(architecture="model.py:build"), 2, source=OWN_MODEL)
    folder = tmp_path / "searches" / "own" / "trials" / "0000"
    facts = {"config": {"architecture": "model.py:build"}, "classes": ["a", "b"], "image_size": 32, "epoch": 3}
    CheckpointStore(folder).save("best", {"model": model.state_dict()}, facts)
    with pytest.raises(ValueError, match="whose code is not in"):
        load_checkpoint(folder)
    record = {"nets": {"sources": {"model.py:build": OWN_MODEL}}}
    (tmp_path / "searches" / "own" / "search.json").write_text(json.dumps(record))
    classifier = load_checkpoint(folder)
    assert classifier.likeness is None
    pixels = torch.from_numpy(decode_slice(list_files([synthetic_folder])[0], 32))[None]
    torch.testing.assert_close(classifier.predict(pixels).sum(), torch.tensor(1.0))
    with pytest.raises(ValueError, match="there is no feature map"):
        build_explainer(classifier)


def _cut_state(folder: Path) -> None:
    (state,) = folder.glob("best-*.pt")
    state.write_bytes(state.read_bytes()[:500])


def _change_facts(folder: Path, **facts: object) -> None:
    loaded = CheckpointStore(folder).load("best")
    assert loaded is not None
    CheckpointStore(folder).save("best", loaded[0], loaded[1] | facts)


def _overwrite_record(folder: Path, text: str) -> None:
    for name in ("best.json", "best.good.json"):
        (folder / name).write_text(text)


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (_cut_state, "the `best` checkpoint in .* is damaged"),
        (lambda folder: _overwrite_record(folder, '{"file": '), "is no `best` checkpoint"),
        (lambda folder: _overwrite_record(folder, '{"epoch": 3}'), "is no `best` checkpoint"),
        (lambda folder: _overwrite_record(folder, "[1]"), "is no `best` checkpoint"),
        (lambda folder: _change_facts(folder, config={"architecture": "no_such"}), "cannot be used: .*no_such"),
        (lambda folder: _change_facts(folder, config=3), "cannot be used: "),
        (lambda folder: _change_facts(folder, config={"architecture": "resnet18"}), "cannot be used: .*state_dict"),
        (lambda folder: _change_facts(folder, image_size=None), "cannot be used: "),
        (lambda folder: (folder.parents[1] / "search.json").write_text('{"nets": '), "cannot be used: "),
        (lambda folder: (folder.parents[1] / "likeness.json").write_text('{"nets": 3}'), "cannot be used: .*slices"),
    ],
)
def test_foreign_and_cut_checkpoints_are_one_line_that_names_them(
    harm: Callable[[Path], object], reason: str, small_checkpoint: Path
) -> None:
    harm(small_checkpoint)
    with pytest.raises(ValueError, match=reason) as caught:
        load_checkpoint(small_checkpoint)
    assert str(small_checkpoint) in str(caught.value) and str(caught.value).isprintable()


def test_another_tools_checkpoint_is_named(tmp_path: Path) -> None:
    torch.save({"state_dict": {"weight": torch.zeros(2)}}, file := tmp_path / "resnet.pt")
    with pytest.raises(ValueError, match=r"resnet\.pt is no `best` checkpoint of this version"):
        load_checkpoint(file)


def test_weights_without_numbers_are_refused(small_checkpoint: Path) -> None:
    loaded = CheckpointStore(small_checkpoint).load("best")
    assert loaded is not None
    weights = {name: tensor * float("nan") for name, tensor in loaded[0]["model"].items()}
    CheckpointStore(small_checkpoint).save("best", {"model": weights}, loaded[1])
    with pytest.raises(ValueError, match="cannot be used: its weights hold NaN or infinities, as "):
        load_checkpoint(small_checkpoint)


def test_no_table_is_written_over_another_or_over_an_image(
    small_checkpoint: Path, synthetic_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = tmp_path / "slice.png"
    image.write_bytes(before := list_files([synthetic_folder])[0].read_bytes())
    given = ["classify", str(image), "--model", str(small_checkpoint)]
    assert main([*given, "--csv", str(image)]) == 2
    assert f"--csv is {image}, which is to be classified" in capsys.readouterr().err and image.read_bytes() == before
    assert main([*given, "--csv", str(tmp_path / "t"), "--json", str(tmp_path / "t")]) == 2
    assert "which is the table of --csv too" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["classify", ""], "it is empty; give a path"),
        (["classify", "x", "--csv", ""], "it is empty; give a path"),
        (["classify", "x", "--home", ""], "it is empty; give a path"),
        (["export", "--onnx", ""], "it is empty; give a path"),
        (["status", "x", "--home", " "], "it is empty; give a path"),
        (["export", "--onnx", "x.onnx", "--model", ""], "--model is empty; leave it out for the champion"),
        (["export", "--onnx", "x.onnx", "--model", "searches/a/trials/0001"], "there is no such checkpoint"),
        (["export", "--onnx", "gone/x.onnx", "--model", "searches/a/trials/0001"], "there is no folder gone"),
        (["models", "--arch", ""], "--arch is ''; it must be names"),
        (["search", "--resume", ""], "there is no search ''"),
    ],
    ids=lambda given: " ".join(given) if isinstance(given, list) else None,
)
def test_what_is_empty_or_not_there_is_said_at_once(
    command: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CTSEARCH_HOME", str(tmp_path))
    try:
        status: object = main(command)
    except SystemExit as ended:
        status = ended.code
    assert status == 2 and words in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [], "nothing has begun"
