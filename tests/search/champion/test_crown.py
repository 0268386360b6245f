"""The champion of a search: built, scored once, saved, registered, and gone on with after a crash."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from mlflow import MlflowClient

from search.champion.choice import choose_champion, choose_members
from search.champion.crown import crown, crown_champion
from search.champion.model import build_champion, choose_point
from search.champion.opening import SealedTestError
from search.core.ledger import TrialEntry
from tests.search.champion.trained import TrainedSearch
from trainable import metrics
from trainable.calibration import TemperatureScaling
from trainable.checkpoint import CheckpointStore
from trainable.checkpoint_writer import CheckpointWriter
from trainable.classifier import load_registered
from trainable.config import TrialConfig
from trainable.report import Outcome
from trainable.served_model import predict, rebuild_model
from trainable.standard_errors import standard_error
from trainable.train import train

if TYPE_CHECKING:
    from mlflow_server.serve import ServerHandle


def test_a_champion_is_scored_registered_and_promoted_once(
    client: MlflowClient, mlflow_server: ServerHandle, trained: TrainedSearch, runs: tuple[str, str]
) -> None:
    parent, child = runs
    finish = trained.finish("first", "crown-test", mlflow_server.uri, parent)
    finish = replace(finish, warnings=["made for a test"])
    ledger = trained.ledger(child)
    champion = crown_champion(ledger, finish)
    assert champion is not None
    assert (champion.number, champion.version, champion.alias) == (3, "1", "champion")
    assert champion.value == ledger.entries[3].best_value
    assert champion.warnings == ("made for a test",)  # its checkpoint gave the value that it had reported
    assert champion.test is not None
    assert {"auc", "sensitivity_0", "sensitivity_2"} <= set(champion.test.metrics)
    assert {path.name for path in champion.models.iterdir()} == {"pixels", "images"}

    record = json.loads(finish.folder.sealed_test_file.read_text())
    assert record["champion"] == 3
    assert record["data_hash"] == trained.data.data_hash
    assert record["num_openings"] == 1
    assert record["opened_at"].endswith("+00:00")

    again = crown_champion(ledger, finish)  # as after a crash
    assert again is not None
    assert replace(again, latency_ms=champion.latency_ms) == champion
    for run_id in (parent, child):
        history = client.get_metric_history(run_id, "test_auc")
        assert [point.value for point in history] == [champion.test.metrics["auc"]]
        assert {"test_auc_low", "test_without_duplicates_auc"} <= set(client.get_run(run_id).data.metrics)
        figures = {file.path for file in client.list_artifacts(run_id, "sealed_test")}
        names = ("confusion_matrix", "mistakes", "precision_recall", "roc_curve")
        assert figures == {f"sealed_test/{name}.png" for name in names}
    for name in ("crown-test", "crown-test-images"):
        (version,) = client.search_model_versions(f"name = '{name}'")
        assert float(version.tags["test_auc"]) == champion.test.metrics["auc"]
        assert str(client.get_model_version_by_alias(name, "champion").version) == "1"
    assert "made for a test" in version.description

    candidate = choose_champion(ledger, finish.task)
    assert candidate is not None
    with pytest.raises(SealedTestError, match=r"trial 3 .* trial 4"):
        crown(
            build_champion([replace(candidate, entry=replace(candidate.entry, number=4))], finish.task, goals={}),
            finish,
        )
    assert len(client.search_model_versions("name = 'crown-test'")) == 1


def test_the_weighed_mean_of_completed_trials_is_one_saved_model(trained: TrainedSearch) -> None:
    finish = trained.finish("mean", "mean-test", "http://127.0.0.1:9")
    ledger = trained.ledger(None)  # a run that was never opened: MLflow is not asked
    config = TrialConfig(architecture="small_cnn", learning_rate=3e-3)
    with CheckpointWriter(CheckpointStore(finish.folder.trials / "0005")) as writer:
        values = {r.epoch: r.value for r in train(config, trained.settings, trained.data, checkpoints=writer)}
    other = TrialEntry(number=5, params=config.to_params(), values=values, outcome=Outcome.COMPLETED)
    ledger.restore(other)
    champion = crown_champion(ledger, finish)
    assert champion is not None
    assert champion.members == (3, 5)
    assert champion.warnings == ()
    assert champion.model_bytes > 0
    assert json.loads(finish.folder.sealed_test_file.read_text())["champion"] == [3, 5]
    again = crown_champion(ledger, finish)  # as after a crash
    assert again is not None
    assert replace(again, latency_ms=champion.latency_ms) == champion

    classifier = load_registered(str(champion.models / "pixels"))
    assert "the mean of trials 3, 5" in classifier.label
    pixels = np.load(trained.data.pixels_path)[trained.data.is_val]
    labels = trained.data.labels[trained.data.is_val]
    each = [
        predict(rebuild_model(c.entry.params, trained.settings, c.state), pixels, labels)[1]
        for c in choose_members(ledger, finish.task, size=5)
    ]
    aucs = np.array([metrics.score(labels, found, trained.data.positive)["auc"] for found in each], dtype=float)
    patients = trained.data.groups[trained.data.is_val]
    error = standard_error("auc", labels, each[int(aucs.argmax())], patients, trained.data.positive)
    mean = np.average(each, axis=0, weights=np.exp(aucs / error))
    assert champion.value == pytest.approx(metrics.score(labels, mean, trained.data.positive)["auc"])
    expected = TemperatureScaling(temperature=champion.temperature).apply(mean)
    with torch.inference_mode():
        np.testing.assert_allclose(classifier.predict(torch.from_numpy(pixels)).numpy(), expected, atol=1e-5)


def test_a_member_far_behind_is_left_out_of_the_model(trained: TrainedSearch, monkeypatch: pytest.MonkeyPatch) -> None:
    finish = trained.finish("behind", "behind-test", "http://127.0.0.1:9")
    ledger = trained.ledger(None)
    [best, *_] = choose_members(ledger, finish.task, size=1)
    *_, bias = weights = dict(best.state["model"])  # of an answer that is the same for every image
    constant = {name: torch.zeros_like(tensor) for name, tensor in weights.items()}
    constant[bias] = weights[bias]
    behind = replace(best, entry=replace(best.entry, number=7), state={**best.state, "model": constant})
    monkeypatch.setattr("trainable.ensemble.LEAST_OF_BEST", 0.0)
    built = build_champion([behind, best], finish.task, goals={})
    assert built.numbers == (best.entry.number, 7)
    monkeypatch.setattr("trainable.ensemble.LEAST_OF_BEST", 1.0)
    built = build_champion([behind, best], finish.task, goals={})
    assert built.numbers == (best.entry.number,) and built.value == best.value
    assert len(built.model.members) == 1 and built.model.weights == (1.0,)


def test_the_operating_point_is_chosen_over_groups_where_these_can_say_it() -> None:
    rng = np.random.default_rng(0)
    is_positive = np.repeat(np.arange(40) % 2 == 0, 3)
    probabilities = np.clip(0.3 + 0.4 * is_positive + rng.normal(0, 0.2, 120), 0.01, 0.99)
    point, notes = choose_point(is_positive, probabilities, np.arange(120) // 3, {"min_sensitivity": 0.9})
    assert notes == []
    assert point is not None
    assert 0 < point.threshold < 0.7
    assert point.sensitivity >= 0.9
    assert choose_point(is_positive, probabilities, np.arange(120) // 3, {}) == (None, [])
    none, notes = choose_point(is_positive, probabilities, is_positive.astype(int), {"min_sensitivity": 0.9})
    assert none is None
    assert "fewer than two patients" in notes[0]


def test_a_second_search_on_the_same_data_must_be_better(
    client: MlflowClient, mlflow_server: ServerHandle, trained: TrainedSearch, experiment: str
) -> None:
    results = []
    for name, less in (("second", 0.0), ("third", 0.01)):
        parent, child = (client.create_run(experiment).info.run_id for _ in range(2))
        finish = trained.finish(name, "second-test", mlflow_server.uri, parent)
        candidate = choose_champion(trained.ledger(child), finish.task)
        assert candidate is not None
        facts = {**candidate.facts, "value": candidate.value - less}
        results.append(crown(build_champion([replace(candidate, facts=facts)], finish.task, goals={}), finish))
    assert [result.alias for result in results] == ["champion", "challenger"]
    assert "on the same validation groups, auc differs by +0.000" in results[1].promotion
    assert [result.version for result in results] == ["1", "2"]
    assert results[1].num_openings == results[0].num_openings + 1
    assert results[0].warnings == ()
    assert "its checkpoint gives" in results[1].warnings[0]  # it reported a value that is not its own
    for name in ("second-test", "second-test-images"):
        assert str(client.get_model_version_by_alias(name, "champion").version) == "1"
        assert str(client.get_model_version_by_alias(name, "challenger").version) == "2"


def test_a_champion_lies_in_the_searchs_folder_where_mlflow_stays_away_and_is_registered_later(
    client: MlflowClient,
    mlflow_server: ServerHandle,
    trained: TrainedSearch,
    runs: tuple[str, str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    parent, child = runs
    away = replace(trained.finish("away", "away-test", "http://127.0.0.1:9", parent), is_reachable=False)
    champion = crown_champion(trained.ledger(child), away)
    assert champion is not None
    assert (champion.version, champion.alias) == ("", "unregistered")
    assert champion.test is not None
    assert (champion.models / "images" / "MLmodel").is_file()
    assert "`ctsearch search --resume away` registers them" in caplog.text
    back = trained.finish("away", "away-test", mlflow_server.uri, parent)
    champion = crown_champion(trained.ledger(child), back)
    assert champion is not None
    assert (champion.version, champion.alias, champion.num_openings) == ("1", "champion", champion.num_openings)
    assert len(client.search_model_versions("name = 'away-test'")) == 1


def test_the_rebuilt_champion_is_the_trained_model(trained: TrainedSearch) -> None:
    loaded = CheckpointStore(trained.home / "trials/0003").load("best")
    assert loaded is not None
    model = rebuild_model(trained.params, trained.settings, loaded[0])
    assert not model.training
