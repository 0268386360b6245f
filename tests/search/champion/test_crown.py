from __future__ import annotations

import json
import shutil
import uuid
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from PIL import Image

from search.champion.choice import choose_champion, choose_members
from search.champion.crown import Finish, crown, crown_champion
from search.champion.model import build_champion, choose_point
from search.champion.opening import SealedTestError, read_opening, record_opening
from search.champion.promotion import Verdict, judge_by_value, promote
from search.champion.sealed import score_sealed_test
from search.core.folder import create_search, reopen_search
from search.core.ledger import Ledger, TrialEntry
from trainable import metrics
from trainable.calibration import TemperatureScaling
from trainable.checkpoint import CheckpointStore
from trainable.checkpoint_writer import CheckpointWriter
from trainable.classify import load_registered
from trainable.config import TrialConfig, TrialSettings
from trainable.images.prepare import SealedTest, TrainingData, prepare_data
from trainable.report import Direction, Outcome
from trainable.served_ensemble import TrainedEnsemble
from trainable.served_model import predict, rebuild_model
from trainable.task import TrialTask
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


class FirstTwo(torch.nn.Module):
    """The logits of the first two classes."""

    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        return logits[:, :2]


def alone(net: torch.nn.Module) -> TrainedEnsemble:
    return TrainedEnsemble(members=(net,))


class TestOpening:
    def test_the_same_champion_goes_on_and_another_is_refused(self, tmp_path: Path) -> None:
        folder = tmp_path / "first"
        folder.mkdir()
        opening = record_opening(folder, search="first", members=(3,), data_hash="abc")
        assert opening.num_openings == 1
        assert record_opening(folder, search="first", members=(3,), data_hash="abc") == opening
        with pytest.raises(SealedTestError, match=r"opened for trial 3 .* for trial 4"):
            record_opening(folder, search="first", members=(4,), data_hash="abc")

    def test_openings_of_the_same_data_are_counted_across_searches(self, tmp_path: Path) -> None:
        counts = []
        for name, data_hash in (("a", "abc"), ("b", "other"), ("c", "abc"), ("d", "abc")):
            (tmp_path / name).mkdir()
            opening = record_opening(tmp_path / name, search=name, members=(0,), data_hash=data_hash)
            counts.append(opening.num_openings)
        assert counts == [1, 1, 2, 3]

    def test_an_ensemble_is_known_by_its_members_and_an_old_record_by_its_trial(self, tmp_path: Path) -> None:
        folder = tmp_path / "first"
        folder.mkdir()
        opening = record_opening(folder, search="first", members=(5, 1, 3), data_hash="abc")
        assert opening.members == (1, 3, 5)
        assert record_opening(folder, search="first", members=(3, 5, 1), data_hash="abc") == opening
        with pytest.raises(SealedTestError, match=r"for trials 1, 3 and 5 .* for trial 3 too"):
            record_opening(folder, search="first", members=(3,), data_hash="abc")
        old = {"search": "old", "champion": 7, "data_hash": "abc", "opened_at": opening.opened_at, "num_openings": 1}
        (tmp_path / "sealed_test.json").write_text(json.dumps(old))
        assert read_opening(tmp_path / "sealed_test.json") == replace(opening, search="old", members=(7,))

    def test_a_damaged_record_is_not_taken_for_none(self, tmp_path: Path) -> None:
        folder = tmp_path / "first"
        folder.mkdir()
        (folder / "sealed_test.json").write_text('{"search": "fir')
        with pytest.raises(SealedTestError, match=r"sealed_test\.json is damaged"):
            record_opening(folder, search="first", members=(3,), data_hash="abc")


class TestScore:
    @pytest.fixture
    def net(self) -> Any:
        """A net that says how bright a picture is: three classes by thirds of the range."""

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
        score = score_sealed_test(alone(net), sealed, data, folder=tmp_path, seed=0, num_resamples=200)
        assert score.figures is not None
        assert score.without_duplicates is not None
        _, probabilities = predict(net, sealed.pixels, sealed.labels)
        kept = np.setdiff1d(np.arange(60), seen)
        for figures, rows in ((score.figures, np.arange(60)), (score.without_duplicates, kept)):
            expected = metrics.score(sealed.labels[rows], probabilities[rows], 0)
            assert {name: figures.metrics[name] for name in expected} == pytest.approx(expected)
        assert (score.figures.num_slices, score.figures.num_groups) == (60, 30)
        assert (score.without_duplicates.num_slices, score.without_duplicates.num_groups) == (56, 29)
        assert "4 of 60 test slices have near-duplicates" in score.warnings[0]

        flat = score.to_metrics()
        assert 0.5 < flat["test_auc_low"] < flat["test_auc"] < flat["test_auc_high"] <= 1
        assert {"test_sensitivity_2", "test_without_duplicates_specificity_0_low"} <= set(flat)
        assert flat["test_without_duplicates_num_slices"] == 56
        assert score.figures.to_record("test")["test_auc_method"] == "Newcombe"
        assert score.of_patients is None  # a group's slices are of several classes here
        for path in score.pictures:
            with Image.open(path) as picture:
                assert picture.format == "PNG"

    def test_without_near_duplicates_both_figures_are_the_same(self, net: Any, tmp_path: Path) -> None:
        sealed, data = self.make_test(12, [])
        score = score_sealed_test(alone(net), sealed, data, folder=tmp_path, seed=0, num_resamples=20)
        assert score.without_duplicates == score.figures
        assert score.warnings == ()

    def test_a_test_of_near_duplicates_only_has_one_kind_of_figures(self, net: Any, tmp_path: Path) -> None:
        sealed, data = self.make_test(6, list(range(6)))
        score = score_sealed_test(alone(net), sealed, data, folder=tmp_path, seed=0, num_resamples=20)
        assert score.figures is not None
        assert score.without_duplicates is None
        assert "test_auc" in score.to_metrics()

    def test_an_empty_test_has_no_figures(self, net: Any, tmp_path: Path) -> None:
        sealed, data = self.make_test(0, [])
        score = score_sealed_test(alone(net), sealed, data, folder=tmp_path, seed=0)
        assert score.figures is None
        assert score.to_metrics() == {}
        assert score.warnings == ("the test split is empty: there are no test figures",)

    def test_figures_are_given_by_patient_too_and_never_with_a_width_of_zero(self, net: Any, tmp_path: Path) -> None:
        sealed, data = self.make_test(36, [])
        labels = sealed.groups % 2  # two slices a patient
        pixels = np.broadcast_to((40 + 90 * labels)[:, None, None], sealed.pixels.shape).astype(np.uint8)
        sealed = replace(sealed, labels=labels, pixels=pixels)
        data = replace(data, classes=CLASSES[:2], positive=1)
        two = torch.nn.Sequential(net, torch.nn.Flatten(), FirstTwo())
        score = score_sealed_test(
            alone(two), sealed, data, folder=tmp_path, seed=0, num_resamples=20, group_name="patients"
        )
        assert score.figures is not None
        assert score.of_patients is not None
        for figures in (score.figures, score.of_patients):
            auc = figures.estimates["auc"]
            assert auc.value == 1
            assert auc.interval.width > 0.05
        assert "test_patients_auc_low" in score.to_metrics()
        assert score.figures.can_tell.startswith("AUC: with 18 patients, two models must differ by")
        assert {"reliability.png", "decision_curve.png"} <= {path.name for path in score.pictures}

    def test_what_cannot_be_computed_is_said_and_not_logged(self, net: Any, tmp_path: Path) -> None:
        sealed, data = self.make_test(30, [])
        sealed = replace(sealed, labels=np.minimum(sealed.labels, 1))
        score = score_sealed_test(alone(net), sealed, data, folder=tmp_path, seed=0, num_resamples=20)
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
    direction = Direction.of(new["metric"])

    def judge(present: str) -> Verdict:
        mine, theirs = (client.get_model_version(name, version).tags for version in (versions[name], present))
        return judge_by_value(mine, theirs, direction)

    for _ in range(2):  # asking again changes nothing
        assert promote(client, versions, rule="if-better", judge=judge)[0] == alias
        for each in names:
            aliases = client.get_registered_model(each).aliases
            expected = {alias: versions[each]}
            if alias == "challenger":
                expected["champion"] = "1"
            assert {key: str(value) for key, value in aliases.items()} == expected


@dataclass(frozen=True, kw_only=True)
class TrainedSearch:
    """Trial 3 of a three-class set, trained, in a home of its own."""

    home: Path
    data: TrainingData
    settings: TrialSettings
    params: dict[str, Any]
    values: dict[int, float]

    def finish(self, name: str, model_name: str, tracking_uri: str, parent_run_id: str = "") -> Finish:
        """A search of this name, at its end; it has a copy of the splits and of the trials."""
        try:
            folder = create_search(self.home, name, {})
            shutil.copyfile(self.home / "splits.csv", folder.splits_file)
            shutil.copytree(self.home / "trials", folder.trials, dirs_exist_ok=True)
        except ValueError:
            folder = reopen_search(self.home, name)
        folder.release()
        task = TrialTask(
            search=name, settings=self.settings, data=self.data, trials_uri=str(folder.trials), node_dir=str(self.home)
        )
        return Finish(
            folder=folder,
            task=task,
            model_name=model_name,
            tracking_uri=tracking_uri,
            parent_run_id=parent_run_id,
            num_resamples=100,
        )

    def ledger(self, run_id: str | None, *, number: int = 3) -> Ledger:
        ledger = Ledger()
        ledger.restore(
            TrialEntry(
                number=number,
                params=self.params,
                values=dict(self.values),
                outcome=Outcome.COMPLETED,
                run_id=run_id,
            )
        )
        return ledger


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
    with CheckpointWriter(CheckpointStore(home / "trials/0003")) as writer:
        reports = list(train(config, settings, data, checkpoints=writer))
    values = {report.epoch: report.value for report in reports}
    return TrainedSearch(home=home, data=data, settings=settings, params=config.to_params(), values=values)


@pytest.fixture
def runs(client: MlflowClient, experiment: str) -> tuple[str, str]:
    """A parent run and a child's."""
    parent, child = (client.create_run(experiment).info.run_id for _ in range(2))
    return parent, child


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


def test_the_mean_of_completed_trials_is_one_saved_model(trained: TrainedSearch) -> None:
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
    mean = np.mean(each, axis=0)
    assert champion.value == pytest.approx(metrics.score(labels, mean, trained.data.positive)["auc"])
    expected = TemperatureScaling(temperature=champion.temperature).apply(mean)
    with torch.inference_mode():
        np.testing.assert_allclose(classifier.predict(torch.from_numpy(pixels)).numpy(), expected, atol=1e-5)


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


class TestChoice:
    @pytest.fixture
    def task(self, trained: TrainedSearch, tmp_path: Path) -> TrialTask:
        finish = trained.finish("choice", "none", "")
        return replace(finish.task, trials_uri=str(tmp_path))

    def enter(self, ledger: Ledger, task: TrialTask, number: int, value: float, *, saved: bool = True) -> None:
        ledger.restore(TrialEntry(number=number, params={}, values={1: value}, outcome=Outcome.STOPPED))
        if saved:
            facts = {"epoch": 1, "value": value, "metrics": {}}
            CheckpointStore(Path(task.trials_uri) / f"{number:04d}").save("best", {}, facts)

    def test_the_best_value_wins_and_of_equals_the_lower_number(self, task: TrialTask) -> None:
        ledger = Ledger()
        for number, value in ((5, 0.9), (3, 0.9), (4, 0.2), (1, float("nan"))):
            self.enter(ledger, task, number, value)
        candidate = choose_champion(ledger, task)
        assert candidate is not None
        assert (candidate.entry.number, candidate.value, candidate.warnings) == (3, 0.9, ())

    def test_without_a_value_there_is_no_champion(self, task: TrialTask) -> None:
        ledger = Ledger()
        ledger.restore(TrialEntry(number=0, params={}, outcome=Outcome.FAILED))
        self.enter(ledger, task, 1, float("nan"))
        assert choose_champion(ledger, task) is None

    def test_a_best_epoch_that_was_lost_or_damaged_gives_way_to_the_next_trial_with_a_warning(
        self, task: TrialTask
    ) -> None:
        ledger = Ledger()
        self.enter(ledger, task, 1, 0.9, saved=False)
        self.enter(ledger, task, 2, 0.8)
        self.enter(ledger, task, 3, 0.7)
        next(Path(task.trials_uri, "0002").glob("best-*.pt")).write_bytes(b"damaged")
        candidate = choose_champion(ledger, task)
        assert candidate is not None
        assert candidate.entry.number == 3
        assert [warning.split(",")[0] for warning in candidate.warnings] == [
            "the best epoch of trial 1",
            "the best epoch of trial 2",
        ]

    def test_members_are_the_best_that_completed_and_can_be_read(self, task: TrialTask) -> None:
        ledger = Ledger()
        for number, value in ((1, 0.6), (2, 0.9), (3, 0.8), (4, 0.7), (5, 0.99)):
            self.enter(ledger, task, number, value, saved=number != 2)
            ledger.entries[number].outcome = Outcome.STOPPED if number == 5 else Outcome.COMPLETED
        for number in (6, 7, 8):
            self.enter(ledger, task, number, 0.1, saved=False)
        members = choose_members(ledger, task, size=2)
        assert [member.entry.number for member in members] == [3, 4]
        assert members[0].warnings[0].startswith("the best epoch of trial 2, 0.9000, cannot be read")
        assert [member.entry.number for member in choose_members(ledger, task, size=1)] == [5], "the best alone"
        again = choose_members(ledger, task, size=5, opened_for=(1, 3))
        assert {member.entry.number for member in again} == {1, 3}, "the test is open for these"
        assert [member.entry.number for member in choose_members(ledger, task, size=5, opened_for=(4,))] == [4]

    def test_a_trial_below_the_median_is_no_member(self, task: TrialTask) -> None:
        ledger = Ledger()
        for number, value in ((0, 0.92), (1, 0.9), (2, 0.5)):
            self.enter(ledger, task, number, value)
            ledger.entries[number].outcome = Outcome.COMPLETED
        assert [member.entry.number for member in choose_members(ledger, task, size=5)] == [0, 1]

    def test_with_fewer_than_two_members_the_best_single_trial_is_chosen(self, task: TrialTask) -> None:
        ledger = Ledger()
        for number, value in ((1, 0.6), (2, 0.9)):
            self.enter(ledger, task, number, value)
        ledger.entries[1].outcome = Outcome.COMPLETED
        assert [member.entry.number for member in choose_members(ledger, task, size=5)] == [2]
        assert [m.entry.number for m in choose_members(ledger, task, size=5, last_rung=1)] == [1, 2]
        assert choose_members(Ledger(), task, size=5) == []

    def test_where_no_checkpoint_can_be_read_the_sealed_test_stays_closed(
        self, task: TrialTask, trained: TrainedSearch
    ) -> None:
        ledger = Ledger()
        self.enter(ledger, task, 1, 0.9, saved=False)
        finish = replace(trained.finish("fourth", "none", ""), task=task)
        with pytest.raises(FileNotFoundError, match="none of 1 trials has a readable `best` checkpoint"):
            crown_champion(ledger, finish)
        assert not finish.folder.sealed_test_file.exists()


def test_the_rebuilt_champion_is_the_trained_net(trained: TrainedSearch) -> None:
    loaded = CheckpointStore(trained.home / "trials/0003").load("best")
    assert loaded is not None
    net = rebuild_model(trained.params, trained.settings, loaded[0])
    assert not net.training
