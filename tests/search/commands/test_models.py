from __future__ import annotations

import pytest

from search.cli import main


def test_models_are_listed_with_what_they_cost(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--arch", "small_cnn,squeezenet1_1", "--image-size", "32", "--batch-size", "4"]) == 0
    shown = capsys.readouterr().out
    assert "parameters" in shown
    assert "0.72 M" in next(line for line in shown.splitlines() if line.startswith("squeezenet1_1"))
    assert "Images of 32 px; training steps of 4" in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_one_model_is_shown_layer_by_layer(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "mobilenet_v3_small", "--image-size", "64"]) == 0
    shown = capsys.readouterr().out
    assert "[1, 16, 32, 32]" in shown
    assert "Total params: 1,519,618" in shown


def test_an_unknown_model_names_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--arch", "resnet19"]) == 2
    shown = capsys.readouterr().err
    assert "unknown architecture 'resnet19'; did you mean 'resnet18' or " in shown
    assert "it must be one of small_cnn" in shown
    assert main(["models", "resnet19"]) == 2
    assert main(["models", "--arch", "timm:efficientnet_lite99"]) == 2
    assert "has no model 'efficientnet_lite99'; near are timm:" in capsys.readouterr().err


def test_timms_models_are_listed_beside_ours(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("timm", reason="timm is an optional dependency")
    assert main(["models", "--arch", "small_cnn,timm:mobilenetv3_small_050", "--image-size", "32"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("timm:mobilenetv3_small_050") and "0.57 M" in line for line in lines), lines
    assert main(["models", "timm:mobilenetv3_small_050", "--image-size", "32"]) == 0
    assert "Total params: 5" in capsys.readouterr().out


@pytest.mark.parametrize(
    "options",
    [
        ["--batch-size", "0"],
        ["--image-size", "100000"],
        ["--threads", "-1"],
        ["--image-size", "0"],
        ["small_cnn", "--image-size", "-5"],
    ],
    ids=" ".join,
)
def test_sizes_are_above_zero(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", *options]) == 2
    assert "; it must be between 1 and 4096" in capsys.readouterr().err
