"""The MLflow UI in headless Chromium: a search's runs, hyperparameters, curves and model, as a user sees them."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

import pytest

from search.tracking import Tracking
from tests.conftest import FinishedSearch
from tests.mlflow_server.browser import Browser


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


def test_the_runs_table_is_sorted_by_validation_auc(finished_search: FinishedSearch, browser: Browser) -> None:
    best_first = sorted(finished_search.children, key=lambda run: -run.data.metrics["best_val_auc"])
    wanted = [run.info.run_name for run in best_first]
    parent = finished_search.parent.info
    children = f"tags.\"mlflow.parentRunId\" = '{parent.run_id}'"
    url = f"{finished_search.uri}/#/experiments/{parent.experiment_id}/runs?searchFilter={quote(children)}"
    rows = "[...document.querySelectorAll('[row-index]')]"
    for ascending in (False, True):
        order = f"&orderByKey={quote('metrics.`best_val_auc`')}&orderByAsc={str(ascending).lower()}"
        browser.visit(url + order, f"{rows}.filter(row => /finished-0/.test(row.innerText)).length >= {len(wanted)}")
        shown = browser.evaluate(
            f"{rows}.sort((a, b) => a.getAttribute('row-index') - b.getAttribute('row-index'))"
            ".map(row => (row.innerText.match(/finished-\\d{4}/) || [''])[0]).filter(Boolean)"
        )
        assert list(dict.fromkeys(shown)) == (wanted[::-1] if ascending else wanted)
        assert "best_val_auc" in browser.text()


def test_the_compare_page_shows_runs_hyperparameters_and_parallel_coordinates(
    finished_search: FinishedSearch, browser: Browser
) -> None:
    tracking = Tracking.open(
        finished_search.uri,
        "finished-model",
        "finished",
        parent_run_id=finished_search.parent.info.run_id,
    )
    url = tracking.compare_url([run.info.run_id for run in finished_search.children])
    axes = "[...document.querySelectorAll('.parcoords .axis-title')].map(title => title.textContent)"
    page = browser.visit(url, f"{axes}.length > 3")
    tracking.close_search("completed")
    for run in finished_search.children:
        assert run.info.run_name in page
    shown = browser.evaluate(axes)
    for name in ("architecture", "learning_rate", "batch_size", "augmentation"):
        assert name in page
        assert name in shown


def test_a_trials_page_shows_its_curves(finished_search: FinishedSearch, browser: Browser) -> None:
    longest = max(finished_search.children, key=lambda run: run.data.metrics["best_epoch"])
    url = f"{finished_search.uri}/#/experiments/{longest.info.experiment_id}/runs/{longest.info.run_id}/model-metrics"
    lines = "document.querySelectorAll('.js-plotly-plot .scatterlayer path.js-line, .js-plotly-plot .bars path')"
    page = browser.visit(url, f"{lines}.length > 2")
    for name in ("train_loss", "val_auc", "val_loss"):
        assert name in page


def test_the_registered_model_is_shown_with_its_alias(finished_search: FinishedSearch, browser: Browser) -> None:
    version = finished_search.client.get_model_version_by_alias("finished-model", "champion").version
    page = browser.visit(
        f"{finished_search.uri}/#/models/finished-model", "/@ ?champion/.test(document.body.innerText)"
    )
    assert f"Version {version}" in page
    page = browser.visit(f"{finished_search.uri}/#/models", "/finished-model-images/.test(document.body.innerText)")
    assert "finished-model" in page
