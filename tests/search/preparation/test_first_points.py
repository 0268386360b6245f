from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from mlflow_server.serve import ServerHandle
from search.cli import run
from search.core.config import SearchConfig
from search.core.ledger import Ledger
from search.core.space import DefaultSpace
from search.engine.cluster import Cluster
from search.preparation.first_points import ChosenRecipes, describe_standing, find_points
from search.preparation.models import choose_models
from tests.search.reports import report
from trainable.recipes import RECIPES, Recipe, name_recipe
from trainable.report import Outcome, TrialFailure

CNN, VGG = RECIPES["cnn-rmsprop"], RECIPES["vgg16-covidct"]
TOO_LARGE = Recipe(
    name="too-large",
    summary="more than any machine here holds",
    params={**CNN.params, "batch_size": 65536, "cnn_filters": 1024},
    max_epochs=5,
)
OUT_OF_MEMORY = "a training step of 65536 images of 32 px needs"


@pytest.fixture
def search(
    cluster: Cluster, synthetic_folder: Path, mlflow_server: ServerHandle, tmp_path: Path
) -> Callable[..., Path]:
    """Run a small search in this process and return its folder."""

    def run_small(**options: Any) -> Path:
        config = SearchConfig(
            name="small",
            home=tmp_path,
            data=synthetic_folder,
            tracking_uri=mlflow_server.uri,
            model_name="recipes",
            architectures=("squeezenet1_1", "mobilenet_v3_small"),
            num_trials=2,
            max_epochs=3,
            image_size=32,
            trial_cpus=1,
        )
        assert run(replace(config, **options)) == 0
        return tmp_path / "searches" / "small"

    return run_small


def test_a_search_begins_with_its_recipes_and_says_where_its_champion_stands(
    search: Callable[..., Path],
    mlflow_server: ServerHandle,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(RECIPES, TOO_LARGE.name, TOO_LARGE)
    folder = search(recipes=("cnn-rmsprop", "too-large"))
    shown = capsys.readouterr().out
    assert "Recipes      first points: cnn-rmsprop\n" in shown
    assert f"Recipes      too-large skipped: {OUT_OF_MEMORY}" in shown
    assert "Recipes      models that join the search with them: small_cnn\n" in shown
    assert "3 epochs here, stages being fractions of them, and not: cnn-rmsprop 15" in shown

    result = json.loads((folder / "result.json").read_text())
    assert result["num_trials"] == 2, "of three first points: the budget holds for them too"
    assert result["recipes"]["cnn-rmsprop"]["number"] == 0
    assert result["recipes_left_out"]["too-large"].startswith(OUT_OF_MEMORY)
    section = (folder / "report.md").read_text().split("## Baselines")[1].split("##")[0]
    assert "- the champion" in section
    assert "- cnn-rmsprop: trial 0, 0." in section
    assert f"- too-large: skipped, {OUT_OF_MEMORY}" in section
    assert "- trial 1, squeezenet1_1 as one would train it without a search: validation auc 0." in section
    assert all(f" {line[2:]}\n" in shown for line in section.strip().splitlines())
    assert "Baseline     trial 1, as one would train it without a search: to the end" in shown

    client = MlflowClient(mlflow_server.uri)
    parent = client.get_run(json.loads((folder / "search.json").read_text())["parent_run_id"])
    assert parent.data.tags["recipes"] == "cnn-rmsprop"
    assert parent.data.tags["recipes_left_out"].startswith(f"too-large: {OUT_OF_MEMORY}")
    trials = client.search_runs([parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    (first,) = [trial for trial in trials if trial.data.tags.get("recipe")]
    assert (first.data.tags["recipe"], first.data.tags["trial"]) == ("cnn-rmsprop", "0")


def test_a_space_that_lacks_a_recipe_is_refused_before_anything_is_trained(
    search: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "own.py").write_text("def space(trial):\n    return {'architecture': 'small_cnn', 'cnn_kernel': 3}\n")
    with pytest.raises(ValueError, match=r"does not contain the recipe cnn-rmsprop: .*cnn_kernel 3 for 2.*--recipes"):
        search(recipes=("cnn-rmsprop",), space=tmp_path / "own.py", architectures=())
    assert not (tmp_path / "searches" / "small").exists()


def test_a_configuration_is_known_by_its_recipes_name() -> None:
    assert [name_recipe(recipe.config.to_params()) for recipe in RECIPES.values()] == list(RECIPES)
    assert name_recipe({**CNN.params, "cnn_depth": 4}) is None
    assert name_recipe({"height": 3.0}) is None


def test_what_became_of_each_recipe_is_reported() -> None:
    recipes = tuple(RECIPES.values())
    ledger = Ledger()
    for number, outcome in enumerate((Outcome.STOPPED, Outcome.FAILED, Outcome.COMPLETED, Outcome.INTERRUPTED)):
        ledger.begin(number, recipes[number].config.to_params())
        for epoch in range(1, 4):
            ledger.report(number, report(epoch, 0.5 + (number + epoch) / 100))
        if outcome is Outcome.FAILED:
            ledger.fail(number, TrialFailure(error="the loss is nan"))
        ledger.end(number, outcome)
    ledger.begin(4, {**CNN.params, "cnn_depth": 4})
    ledger.report(4, report(1, 0.9))
    chosen = ChosenRecipes(recipes=recipes[:5], skipped={CNN.name: "no room"})
    assert describe_standing(ledger, chosen, metric="auc", champion=4) == [
        "the champion, trial 4, has validation auc 0.9000; the best recipe, resnet50-split-702010, 0.5550",
        "resnet152-pretrained: trial 0, 0.5250 at epoch 3; stopped by ASHA after epoch 3: how far it would have come "
        "is not known",
        "resnet50-frozen: trial 1, failed: the loss is nan",
        "resnet50-finetune: trial 2, 0.5450 at epoch 3; completed 3 of its 80 epochs",
        "resnet50-split-702010: trial 3, 0.5550 at epoch 3; interrupted after epoch 3",
        "vgg16-covidct: not tried, the budget ended before it",
        "cnn-rmsprop: skipped, no room",
    ]
    assert describe_standing(ledger, chosen, metric="auc", champion=3)[0] == "the champion is resnet50-split-702010"


def test_models_of_recipes_join_those_asked_for_and_have_no_sound_point_of_their_own() -> None:
    chosen = ChosenRecipes(recipes=(VGG, CNN), skipped={"resnet152-pretrained": "no room"})
    models = choose_models(
        ("resnet18", "small_cnn"),
        {"resnet152": "never/read.pth"},
        has_gpu=False,
        of_recipes=chosen.architectures,
        forgone=chosen.forgone_architectures,
    )
    assert (models.architectures, models.joined) == (("resnet18", "small_cnn", "vgg16"), ("vgg16",))
    space = DefaultSpace(models.architectures)
    points = find_points(chosen.recipes, space) + space.first_points(models.own)
    assert [point["architecture"] for point in points] == ["vgg16", "small_cnn", "resnet18", "small_cnn"]
    lines = chosen.lines(joined=models.joined, pretrained=(), max_epochs=20)
    assert lines[1:] == [
        "resnet152-pretrained skipped: no room",
        "models that join the search with them: vgg16",
        "from scratch, for want of --weights: vgg16",
        "20 epochs here, stages being fractions of them, and not: cnn-rmsprop 15",
    ]
