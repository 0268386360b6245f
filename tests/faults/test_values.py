"""Values of options that would be cast, lost or taken otherwise than they are meant: refused, or taken as meant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ctsearch
from search.cli import main, read_config
from search.command_parser import build_parser
from search.core.config import OPTIONS, SearchConfig
from search.core.options import OptionError, to_arguments
from trainable.objectives import parse_objective
from trainable.report import Direction


def parse(*arguments: str) -> SearchConfig:
    return read_config(build_parser().parse_args(["search", *arguments]))


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (
            {"time_budget": "1h", "time_budget_s": 5},
            "time_budget_s is given twice: as 3600.0 and, by time_budget_s, as 5",
        ),
        ({"arch": "resnet18", "architectures": ["vgg16"]}, "architectures is given twice"),
        ({"lr": "1e-5:1e-3", "range": {"learning_rate": "1e-4:1e-2"}}, "ranges is given twice"),
        ({"range": ["dropout=0:0.3", "dropout=0:0.5"]}, "dropout is given twice: as '0:0.3' and as '0:0.5'"),
        ({"arch": ","}, "architectures is ','; it must be names"),
        ({"name": ""}, "name is ''; it must not be empty"),
        ({"storage": " "}, "storage is ' '; it must not be empty"),
        ({"storage": "s3:/bucket/folder"}, "a URI with two slashes, such as s3://bucket/folder"),
        ({"storage": "http://host/folder"}, "a storage's URI begins with one of s3, gs"),
        ({"storage": "/dev/null/folder"}, "storage is /dev/null/folder; /dev/null is a file"),
        ({"data": "~nobody-of-this-name/slices"}, "data is '~nobody-of-this-name/slices'; it names the home of a user"),
        ({"weights": {"imagenet": "w.pth"}}, "imagenet stands for torchvision's own weights, and takes no file"),
        ({"weights": {18: None}}, "weights is {18: None}; it must be a path"),
        ({"patient_from": "P("}, "patient_from is 'P(', which is no regular expression: missing ), unterminated"),
        ({"range": 5}, "ranges is 5; it must be NAME=VALUE"),
        ({"num_trials": 5 + 0j}, "num_trials is (5+0j); it must be a number"),
        ({"max_epochs": 10**6}, "max_epochs is 1000000; it must be at most 100,000"),
        ({"patience": 10**6}, "patience is 1000000"),
        ({"trial_cpus": 0.001}, "trial_cpus is 0.001; it must be 0.05 or more"),
        ({"trial_gpus": 0.001}, "trial_gpus is 0.001; it must be 0, or 0.05 or more"),
    ],
)
def test_what_would_be_lost_or_taken_otherwise_is_refused(options: dict[str, Any], line: str) -> None:
    with pytest.raises(OptionError) as caught:
        SearchConfig.of(**options)
    assert line in str(caught.value) and "\n" not in str(caught.value)


def test_an_option_given_twice_is_refused_and_not_lost(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse("--arch", "resnet18", "--arch", "resnet50")
    assert "--arch: given twice, as 'resnet18' and as 'resnet50': give it once" in capsys.readouterr().err
    with pytest.raises(OptionError, match="learning_rate is given twice"):
        parse("--lr", "1e-5:1e-3", "--range", "learning_rate=1e-4:1e-2")
    assert parse("--seed", "3", "--seed", "3", "--lr", "1e-5:1e-3", "--range", "dropout=0:0.5").seed == 3


def test_an_option_in_a_group_and_beside_it_is_refused() -> None:
    with pytest.raises(TypeError, match="num_trials is given twice, as '3' and as '50'"):
        SearchConfig.from_groups({"budget": {"num_trials": "3"}, "num_trials": "50"})
    with pytest.raises(TypeError, match="there is no option '1'"):
        SearchConfig.from_groups({"budget": {1: 2}})


@pytest.mark.parametrize(
    ("given", "metric"),
    [
        ("LOSS", "loss"),
        (" Loss ", "loss"),
        ("AUC", "auc"),
        ("recall", "sensitivity"),
        ("Recall@TNR=80%", "sensitivity@specificity=0.8"),
        ("precision@recall=0.25", "precision@sensitivity=0.25"),
    ],
)
def test_a_metric_is_one_however_it_is_written(given: str, metric: str) -> None:
    """A loss that is not known as one would be maximised."""
    config = parse("--metric", given)
    assert config.metric == metric and parse_objective(metric).given == metric
    assert (Direction.of(config.metric) is Direction.MINIMIZE) == (metric == "loss")
    assert SearchConfig.from_record({"metric": given}).metric == metric
    assert SearchConfig(objective=(given, "size_mb")).objective == (metric, "size_mb")


def test_whoever_gives_a_value_it_is_read_as_its_option_reads_it() -> None:
    config = SearchConfig.of(num_trials=np.int64(5), gpu_hours=np.float32(0.5), time_budget=np.int64(60), lr=None)
    assert (config.num_trials, config.device_hours, config.time_budget_s, config.ranges) == (5, 0.5, 60.0, {})
    assert SearchConfig(num_trials="5", metric=None).num_trials == 5  # type: ignore[arg-type]
    for wrong in ({"max_epochs": 2.5}, {"deterministic": "no"}, {"time_budget_s": float("nan")}, {"architectures": 5}):
        with pytest.raises(OptionError, match=next(iter(wrong))):
            SearchConfig(**wrong)
    with pytest.raises(TypeError, match=r"config is a dict; make it by ctsearch.SearchConfig.of"):
        ctsearch.search(config={"num_trials": 3})  # type: ignore[arg-type]


def test_further_sets_lie_where_they_lie_from_whatever_folder_a_search_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert parse("--external", "other=slices").external == {"other": str(tmp_path / "slices")}


def test_a_record_whose_data_is_gone_is_not_damaged(tmp_path: Path) -> None:
    record = {"data": str(tmp_path / "gone"), "storage": None, "num_trials": 3}
    assert SearchConfig.from_record(record).data == tmp_path / "gone"


def test_a_window_below_zero_is_a_value_and_no_option(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", "--home", str(tmp_path), "--window", "-600,1500", "--print-config"]) == 0
    assert "-600,1500" in capsys.readouterr().out


def test_keywords_become_arguments_that_mean_the_same() -> None:
    given = {"window": "-600,1500", "weights": ["resnet18=a", "vgg16=b"], "lr": [1e-4, 1e-3], "name": None}
    expected = ["--window=-600,1500", "--weights", "resnet18=a", "--weights", "vgg16=b", "--lr", "0.0001,0.001"]
    assert to_arguments(given, OPTIONS) == expected
    with pytest.raises(OptionError, match="compile is 'False'; it must be true or false"):
        to_arguments({"compile": "False"}, OPTIONS)


@pytest.mark.parametrize(
    "command", [["status", "x"], ["report", "x"], ["search"], ["search", "--resume", "x"], ["classify", "x"], ["ui"]]
)
def test_the_home_of_nobody_is_one_line(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command, "--home", "~nobody-of-this-name/x"]) == 2
    assert "ctsearch: --home is" in (line := capsys.readouterr().err) and line.count("\n") == 1
    with pytest.raises(ValueError, match="home is '~nobody-of-this-name/x'; it names the home of a user"):
        ctsearch.open("x", home="~nobody-of-this-name/x")
