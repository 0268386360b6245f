"""`ctsearch submit`: the code goes to the head of a cluster, and a search begins there that outlives this laptop"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

from search.core.config import OPTIONS, SearchConfig
from search.core.folder import NAME, make_name
from search.core.options import read_arguments
from search.core.ranges import parse_range
from search.core.version import ROOT, code_version
from search.core.yaml_file import read_yaml
from search.preparation.choices import check_architecture
from trainable.config import is_own_model

ROOMS = ("search", "trainable", "mlflow_server")
PATHS = ("data", "home", "space", "weights", "external", "storage")
STOP_WAIT_S = 120  # between SIGTERM and SIGKILL of `ray job stop`: a search ends cleanly within


def submit(cluster_file: Path, options: Sequence[str]) -> int:
    """Begin `ctsearch search OPTIONS` on the head of the cluster that `ray up CLUSTER_FILE` made.

    All goes over SSH, as Ray's own launcher does it; the head submits the job to itself, so that the token of the
    cluster never leaves it. Raises ValueError for a file that is not there or a name that cannot be one.
    """
    if not cluster_file.is_file():
        raise ValueError(f"there is no {cluster_file}; give the file that `ray up` was given")
    if not isinstance(read_yaml(cluster_file, "the cluster's file").get("provider"), dict):
        raise ValueError(f"{cluster_file} has no provider; give the file that `ray up` was given")
    check_options(options)
    name = find_name(options)
    if name is None:
        name = make_name()
        options = [*options, "--name", name]
    if not NAME.fullmatch(name):
        raise ValueError(f"the name is {name!r}; it must be letters, digits, '.', '_' or '-', at most 80 of them")
    job = f"{name}-{make_name('at').removeprefix('at-')}"
    folder = f"ctsearch-jobs/{job}"
    with tempfile.TemporaryDirectory() as staging:
        stage_code(Path(staging))
        print(f"{code_version()} goes to the head of {cluster_file} ...", flush=True)
        call_ray("exec", str(cluster_file), f"mkdir -p ~/{folder}")
        call_ray("rsync-up", str(cluster_file), f"{staging}/", f"~/{folder}/")
    call_ray("exec", str(cluster_file), write_job(job, folder, options))
    print(describe_job(cluster_file, name, job))
    return 0


def check_options(options: Sequence[str]) -> None:
    """Raise ValueError for what the head would refuse, and be read only in its log. Paths are the head's own."""
    from search.command_parser import build_parser

    try:
        args = build_parser().parse_args(["search", *options])
    except SystemExit as error:
        raise ValueError(f"`ctsearch search` does not take {shlex.join(options)}") from error
    given = {name: value for name, value in vars(args).items() if name not in PATHS}
    config = SearchConfig(**read_arguments(argparse.Namespace(**given), OPTIONS))
    for name in config.architectures:
        if not is_own_model(name):
            check_architecture(name)
    for name, text in config.ranges.items():
        parse_range(name, text)


def find_name(options: Sequence[str]) -> str | None:
    """The search's name among its options, new or resumed."""
    for option, value in zip_longest(options, options[1:], fillvalue=""):
        for wanted in ("--name", "--resume"):
            if option == wanted:
                return value
            if option.startswith(f"{wanted}="):
                return option.partition("=")[2]
    return None


def stage_code(target: Path) -> None:
    """Copy what runs on the cluster, and nothing else of the checkout: no data, no history, no environment."""
    for room in ROOMS:
        shutil.copytree(ROOT / room, target / room, ignore=shutil.ignore_patterns("__pycache__"))
    if (ROOT / "pyproject.toml").exists():
        shutil.copyfile(ROOT / "pyproject.toml", target / "pyproject.toml")


def write_job(job: str, folder: str, options: Sequence[str]) -> str:
    """The command that the head runs."""
    environ = {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_WAIT_S), "CTSEARCH_CODE_VERSION": code_version()}
    command = ["python", "search/run.py", *options]
    parts = ["ray", "job", "submit", "--no-wait", "--submission-id", job, "--working-dir", "."]
    parts += ["--runtime-env-json", json.dumps({"env_vars": environ}), "--", *command]
    return f"cd ~/{folder} && RAY_AUTH_MODE=token {shlex.join(parts)}"


def describe_job(cluster_file: Path, name: str, job: str) -> str:
    """What to type next; everything goes over SSH."""
    run = f"ray exec {shlex.quote(str(cluster_file))}"
    ui = f"cd ctsearch-jobs/{job} && python -m search.cli ui --port 5000"
    return f"""
Search       {name}, job {job}: it goes on when this machine is switched off
Status       {run} 'ray job status {job}'
Log          {run} 'ray job logs --follow {job}'
MLflow       {run} --port-forward 5000 {shlex.quote(ui)}     then http://127.0.0.1:5000
Stop         {run} 'ray job stop {job}'     cleanly; it goes on by: ctsearch submit {cluster_file} -- --resume {name}"""


def call_ray(*arguments: str) -> None:
    """Run a command of Ray's launcher here. Raises ConnectionError where it fails, with what it said."""
    done = subprocess.run(["ray", *arguments], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        said = "\n".join((done.stdout + done.stderr).strip().splitlines()[-15:])
        raise ConnectionError(f"`ray {shlex.join(arguments)}` failed:\n{said}")
