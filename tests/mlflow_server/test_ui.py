"""The MLflow UI in headless Chromium: the compare page of a search's runs, as a user sees it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from search.tracking import Tracking
from tests.conftest import FinishedSearch

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-quic"),
    *("--window-size=1600,1200", "--virtual-time-budget=25000"),
)


@pytest.fixture
def chromium() -> str:
    path = shutil.which("chromium")
    assert path is not None, "the UI test needs Debian's chromium (.ci/packages.txt)"
    return path


def visit(chromium: str, url: str, folder: Path, *more: str) -> str:
    done = subprocess.run(
        [chromium, *FLAGS, f"--user-data-dir={folder / 'profile'}", *more, url],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout


def test_the_compare_page_shows_runs_hyperparameters_and_parallel_coordinates(
    finished_search: FinishedSearch, chromium: str, tmp_path: Path
) -> None:
    tracking = Tracking.open(
        finished_search.uri,
        "finished-model",
        "finished",
        parent_run_id=finished_search.parent.info.run_id,
    )
    url = tracking.compare_url([run.info.run_id for run in finished_search.children])
    page = visit(chromium, url, tmp_path, "--dump-dom")
    for run in finished_search.children:
        assert run.info.run_name in page
    for name in ("architecture", "learning_rate", "batch_size", "augmentation"):
        assert name in page
    assert re.search(r'class="[^"]*parcoords', page), "the parallel-coordinates area is not drawn"
    tracking.close_search("completed")
