"""A search that weighs accuracy against what a model costs, real in every part."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient

import ctsearch
from mlflow_server.serve import ServerHandle
from search.cli import run
from search.core.config import SearchConfig
from search.engine.cluster import Cluster


def test_the_cheapest_of_those_that_cannot_be_told_from_the_best_becomes_the_champion(
    cluster: Cluster,
    synthetic_folder: Path,
    mlflow_server: ServerHandle,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = SearchConfig.of(
        name="weighed",
        home=tmp_path,
        data=synthetic_folder,
        tracking_uri=mlflow_server.uri,
        model_name="weighed-model",
        objective="auc,latency_ms,size_mb",
        arch="small_cnn,squeezenet1_1",
        num_trials=5,
        max_epochs=3,
        image_size=64,
        trial_cpus=1,
    )
    assert run(config) == 0
    output = capsys.readouterr().out
    assert "Objectives   auc against latency_ms and size_mb: trials are promoted by fronts" in output
    assert "Trade-off    no other trial beats these: trial" in output
    assert "costs least among those within one standard error" in output

    found = ctsearch.open("weighed", home=tmp_path)
    result, champion = found.figures, found.champion
    assert champion is not None and champion.members == (champion.trial,)
    front = {row["trial"]: row for row in result["front"]}
    best = max(row["auc"] for row in front.values())
    near = {number: row for number, row in front.items() if row["auc"] >= best - result["margin"]}
    assert champion.trial == min(near, key=lambda number: near[number]["latency_ms"])
    assert 0 < result["margin"] < 0.5

    table = found.trials.to_dataframe()
    assert (table["latency_ms"] > 0).all() and (table["size_mb"] > 0).all()
    runs = [MlflowClient(mlflow_server.uri).get_run(run_id) for run_id in table["run_id"]]
    assert [run_.data.metrics["size_mb"] for run_ in runs] == pytest.approx(table["size_mb"].tolist())
    assert all(run_.data.metrics["latency_ms"] > 0 for run_ in runs)
    assert {"latency_ms", "size_mb"} <= set(pd.read_csv(found.folder / "leaderboard.csv").columns)
    report = (found.folder / "report.md").read_text()
    assert "## Trade-off" in report and (found.folder / "trade_off.png").stat().st_size > 10_000
    page = (found.folder / "search.html").read_text()
    assert "Trade-off" in page and "latency, ms an image on one core" in page and "size, MB" in page
    assert json.loads((found.folder / "search.json").read_text())["config"]["objective"] == list(config.objective)
