from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path

import pytest

import ctsearch
from search.cli import main
from search.commands.submit import check_options, describe_job, find_name, stage_code, submit, write_job


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (["--data", "x", "--name", "first"], "first"),
        (["--name=second", "--data", "x"], "second"),
        (["--resume", "third"], "third"),
        (["--data", "--name"], ""),
        (["--data", "name"], None),
        ([], None),
    ],
)
def test_the_name_of_a_search_is_found_among_its_options(options: list[str], name: str | None) -> None:
    assert find_name(options) == name


def test_only_code_is_shipped(tmp_path: Path) -> None:
    stage_code(tmp_path)
    assert {entry.name for entry in tmp_path.iterdir()} == {"search", "trainable", "mlflow_server", "pyproject.toml"}
    assert not list(tmp_path.rglob("__pycache__"))
    by_path = subprocess.run(
        ["python", str(tmp_path / "search/run.py"), "--help"], capture_output=True, text=True, cwd=tmp_path
    )
    assert "--preflight" in by_path.stdout


def test_options_reach_the_search_as_they_were_typed(tmp_path: Path) -> None:
    options = ["--data", "~/my slices", "--range", "dropout=0.1:0.5", "--name", "it's"]
    command = write_job("job-1", "ctsearch-jobs/job-1", options)
    subprocess.run(["bash", "-n", "-c", command], check=True)
    words = shlex.split(command)
    assert words[-len(options) :] == options
    assert json.loads(words[words.index("--runtime-env-json") + 1])["env_vars"]["RAY_JOB_STOP_WAIT_TIME_S"] == "120"
    assert "--no-wait" in words and words[words.index("--") + 1 :][:2] == ["python", "search/run.py"]


def test_what_to_type_next_is_reported() -> None:
    output = describe_job(Path("cluster.yaml"), "first", "first-1")
    for command in (
        "ray job status first-1",
        "ray job logs --follow first-1",
        "ray job stop first-1",
        "--resume first",
    ):
        assert command in output
    assert "--port-forward 5000" in output


def test_a_cluster_file_or_a_name_that_cannot_be_is_reported_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError, match="give the file that `ray up` was given"):
        submit(tmp_path / "none.yaml", [])
    (tmp_path / "cluster.yaml").touch()
    with pytest.raises(ValueError, match=r"cluster\.yaml has no provider"):
        submit(tmp_path / "cluster.yaml", [])
    (tmp_path / "cluster.yaml").write_text("provider: {type: local}\n")
    assert main(["submit", str(tmp_path / "cluster.yaml"), "--", "--name", "a/b"]) == 2
    assert "the name is 'a/b'" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["submit", str(tmp_path / "cluster.yaml"), "--", "--nam3", "x"])


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--num-trials", "many"], "--num-trials is 'many'; it must be a number"),
        (["--num-trials", "0"], "--num-trials is 0; it must be above 0"),
        (["--metric", "aux"], "--metric is 'aux'"),
        (["--arch", "resnet-18,m.py:build"], "did you mean 'resnet18'"),
        (["--lr", "1e-3:1e-5"], "the lower end must come first"),
        (["--space", "~ray/s.py", "--arch", "aux", "--time-budget", "2h30"], "--time-budget is '2h30'"),
    ],
)
def test_a_value_that_the_head_would_refuse_is_refused_here(
    options: list[str], line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cluster.yaml").write_text("provider: {type: local}\n")
    assert main(["submit", str(tmp_path / "cluster.yaml"), "--", *options]) == 2
    assert line in capsys.readouterr().err
    with pytest.raises(ValueError, match="does not take scheduler best"):
        ctsearch.submit(tmp_path / "cluster.yaml", scheduler="best")


def test_paths_are_those_of_the_head() -> None:
    check_options(["--data", "~ray/slices", "--space", "/head/space.py", "--external", "other=/head/other"])
    check_options(["--storage", "/dev/null/head", "--weights", "resnet18=~ray/w.pth", "--home", "/head", "--name", "x"])
