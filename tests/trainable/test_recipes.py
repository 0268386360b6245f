from __future__ import annotations

import pytest
import torch

from search.cli import main
from trainable.architectures import build_model, check_image_size
from trainable.fine_tuning import count_trained, freeze_layers, split_head
from trainable.recipes import RECIPES, find_recipe

NAMES = (
    *("resnet152-pretrained", "resnet50-frozen", "resnet50-finetune", "resnet50-split-702010"),
    *("vgg16-covidct", "cnn-rmsprop"),
)


def test_the_recipes_are_those_of_the_five_projects() -> None:
    assert tuple(RECIPES) == NAMES
    with pytest.raises(ValueError, match="unknown recipe 'resnet'; it must be one of resnet152-pretrained"):
        find_recipe("resnet")


@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_builds_its_model(name: str) -> None:
    recipe = find_recipe(name)
    check_image_size(recipe.config, recipe.image_size)
    with torch.device("meta"):
        model = build_model(recipe.config, 2)
        logits = model.eval()(torch.zeros(1, 1, recipe.image_size, recipe.image_size))
    assert logits.shape == (1, 2)


def test_a_confusion_matrix_and_its_rates_agree() -> None:
    reported = find_recipe("resnet152-pretrained").reported
    assert reported["accuracy"] == pytest.approx(0.903, abs=5e-4)
    assert (reported["sensitivity"], reported["specificity"]) == pytest.approx((0.843, 0.974), abs=5e-4)


def test_the_frozen_recipe_trains_its_head_alone() -> None:
    config = find_recipe("resnet50-frozen").config
    with torch.device("meta"):
        model = build_model(config, 2)
    freeze_layers(model, count_trained(config, 0.5, len(split_head(model)[0])))
    assert {name.partition(".")[0] for name, p in model.named_parameters() if p.requires_grad} == {"fc"}


def test_the_fine_tuned_recipe_trains_the_last_twenty_and_forty_layers_of_keras() -> None:
    config = find_recipe("resnet50-finetune").config
    with torch.device("meta"):
        model = build_model(config, 2)
    trained = []
    for epoch in (1, 21, 61):
        freeze_layers(model, count_trained(config, (epoch - 1) / 80, len(split_head(model)[0])))
        names = {name.rpartition(".")[0] for name, p in model.named_parameters() if p.requires_grad}
        trained.append({name for name in names if not name.startswith("fc")})
    assert [len(names) for names in trained] == [0, 12, 24]
    assert {name for name in trained[2] if name.startswith("layer3")} == {
        f"layer3.5.{part}" for part in ("conv2", "bn2", "conv3", "bn3")
    }


def test_recipes_are_listed_with_their_source_and_figures(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert all(name in shown for name in NAMES)
    assert "accuracy 0.783, sensitivity 0.745, specificity 0.819, auc 0.862 on COVID-CT, published split" in shown
    assert "TP 226, FN 42, TN 223, FP 6" in shown
    assert "exist for DenseNet-121 only" in shown
