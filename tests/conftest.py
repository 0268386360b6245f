"""What every test shares: fixed seeds, the real and the synthetic sets, one MLflow server, one quiet Ray."""

from __future__ import annotations

import json
import os
import random
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from mlflow_server.mlflow_process import find_port
from mlflow_server.serve import ServerHandle, ensure_server
from search.core.config import SearchConfig
from search.engine.cluster import Cluster, connect
from tests import needs
from tests.tiers import mark_quick, put_quick_files_last

ROOT = Path(__file__).resolve().parents[1]
SHARED_DATA = ROOT.parent / "shared" / "data"

os.environ.setdefault("OMP_NUM_THREADS", "1")
if (
    signal.getsignal(signal.SIGINT) == signal.SIG_IGN
):  # of a shell's background job; the tests' children would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"


@pytest.fixture(autouse=True)
def _fixed_seeds() -> None:
    random.seed(0)
    np.random.seed(0)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real CT slices and weights, read where they lie."""
    return needs.shared(SHARED_DATA)


@pytest.fixture(scope="session")
def synthetic_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small synthetic set: enough to search on, not enough to score well on."""
    from trainable.images.synthetic import write_synthetic_set

    return write_synthetic_set(
        tmp_path_factory.mktemp("synthetic") / "ctsearch-demo",
        num_patients=30,
        slices_per_patient=3,
        image_size=64,
    )


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerHandle]:
    """A real server of this test session; it ends with the last user.

    Its port is not the usual one: while a test stops it, a search beside it would take that for its own server.
    """
    with ensure_server(tmp_path_factory.mktemp("mlflow"), find_port(0)) as server:
        yield server


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """One real Ray for this test session."""
    import ray

    yield connect(None, trial_cpus=1)
    ray.shutdown()


@dataclass(frozen=True, kw_only=True)
class FinishedSearch:
    """A small search of the synthetic set that has ended: its folder, its record and its runs in MLflow."""

    uri: str
    home: Path
    folder: Path
    record: dict[str, Any]
    client: MlflowClient
    parent: Run
    children: list[Run]


@pytest.fixture(scope="session")
def finished_search(
    cluster: Cluster, synthetic_folder: Path, mlflow_server: ServerHandle, tmp_path_factory: pytest.TempPathFactory
) -> FinishedSearch:
    from search.cli import run

    home = tmp_path_factory.mktemp("home")
    config = SearchConfig(
        name="finished",
        home=home,
        data=synthetic_folder,
        tracking_uri=mlflow_server.uri,
        model_name="finished-model",
        architectures=("small_cnn", "squeezenet1_1", "mobilenet_v3_small"),
        num_trials=8,
        max_epochs=4,
        image_size=64,
        trial_cpus=1,
        ensemble=1,
        raw_probabilities=True,
    )
    assert run(config) == 0
    folder = home / "searches" / "finished"
    record = json.loads((folder / "search.json").read_text())
    client = MlflowClient(mlflow_server.uri)
    parent = client.get_run(record["parent_run_id"])
    condition = f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
    children = client.search_runs([parent.info.experiment_id], condition)
    return FinishedSearch(
        uri=mlflow_server.uri,
        home=home,
        folder=folder,
        record=record,
        client=client,
        parent=parent,
        children=list(children),
    )


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    mark_quick(items)
    put_quick_files_last(items)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Under .ci/run a skip whose reason is not listed in .ci/skips.txt fails the run."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or not os.environ.get("CTSEARCH_STRICT_SKIPS"):
        return
    lines = (ROOT / ".ci" / "skips.txt").read_text().splitlines()
    allowed = [line for line in lines if line.strip() and not line.startswith("#")]
    reasons = [str(report.longrepr[2]) for report in reporter.stats.get("skipped", [])]
    unlisted = [reason for reason in reasons if not any(text in reason for text in allowed)]
    if unlisted:
        reporter.write_line(f"skips without a listed reason: {', '.join(sorted(set(unlisted)))}", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
