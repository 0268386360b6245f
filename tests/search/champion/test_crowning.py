from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from mlflow import MlflowClient
from PIL import Image

from search.champion.crowning import choose_champion, crown, promote
from search.champion.report import TrialSummary
from search.champion.sealed import SealedTestError, record_opening, score_sealed_test
from trainable import metrics
from trainable.checkpoint import CheckpointStore
from trainable.checkpoint_writer import CheckpointWriter
from trainable.config import TrialConfig, TrialSettings
from trainable.images.prepare import SealedTest, TrainingData, prepare_data
from trainable.served_model import predict, rebuild_model
from trainable.train import train

if TYPE_CHECKING:
    from mlflow_server.serve import ServerHandle

CLASSES = ("bars", "checks", "waves")
SIZE = 32


@pytest.fixture
def client(mlflow_server: ServerHandle) -> MlflowClient:
    return MlflowClient(mlflow_server.uri)


@pytest.fixture
def experiment(client: MlflowClient) -> str:
    return client.create_experiment(uuid.uuid4().hex)


def summarize(number: int, best_value: float | None, **others: Any) -> TrialSummary:
    values = {} if best_value is None else {1: best_value}
    return TrialSummary(
        **{
            "number": number,
            "params": {},
            "outcome": "completed",
            "values": values,
            "best_value": best_value,
            "best_epoch": 1 if values else None,
            "run_id": "",
            **others,
        }
    )


class TestChoice:
    def test_the_best_value_wins_whatever_its_outcome(self) -> None:
        trials = [summarize(0, 0.8), summarize(1, 0.9, outcome="stopped"), summarize(2, 0.7)]
        assert choose_champion(trials).number == 1

    def test_of_equals_the_lower_number_wins(self) -> None:
        assert choose_champion([summarize(5, 0.9), summarize(3, 0.9), summarize(4, 0.9)]).number == 3

    def test_of_losses_the_lowest_wins(self) -> None:
        trials = [summarize(0, 0.8), summarize(1, 0.2), summarize(2, 0.7)]
        assert choose_champion(trials, higher_is_better=False).number == 1

    def test_a_trial_without_a_value_cannot_win(self) -> None:
        trials = [summarize(0, None, outcome="failed"), summarize(1, float("nan")), summarize(2, 0.1)]
        for higher_is_better in (True, False):
            assert choose_champion(trials, higher_is_better=higher_is_better).number == 2
        with pytest.raises(ValueError, match="none of 2 trials finished an epoch"):
            choose_champion(trials[:2])


class TestOpening:
    def test_the_same_champion_goes_on_and_another_is_refused(self, tmp_path: Path) -> None:
        folder = tmp_path / "first"
        folder.mkdir()
        opening = record_opening(folder, search="first", champion=3, data_hash="abc")
        assert opening.num_openings == 1
        assert record_opening(folder, search="first", champion=3, data_hash="abc") == opening
        with pytest.raises(SealedTestError, match=r"opened for trial 3 .* for trial 4"):
            record_opening(folder, search="first", champion=4, data_hash="abc")

    def test_openings_of_the_same_data_are_counted_across_searches(self, tmp_path: Path) -> None:
        counts = []
        for name, data_hash in (("a", "abc"), ("b", "other"), ("c", "abc"), ("d", "abc")):
            (tmp_path / name).mkdir()
            opening = record_opening(tmp_path / name, search=name, champion=0, data_hash=data_hash)
            counts.append(opening.num_openings)
        assert counts == [1, 1, 2, 3]

    def test_a_damaged_record_is_not_taken_for_none(self, tmp_path: Path) -> None:
        folder = tmp_path / "first"
        folder.mkdir()
        (folder / "sealed_test.json").write_text('{"search": "fir')
        with pytest.raises(SealedTestError, match=r"sealed_test\.json is damaged"):
            record_opening(folder, search="first", champion=3, data_hash="abc")


class TestScore:
    @pytest.fixture
    def net(self) -> Any:
        """A net that says how bright a picture is: three classes by thirds of the range."""
        import torch

        class Brightness(torch.nn.Module):
            def forward(self, images: torch.Tensor) -> torch.Tensor:
                distance = images.mean(dim=(1, 2, 3))[:, None] - torch.tensor([-1.5, 0.2, 2.0])
                return -distance.square()

        return Brightness()

    def make_test(self, num_slices: int, is_seen: list[int]) -> tuple[SealedTest, TrainingData]:
        rng = np.random.default_rng(0)
        labels = np.arange(num_slices) % 3
        means = np.clip(40 + 85 * labels + rng.normal(0, 45, num_slices), 0, 255)
        sealed = SealedTest(
            pixels=np.broadcast_to(means[:, None, None], (num_slices, SIZE, SIZE)).astype(np.uint8),
            labels=labels.astype(np.int64),
            groups=np.arange(num_slices) // 2,
            has_near_duplicate=np.isin(np.arange(num_slices), is_seen),
        )
        none = np.zeros(0, np.int64)
        data = TrainingData(
            name="made",
            data_hash="abc",
            classes=CLASSES,
            positive=0,
            image_size=SIZE,
            pixels_path="",
            labels=none,
            is_val=none.astype(bool),
            groups=none,
        )
        return sealed, data

    def test_figures_are_given_with_and_without_near_duplicates(self, net: Any, tmp_path: Path) -> None:
        seen = [0, 1, 2, 7]
        sealed, data = self.make_test(60, seen)
        score = score_sealed_test(net, sealed, data, folder=tmp_path, seed=0, num_resamples=200)
        assert score.figures is not None
        assert score.without_duplicates is not None
        _, probabilities = predict(net, sealed.pixels, sealed.labels)
        kept = np.setdiff1d(np.arange(60), seen)
        assert score.figures.metrics == metrics.score(sealed.labels, probabilities, 0)
        assert score.without_duplicates.metrics == metrics.score(sealed.labels[kept], probabilities[kept], 0)
        assert (score.figures.num_slices, score.figures.num_groups) == (60, 30)
        assert (score.without_duplicates.num_slices, score.without_duplicates.num_groups) == (56, 29)
        assert "4 of 60 test slices have near-duplicates" in score.warnings[0]

        flat = score.to_metrics()
        assert 0.5 < flat["test_auc_low"] < flat["test_auc"] < flat["test_auc_high"] <= 1
        assert {"test_sensitivity_2", "test_without_duplicates_specificity_0_low"} <= set(flat)
        assert flat["test_without_duplicates_num_slices"] == 56
        for path in score.pictures:
            with Image.open(path) as picture:
                assert picture.format == "PNG"

    def test_without_near_duplicates_both_figures_are_the_same(self, net: Any, tmp_path: Path) -> None:
        sealed, data = self.make_test(12, [])
        score = score_sealed_test(net, sealed, data, folder=tmp_path, seed=0, num_resamples=20)
        assert score.without_duplicates == score.figures
        assert score.warnings == ()

    def test_a_test_of_near_duplicates_only_has_one_kind_of_figures(self, net: Any, tmp_path: Path) -> None:
        sealed, data = self.make_test(6, list(range(6)))
        score = score_sealed_test(net, sealed, data, folder=tmp_path, seed=0, num_resamples=20)
        assert score.figures is not None
        assert score.without_duplicates is None
        assert "test_auc" in score.to_metrics()

    def test_an_empty_test_has_no_figures(self, net: Any, tmp_path: Path) -> None:
        sealed, data = self.make_test(0, [])
        score = score_sealed_test(net, sealed, data, folder=tmp_path, seed=0)
        assert score.figures is None
        assert score.to_metrics() == {}
        assert score.warnings == ("the test split is empty: there are no test figures",)

    def test_what_cannot_be_computed_is_said_and_not_logged(self, net: Any, tmp_path: Path) -> None:
        sealed, data = self.make_test(30, [])
        sealed = replace(sealed, labels=np.minimum(sealed.labels, 1))
        score = score_sealed_test(net, sealed, data, folder=tmp_path, seed=0, num_resamples=20)
        assert "lacks a class: auc" in score.warnings[0]
        assert "test_accuracy" in score.to_metrics()
        assert not {"test_auc", "test_auc_low"} & set(score.to_metrics())


def register(client: MlflowClient, experiment: str, name: str, **tags: str) -> str:
    """A version that is nothing but its tags."""
    logged = client.create_logged_model(experiment, name=name)
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name)
    version = client.create_model_version(
        name, f"models:/{logged.model_id}", model_id=logged.model_id, tags=tags, await_creation_for=0
    )
    return str(version.version)


def tag(value: float, data_hash: str = "abc", metric: str = "auc") -> dict[str, str]:
    return {"validation_value": repr(value), "data_hash": data_hash, "metric": metric}


@pytest.mark.parametrize(
    ("present", "new", "alias"),
    [
        (None, tag(0.5), "champion"),
        (tag(0.8), tag(0.8000001), "champion"),
        (tag(0.8), tag(0.8), "challenger"),
        (tag(0.8), tag(0.7), "challenger"),
        (tag(0.8), tag(0.9, data_hash="other"), "challenger"),
        (tag(0.8), tag(0.9, metric="accuracy"), "challenger"),
        (tag(0.8, metric="loss"), tag(0.7, metric="loss"), "champion"),
        (tag(0.8, metric="loss"), tag(0.9, metric="loss"), "challenger"),
        ({}, tag(0.9), "challenger"),
    ],
)
def test_the_alias_moves_only_to_a_better_version_on_the_same_data(
    client: MlflowClient,
    experiment: str,
    present: dict[str, str] | None,
    new: dict[str, str],
    alias: str,
) -> None:
    name = f"promote-{uuid.uuid4().hex}"
    names = (name, f"{name}-images")
    if present is not None:
        for each in names:
            first = register(client, experiment, each, **present)
            client.set_registered_model_alias(each, "champion", first)
    versions = {each: register(client, experiment, each, **new) for each in names}
    higher_is_better = new["metric"] != "loss"

    for _ in range(2):  # asking again changes nothing
        assert promote(client, versions, higher_is_better=higher_is_better) == alias
        for each in names:
            aliases = client.get_registered_model(each).aliases
            expected = {alias: versions[each]}
            if alias == "challenger":
                expected["champion"] = "1"
            assert {key: str(value) for key, value in aliases.items()} == expected


@dataclass(frozen=True, kw_only=True)
class TrainedSearch:
    """One trained trial of a three-class set, and what `crown` needs of its search."""

    home: Path
    data: TrainingData
    settings: TrialSettings
    champion: TrialSummary
    checkpoints: Path

    def options(self, name: str) -> dict[str, Any]:
        folder = self.home / "searches" / name
        folder.mkdir(parents=True, exist_ok=True)
        return {
            "search": name,
            "folder": folder,
            "checkpoint_uri": str(self.checkpoints),
            "data": self.data,
            "settings": self.settings,
            "splits_file": self.home / "splits.csv",
            "cache_dir": self.home / "cache",
            "num_resamples": 100,
        }


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> TrainedSearch:
    home = tmp_path_factory.mktemp("home")
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:40, :40]
    textures = (np.sin(x / 2), np.sin(x / 3) * np.sin(y / 3), np.sin((x**2 + y**2) / 90))
    for name, texture in zip(CLASSES, textures, strict=True):
        for patient in range(12):
            folder = home / "textures" / name / f"patient {patient}"
            folder.mkdir(parents=True)
            for index in range(2):
                noise = rng.normal(0, 70, texture.shape) + 40 * np.sin(x * rng.random() + y * rng.random())
                pixels = np.clip(128 + 60 * texture + noise, 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{index}.png")
    data = prepare_data(
        home / "textures",
        cache_dir=home / "cache",
        splits_file=home / "splits.csv",
        image_size=SIZE,
        seed=0,
    ).training
    settings = TrialSettings(classes=data.classes, positive=data.positive, image_size=SIZE, max_epochs=2)
    config = TrialConfig(architecture="small_cnn")
    with CheckpointWriter(CheckpointStore(home / "trial-0003")) as writer:
        reports = list(train(config, settings, data, checkpoints=writer))
    champion = summarize(
        3,
        reports[-1].best_value,
        params=config.to_params(),
        best_epoch=reports[-1].best_epoch,
        values={report.epoch: report.value for report in reports},
    )
    return TrainedSearch(home=home, data=data, settings=settings, champion=champion, checkpoints=home / "trial-0003")


def test_a_champion_is_scored_registered_and_promoted_once(
    client: MlflowClient, experiment: str, trained: TrainedSearch
) -> None:
    parent, child = (client.create_run(experiment).info.run_id for _ in range(2))
    champion = replace(trained.champion, run_id=child)
    given: dict[str, Any] = {
        "client": client,
        "parent_run_id": parent,
        "model_name": "crown-test",
        "warnings": ["made for a test"],
        **trained.options("first"),
    }
    crowning = crown(champion, **given)
    assert (crowning.number, crowning.version, crowning.alias) == (3, "1", "champion")
    assert crowning.value == champion.best_value
    assert crowning.warnings == ("made for a test",)  # its checkpoint gave the value that it had reported
    assert crowning.test is not None
    assert {"auc", "sensitivity_0", "sensitivity_2"} <= set(crowning.test.metrics)

    record = json.loads((given["folder"] / "sealed_test.json").read_text())
    assert record["champion"] == 3
    assert record["data_hash"] == trained.data.data_hash
    assert record["num_openings"] == 1
    assert record["opened_at"].endswith("+00:00")

    assert crown(champion, **given) == crowning  # as after a crash
    for run_id in (parent, child):
        history = client.get_metric_history(run_id, "test_auc")
        assert [point.value for point in history] == [crowning.test.metrics["auc"]]
        assert {"test_auc_low", "test_without_duplicates_auc"} <= set(client.get_run(run_id).data.metrics)
        pictures = {file.path for file in client.list_artifacts(run_id, "sealed_test")}
        names = ("confusion_matrix", "mistakes", "precision_recall", "roc_curve")
        assert pictures == {f"sealed_test/{name}.png" for name in names}
    for name in ("crown-test", "crown-test-images"):
        (version,) = client.search_model_versions(f"name = '{name}'")
        assert float(version.tags["test_auc"]) == crowning.test.metrics["auc"]
        assert str(client.get_model_version_by_alias(name, "champion").version) == "1"
    assert "made for a test" in version.description

    other = replace(champion, number=4, run_id=client.create_run(experiment).info.run_id)
    with pytest.raises(SealedTestError, match=r"trial 3 .* trial 4"):
        crown(other, **given)
    assert len(client.search_model_versions("name = 'crown-test'")) == 1


def test_a_second_search_on_the_same_data_must_be_better(
    client: MlflowClient, experiment: str, trained: TrainedSearch
) -> None:
    results = []
    assert trained.champion.best_value is not None
    for name, less in (("second", 0.0), ("third", 0.01)):
        parent, child = (client.create_run(experiment).info.run_id for _ in range(2))
        champion = replace(trained.champion, run_id=child, best_value=trained.champion.best_value - less, number=8)
        options = trained.options(name)
        results.append(crown(champion, client=client, parent_run_id=parent, model_name="second-test", **options))
    assert [result.alias for result in results] == ["champion", "challenger"]
    assert [result.version for result in results] == ["1", "2"]
    assert results[1].num_openings == results[0].num_openings + 1
    assert results[0].warnings == ()
    assert "its checkpoint gives" in results[1].warnings[0]  # it reported a value that is not its own
    for name in ("second-test", "second-test-images"):
        assert str(client.get_model_version_by_alias(name, "champion").version) == "1"
        assert str(client.get_model_version_by_alias(name, "challenger").version) == "2"


def test_a_best_epoch_that_was_lost_gives_way_to_the_next_trial() -> None:
    trials = [summarize(number, value) for number, value in ((0, 0.7), (1, 0.9), (2, 0.8), (3, None))]
    assert choose_champion(trials).number == 1
    assert choose_champion(trials, is_kept=lambda trial: trial.number != 1).number == 2
    assert choose_champion(trials, is_kept=lambda trial: False).number == 1, "crowning then says what is missing"


def test_without_a_checkpoint_the_sealed_test_stays_closed(
    client: MlflowClient, trained: TrainedSearch, tmp_path: Path
) -> None:
    options = {**trained.options("fourth"), "checkpoint_uri": str(tmp_path / "nothing")}
    with pytest.raises(FileNotFoundError, match="trial 3 has no readable `best` checkpoint"):
        crown(trained.champion, client=client, parent_run_id="", model_name="none", **options)
    assert not (options["folder"] / "sealed_test.json").exists()


def test_the_rebuilt_champion_is_the_trained_net(trained: TrainedSearch) -> None:
    loaded = CheckpointStore(trained.checkpoints).load("best")
    assert loaded is not None
    net = rebuild_model(trained.champion.params, trained.settings, loaded[0])
    assert not net.training
