"""The MLflow UI in headless Chromium: a search's runs, hyperparameters, curves and model, as a user sees them."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

import pytest

from search.observers.tracking import Tracking
from tests.conftest import FinishedSearch
from tests.mlflow_server.browser import Browser
from trainable.report import Outcome


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


def test_the_runs_table_is_sorted_by_validation_auc(finished_search: FinishedSearch, browser: Browser) -> None:
    values = {run.info.run_name: run.data.metrics["best_val_auc"] for run in finished_search.children}
    parent = finished_search.parent.info
    children = f"tags.\"mlflow.parentRunId\" = '{parent.run_id}'"
    url = f"{finished_search.uri}/#/experiments/{parent.experiment_id}/runs?searchFilter={quote(children)}"
    rows = "[...document.querySelectorAll('[row-index]')]"
    for ascending in (False, True):
        order = f"&orderByKey={quote('metrics.`best_val_auc`')}&orderByAsc={str(ascending).lower()}"
        page = browser.visit(
            url + order, f"{rows}.filter(row => /finished-0/.test(row.innerText)).length >= {len(values)}"
        )
        assert "Sort: best_val_auc" in page
        shown = browser.evaluate(
            f"{rows}.sort((a, b) => a.getAttribute('row-index') - b.getAttribute('row-index'))"
            ".map(row => (row.innerText.match(/finished-\\d{4}/) || [''])[0]).filter(Boolean)"
        )
        names = list(dict.fromkeys(shown))
        assert set(names) == set(values)
        assert [values[name] for name in names] == sorted(values.values(), reverse=not ascending)


def test_the_compare_page_shows_parallel_coordinates_over_the_hyperparameters(
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
    tracking.close_search(Outcome.COMPLETED)
    for run in finished_search.children:
        assert run.info.run_name in page
    assert {"architecture", "augmentation", "batch_size"} <= set(browser.evaluate(axes))
    for place, name in ((1, "best_val_auc"), (0, "learning_rate")):  # from below: an open list hides what is under it
        browser.write(f"document.querySelectorAll('input[role=combobox]')[{place}]", name, and_enter=True)
        browser.wait(f"{axes}.includes('{name}')")


def test_a_trials_page_shows_its_curves(finished_search: FinishedSearch, browser: Browser) -> None:
    longest = max(finished_search.children, key=lambda run: run.data.metrics["best_epoch"])
    history = finished_search.client.get_metric_history(longest.info.run_id, "val_auc")
    url = f"{finished_search.uri}/#/experiments/{longest.info.experiment_id}/runs/{longest.info.run_id}/model-metrics"
    field = "document.querySelector('input[placeholder=\"Search metric charts\"]')"
    browser.visit(url, field)
    browser.write(field, "val_")
    plots = "[...document.querySelectorAll('.js-plotly-plot')]"
    points = f"{plots}.filter(plot => plot.querySelector('path.js-line')).map(p => p.querySelectorAll('.point').length)"
    page = browser.wait(
        "['val_auc', 'val_loss'].every(name => document.body.innerText.includes(`(${name})`))"
        f" && {points}.filter(number => number === {len(history)}).length > 1"
    )
    assert f"{longest.info.run_name} (val_auc)" in page
    assert len(history) > 1


def test_the_registered_model_is_shown_with_its_alias(finished_search: FinishedSearch, browser: Browser) -> None:
    version = finished_search.client.get_model_version_by_alias("finished-model", "champion").version
    page = browser.visit(
        f"{finished_search.uri}/#/models/finished-model", r"/@\s*champion/.test(document.body.innerText)"
    )
    assert f"Version {version}" in page
    browser.visit(f"{finished_search.uri}/#/models", "/finished-model-images/.test(document.body.innerText)")
