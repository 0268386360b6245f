"""A typo is found before Ray starts and before an image is read, with the name that was meant."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from search import session
from search.core.config import SearchConfig
from search.preparation.choices import check_choices

ROOT = Path(__file__).resolve().parents[2]


def refusal(**options: Any) -> str:
    with pytest.raises(ValueError) as caught:
        check_choices(SearchConfig(**options))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"architectures": ("resnet-18",)}, ["--arch", "'resnet18'"]),
        ({"architectures": ("resnet18", "RESNET34X")}, ["--arch", "'resnet34'"]),
        ({"architectures": ("my_model.py",)}, ["--arch", "my_model.py:build"]),
        ({"architectures": ("missing.py:build",)}, ["--arch", "there is no file"]),
        ({"ranges": {"learning_rat": "1e-5:1e-3"}}, ["--range", "'learning_rate'"]),
        ({"ranges": {"optimizer": "adm,sgd"}}, ["--range optimizer=adm,sgd", "'adam'"]),
        ({"ranges": {"learning_rate": "nan:1"}}, ["learning_rate", "'nan'", "a number"]),
        ({"ranges": {"learning_rate": "1e-3:inf"}}, ["learning_rate", "'inf'", "a number"]),
        ({"ranges": {"batch_size": "1e400:2"}}, ["batch_size", "a whole number"]),
        ({"ranges": {"batch_size": "8:99999999999999999999"}}, ["--range batch_size", "between 1 and 65536"]),
        ({"ranges": {"batch_size": "9" * 5000 + ":1"}}, ["batch_size", "a whole number"]),
        ({"ranges": {"dropout": "0:1.5"}}, ["--range dropout=0:1.5", "between 0 and 0.99"]),
        ({"ranges": {"cnn_kernel": "0,3"}}, ["--range cnn_kernel=0,3", "between 1 and 15"]),
        ({"weights": {"resnet81": "file.pth"}}, ["--weights", "'resnet18'"]),
        ({"weights": {"resnet18": "missing.pth"}}, ["--weights resnet18", "there is no file"]),
        ({"weights": {"resnet18": "/dev/zero"}}, ["--weights resnet18", "a device"]),
        (
            {"architectures": ("resnet18", "vgg16"), "weights": {"vgg16_bn": __file__}},
            ["--weights names 'vgg16_bn'; did you mean 'vgg16'?", "tries only: resnet18, vgg16"],
        ),
        ({"warm_start": "last"}, ["--warm-start is 'last'", "it must be auto, off or a search of this home"]),
        ({"external": {"other": "missing"}}, ["--external other", "there is no such folder"]),
        ({"space": Path("missing.py")}, ["--space", "there is no file"]),
        ({"space": Path("/dev/zero")}, ["--space", "a device"]),
    ],
)
def test_what_nobody_has_is_named_with_what_is_near(options: dict[str, Any], words: list[str]) -> None:
    message = refusal(**options)
    assert all(word in message for word in words), message


def test_a_recipe_is_found_by_a_near_name() -> None:
    with pytest.raises(ValueError, match="did you mean 'vgg16-covidct'"):
        SearchConfig(recipes=("vgg16_covidct",))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def spaces(trial):\n    return {}\n", ["no function `space`", "'spaces'"]),
        ("x = 1\ndef space(trial:\n", ["space.py, line 2"]),
        ("", ["no function `space`"]),
    ],
)
def test_a_space_file_is_read_without_being_run(text: str, words: list[str], tmp_path: Path) -> None:
    file = tmp_path / "space.py"
    file.write_text(text)
    message = refusal(space=file)
    assert all(word in message for word in words), message
    file.write_text("import sys\nsys.exit(3)\nspace = 1\n")
    check_choices(SearchConfig(space=file))


def test_an_error_in_a_rare_branch_of_a_space_is_reported_before_anything_begins(tmp_path: Path) -> None:
    file, home = tmp_path / "my_space.py", tmp_path / "home"
    file.write_text(
        "def space(trial):\n"
        "    architecture = trial.suggest_categorical('architecture', ['small_cnn', 'resnet18', 'vgg16'])\n"
        "    depth = trial.suggest_int('head_depth', 0, 4)\n"
        "    if architecture == 'vgg16' and depth == 4:\n"
        "        return {'architecture': architecture, 'head_width': 'wide'}\n"
        "    return {'architecture': architecture, 'head_depth': depth}\n"
    )
    with pytest.raises(ValueError, match=r"--space .*my_space.py, line 5: head_width is 'wide'") as caught:
        session.search(SearchConfig(space=file, home=home, data=tmp_path))
    assert "\n" not in str(caught.value)
    assert not home.exists()


def test_folders_without_a_file_are_no_data(tmp_path: Path) -> None:
    (tmp_path / "covid" / "patient").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"--data is .*, and there is no file in it; a data folder holds CLASS/slice"):
        check_choices(SearchConfig(data=tmp_path))
    (tmp_path / "covid" / "patient" / "slice.png").touch()
    check_choices(SearchConfig(data=tmp_path))


def test_pipes_do_not_hang(tmp_path: Path) -> None:
    for name in ("a.py", "weights.pth"):
        os.mkfifo(tmp_path / name)
    assert "a named pipe" in refusal(space=tmp_path / "a.py")
    assert "a named pipe" in refusal(architectures=(f"{tmp_path}/a.py:build",))
    assert "a named pipe" in refusal(weights={"resnet18": str(tmp_path / "weights.pth")})


def test_a_broken_model_file_is_reported_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "model.py"
    file.write_text("import torch\n\ndef build(num_classes)\n    return 1\n")
    assert "model.py, line 3" in refusal(architectures=(f"{file}:build",))
    file.write_text("def build_model(num_classes):\n    return 1\n")
    assert "'build_model'" in refusal(architectures=(f"{file}:buildmodel",))


def test_what_is_right_is_taken(tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    file.write_bytes(b"looked at later")
    check_choices(
        SearchConfig(
            architectures=("resnet18",), ranges={"learning_rate": "1e-5:1e-3"}, weights={"resnet18": str(file)}
        )
    )
    check_choices(SearchConfig(recipes=("cnn-rmsprop",), weights={"imagenet": ""}))


def test_nothing_heavy_is_imported() -> None:
    code = (
        "import sys; from search.preparation.choices import check_choices; "
        "from search.core.config import SearchConfig; "
        "check_choices(SearchConfig(architectures=('resnet18',), ranges={'dropout': '0:0.5'})); "
        "print(sorted({'torch', 'ray', 'mlflow', 'optuna', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
