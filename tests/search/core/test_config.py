from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from search.cli import main, read_config
from search.command_parser import build_parser
from search.core.config import OPTIONS as FIELDS
from search.core.config import SearchConfig
from search.core.option_values import parse_bytes, parse_duration_s
from search.core.options import OptionError, to_arguments
from trainable.images.pixel_format import GREY, PixelFormat
from trainable.images.slice_rule import SliceRule
from trainable.images.windows import LUNG, Window
from trainable.recipes import RECIPES

OPTIONS = {
    *("--name", "--home", "--resume", "--model-name"),
    *("--data", "--positive", "--patient-from", "--skip-bad-images", "--image-size"),
    *("--window", "--colour", "--slices", "--neighbours", "--neighbour-mm", "--explain-data"),
    *("--confirm", "--final-size", "--external"),
    *("--arch", "--lr", "--range", "--space", "--recipes", "--weights", "--sampler", "--warm-start"),
    *("--num-trials", "--time-budget", "--gpu-hours", "--max-epochs", "--first-rung", "--reduction-factor"),
    *("--scheduler", "--stop-when"),
    *("--metric", "--objective", "--patience", "--trial-timeout"),
    *("--trial-cpus", "--trial-gpus", "--ray-address", "--tracking-uri", "--seed", "--deterministic"),
    *("--compile", "--checkpoint-budget", "--timings"),
    *("--storage", "--preflight", "--bad-nodes"),
    *("--ensemble", "--raw-probabilities", "--min-sensitivity", "--min-specificity", "--cost-ratio", "--promote"),
    *("--accept-changes", "--auto-resume", "--config", "--print-config"),
}


def parse(*arguments: str) -> SearchConfig:
    return read_config(build_parser().parse_args(["search", *arguments]))


def test_a_search_has_these_options_and_no_others() -> None:
    parser = build_parser()
    commands = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    options = {text for action in commands.choices["search"]._actions for text in action.option_strings}
    assert options == OPTIONS | {"-h", "--help"}


def test_without_arguments_everything_has_its_default() -> None:
    assert parse() == SearchConfig()


def test_options_become_configuration(tmp_path: Path) -> None:
    config = parse(
        *("--data", str(tmp_path), "--arch", "resnet18, resnet50", "--lr", "1e-5:1e-3"),
        *("--range", "batch_size=16,32", "--time-budget", "90m", "--gpu-hours", "4", "--trial-timeout", "1h"),
        *("--weights", "resnet18=w.pth", "--trial-gpus", "0.5", "--deterministic", "--checkpoint-budget", "20GB"),
    )
    assert config.checkpoint_budget_bytes == 20 * 10**9
    assert config.architectures == ("resnet18", "resnet50")
    assert config.ranges == {"learning_rate": "1e-5:1e-3", "batch_size": "16,32"}
    assert (config.time_budget_s, config.device_hours, config.trial_timeout_s) == (5400, 4, 3600)
    assert config.weights == {"resnet18": str(Path("w.pth").absolute())}
    assert (config.trial_gpus, config.deterministic) == (0.5, True)


def test_what_an_image_becomes_is_read_at_the_door(tmp_path: Path) -> None:
    config = parse("--window", "lung,40,400", "--neighbours", "1", "--neighbour-mm", "5", "--slices", "every:3")
    assert config.form == PixelFormat(windows=(LUNG, Window(centre=40, width=400)), neighbours=1, neighbour_mm=5.0)
    assert (config.form.num_channels, config.slice_rule) == (6, SliceRule(kind="every", step=3))
    assert SearchConfig.from_record(config.to_record()) == config
    assert SearchConfig().form == GREY and SearchConfig(colour=True).form.num_channels == 3


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"window": "liver"}, "--window 'liver' holds 'liver'; give lung"),
        ({"slices": "some"}, "the rule for slices is 'some'; it must be all, middle"),
        ({"colour": True, "neighbours": 1}, "colour came with several windows or neighbours"),
        ({"neighbour_mm": 5.0}, "neighbour_mm is 5; it needs --neighbours"),
    ],
)
def test_images_that_cannot_become_so_are_refused(options: dict[str, Any], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        SearchConfig(**options)


def test_imagenet_weights_need_no_file() -> None:
    assert parse("--weights", "imagenet").weights == {"imagenet": ""}


def test_recipes_are_named_or_all_taken() -> None:
    assert parse("--recipes", "all").recipes == tuple(RECIPES)
    assert parse("--recipes", "vgg16-covidct, cnn-rmsprop").recipes == ("vgg16-covidct", "cnn-rmsprop")
    with pytest.raises(ValueError, match="unknown recipe 'vgg'; it must be one of resnet152-pretrained"):
        parse("--recipes", "vgg")


def test_paths_are_absolute_since_workers_live_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "slices").mkdir()
    monkeypatch.chdir(tmp_path)
    config = parse("--data", "slices", "--home", "home")
    assert (config.data, config.home) == (tmp_path / "slices", tmp_path / "home")


def test_a_configuration_survives_its_record(tmp_path: Path) -> None:
    config = parse("--home", str(tmp_path), "--data", str(tmp_path), "--arch", "resnet18", "--time-budget", "2h")
    assert SearchConfig.from_record(config.to_record()) == config


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("1.5m", 90), ("2h", 7200), ("1d", 86400)])
def test_durations_are_read_with_their_unit(text: str, seconds: float) -> None:
    assert parse_duration_s(text) == seconds


@pytest.mark.parametrize(("text", "size"), [("100", 100), ("5kb", 5000), ("1.5 MB", 1_500_000), ("2T", 2 * 10**12)])
def test_sizes_are_read_with_their_unit(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "0GB", "-1GB", "much"])
def test_a_bad_size_says_what_must_hold(text: str) -> None:
    with pytest.raises(ValueError, match="such as 20GB"):
        parse_bytes(text)


@pytest.mark.parametrize("text", ["", "0", "-5m", "2 weeks", "h"])
def test_a_bad_duration_says_what_must_hold(text: str) -> None:
    with pytest.raises(ValueError, match="such as 30m"):
        parse_duration_s(text)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"metric": "aux"}, "must be one of auc"),
        ({"sampler": "grid"}, "must be one of tpe"),
        ({"num_trials": 0}, "num_trials is 0"),
        ({"max_epochs": -1}, "max_epochs is -1"),
        ({"trial_gpus": -1.0}, "trial_gpus is -1.0"),
        ({"trial_gpus": 1.5}, "a whole number of GPUs"),
        ({"trial_gpus": 2.0, "compile": True}, "drop one of them"),
        ({"patience": -1}, "patience is -1"),
        ({"bad_nodes": "shoot"}, "must be one of refuse"),
        ({"image_size": 8}, "between 32 and 1024"),
        ({"data": Path("/nowhere/at/all")}, "no such folder"),
        ({"space": Path("s.py"), "architectures": ("resnet18",)}, "one or the other"),
    ],
)
def test_a_bad_value_says_what_came_and_what_must_hold(options: dict[str, Any], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        SearchConfig(**options)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--max-epochs", "0"], "--max-epochs is 0; it must be above 0"),
        (["--gpu-hours", "-1"], "--gpu-hours is -1.0; it must be above 0"),
        (["--num-trials", "many"], "--num-trials is 'many'; it must be a number"),
        (["--num-trials", "1.5"], "--num-trials is '1.5'; it must be a whole number"),
        (["--trial-gpus", "1e400"], "--trial-gpus is '1e400'; it must be a finite number of a sensible size"),
        (["--gpu-hours", "nan"], "--gpu-hours is 'nan'; it must be a finite number of a sensible size"),
        (["--time-budget", "soon"], "--time-budget is 'soon'; a duration is 'soon'; it must be a positive number"),
        (["--range", "batch_size"], "--range is ['batch_size']; 'batch_size' must be NAME=VALUE"),
        (["--seed", "-1"], "--seed is -1; it must be between 0 and 4294967295"),
    ],
)
def test_the_command_line_names_the_flag(
    arguments: list[str], line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["search", "--home", str(tmp_path), *arguments]) == 2
    assert capsys.readouterr().err.startswith(f"ctsearch: {line}")


def test_python_takes_the_same_options_by_keyword(tmp_path: Path) -> None:
    by_keyword = SearchConfig.of(
        data=tmp_path,
        arch=["resnet18", "resnet50"],
        lr="1e-5:1e-3",
        range={"batch_size": [16, 32]},
        time_budget="90m",
        gpu_hours=4,
        trial_timeout="1h",
        weights={"resnet18": "w.pth"},
        deterministic=True,
        checkpoint_budget="20GB",
    )
    assert by_keyword == parse(
        *("--data", str(tmp_path), "--arch", "resnet18,resnet50", "--lr", "1e-5:1e-3", "--range", "batch_size=16,32"),
        *("--time-budget", "90m", "--gpu-hours", "4", "--trial-timeout", "1h", "--weights", "resnet18=w.pth"),
        *("--deterministic", "--checkpoint-budget", "20GB"),
    )
    with pytest.raises(TypeError, match="there is no option 'time_bugdet'; did you mean time_budget"):
        SearchConfig.of(time_bugdet="2h")
    with pytest.raises(OptionError, match=r"^deterministic is 'False'; it must be true or false"):
        SearchConfig.of(deterministic="False")


def test_keywords_become_arguments_with_the_paths_of_the_other_machine() -> None:
    given = {"data": "slices/", "time_budget": "2h", "lr": "1e-4:1e-2", "compile": True, "weights": {"resnet18": "w"}}
    expected = "--data slices/ --time-budget 2h --lr 1e-4:1e-2 --compile --weights resnet18=w"
    assert to_arguments(given, FIELDS) == expected.split()
    with pytest.raises(TypeError, match="there is no option 'tim'"):
        to_arguments({"tim": 1}, FIELDS)


def test_a_file_holds_what_the_command_line_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--data", str(tmp_path), "--arch", "resnet18,resnet50", "--lr", "1e-5:1e-3", "--time-budget", "2h"]
    assert main(["search", *options, "--print-config"]) == 0
    file = tmp_path / "first.yaml"
    file.write_text(capsys.readouterr().out)
    assert parse("--config", str(file)) == parse(*options)
    assert parse("--config", str(file), "--time-budget", "1h").time_budget_s == 3600, "what is given here wins"
    file.write_text("time_budget: 30m\nspace:\n  arch: resnet18\n")
    assert parse("--config", str(file)) == parse("--time-budget", "30m", "--arch", "resnet18")


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("budget: {num_trials: -1}", "--num-trials is -1; it must be above 0"),
        ("budget: {num_trials: many}", "--num-trials is 'many'; it must be a number (in "),
        ("budget: {num_trails: 3}", "there is no option 'num_trails'; did you mean num_trials"),
        ("- 1", "holds a list; it must be a mapping"),
        ("a: [", "--config "),
    ],
)
def test_a_bad_file_is_named_in_one_line(
    content: str, line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.yaml").write_text(content)
    assert main(["search", "--home", str(tmp_path), "--config", str(tmp_path / "bad.yaml")]) == 2
    (shown,) = capsys.readouterr().err.splitlines()
    assert line in shown


def test_the_command_line_reports_errors_in_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["search", "--home", str(tmp_path), "--data", "/nowhere"]) == 2
    assert main(["search", "--home", str(tmp_path), "--resume", "lost"]) == 2
    assert main(["search", "--home", str(tmp_path), "--resume", "lost", "--seed", "1"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert "no such folder" in lines[0]
    assert "there is no search 'lost'" in lines[1]
    assert "takes no other option" in lines[2]


def test_the_console_script_works_from_any_folder(tmp_path: Path) -> None:
    script = Path(sys.executable).with_name("ctsearch")
    done = subprocess.run([script, "search", "--help"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "--time-budget" in done.stdout
    root = Path(__file__).resolve().parents[3]
    by_path = [sys.executable, str(root / "search/run.py"), "--help"]
    assert subprocess.run(by_path, cwd=tmp_path, capture_output=True, text=True, check=True).stdout == done.stdout


def test_asking_for_help_loads_no_heavy_library() -> None:
    code = "import sys; from search.command_parser import build_parser; build_parser(); print(sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not [name for name in ("torch", "ray", "mlflow", "optuna", "pandas") if f"'{name}'" in loaded]
