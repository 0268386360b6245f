from __future__ import annotations

from pathlib import Path

import optuna
import pytest
import torch

from search.core.ranges import Choice, Interval, parse_range
from search.core.space import DefaultSpace, find_point, load_space
from search.engine.space_probe import check_space
from search.preparation.first_points import fine_tuned_by
from trainable.architectures import build_model
from trainable.config import CPU_ARCHITECTURES, GPU_ARCHITECTURES, POOLING, UNFREEZING, TrialConfig
from trainable.recipes import RECIPES

ALL = CPU_ARCHITECTURES + GPU_ARCHITECTURES


def draw(space: DefaultSpace, seed: int) -> dict[str, object]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    return space(study.ask())


def test_every_draw_is_a_valid_configuration() -> None:
    space = DefaultSpace(ALL)
    drawn = [TrialConfig.from_params(draw(space, seed)) for seed in range(200)]
    assert {config.architecture for config in drawn} == set(ALL)
    assert {config.optimizer for config in drawn} == {"adam", "adamw", "sgd", "rmsprop"}


def test_every_way_of_fine_tuning_is_drawn_for_models_with_weights_and_builds() -> None:
    space = DefaultSpace(ALL, fine_tuned=ALL)
    drawn = [TrialConfig.from_params(draw(space, seed)) for seed in range(110)]
    to_build: dict[object, TrialConfig] = {}  # every architecture, and every way of fine-tuning one
    for config in drawn:
        to_build.setdefault(config.architecture, config)
        to_build.setdefault((config.unfreezing, config.pooling, config.head_depth), config)
    with torch.device("meta"):
        for config in set(to_build.values()):
            assert build_model(config, 2).eval()(torch.zeros(1, 1, 64, 64)).shape == (1, 2)
    assert {config.architecture for config in drawn} == set(ALL)
    assert {config.unfreezing for config in drawn} == set(UNFREEZING)
    assert {config.pooling for config in drawn} == set(POOLING)
    assert {config.head_depth for config in drawn} == {0, 1, 2}
    assert all(config.layer_lr_decay < 1 or config.unfreezing == "frozen" for config in drawn)
    assert all(config.unfreeze_at <= config.unfreeze_more_at for config in drawn)


def test_a_model_without_weights_is_trained_whole_unless_the_user_says_otherwise() -> None:
    fine_tuning = {"unfreezing", "unfrozen_layers", "unfreeze_at", "unfreeze_more_at", "layer_lr_decay", "pooling"}
    space = DefaultSpace(("resnet18", "resnet50"), fine_tuned=("resnet50",))
    for seed in range(30):
        drawn = draw(space, seed)
        assert bool(fine_tuning & set(drawn)) == (drawn["architecture"] == "resnet50")
    asked = DefaultSpace(("resnet18",), {"head_depth": Interval(1, 2, integer=True)})
    assert set(draw(asked, 0)) >= {"head_depth", "head_width"}
    assert not fine_tuning & set(draw(asked, 0))


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("has_weights", [True, False])
def test_the_space_contains_every_recipe(name: str, has_weights: bool) -> None:
    """Without weights the architectures that a recipe of the search freezes count as fine-tuned (first_points.py)."""
    config = RECIPES[name].config
    architectures = [architecture for architecture in ALL if architecture != "small_cnn"]
    space = DefaultSpace(ALL, fine_tuned=architectures if has_weights else fine_tuned_by([RECIPES[name]]))
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    point = find_point(space, config)
    study.enqueue_trial(point)
    assert TrialConfig.from_params(space(study.ask())) == config
    assert study.trials[0].params == point


def test_what_a_space_lacks_of_a_configuration_is_named() -> None:
    space = DefaultSpace(ALL, {"batch_size": Choice((16, 32)), "lr_schedule": Choice(("cosine",))})
    with pytest.raises(ValueError, match="differs in lr_schedule 'cosine' for 'constant', batch_size 16 for 18"):
        find_point(space, RECIPES["resnet152-pretrained"].config)


def test_the_small_cnns_own_hyperparameters_are_drawn_for_it_alone() -> None:
    space = DefaultSpace(("small_cnn", "resnet18"))
    for seed in range(40):
        drawn = draw(space, seed)
        assert ("cnn_depth" in drawn) == (drawn["architecture"] == "small_cnn")
        assert ("momentum" in drawn) == (drawn["optimizer"] in ("sgd", "rmsprop"))


def test_a_range_from_the_command_line_holds_for_every_optimiser() -> None:
    space = DefaultSpace(("resnet18",), {"learning_rate": parse_range("learning_rate", "1e-5:1e-3")})
    rates = [draw(space, seed)["learning_rate"] for seed in range(60)]
    assert all(isinstance(rate, float) and 1e-5 <= rate <= 1e-3 for rate in rates)


def test_what_won_on_no_two_sets_is_off_unless_a_range_is_given() -> None:
    names = ("intensity", "cutout", "mixup", "cutmix")
    given = {"mixup": "0:0.4", "intensity": "0.2,0.5", "cutout": "0.3"}
    space = DefaultSpace(("resnet18",), {name: parse_range(name, text) for name, text in given.items()})
    drawn = [space(optuna.create_study().ask()) for _ in range(20)]
    assert {each["intensity"] for each in drawn} == {0.2, 0.5}
    assert {each["cutout"] for each in drawn} == {0.3}
    assert all(0 <= each["mixup"] <= 0.4 for each in drawn) and len({each["mixup"] for each in drawn}) == 20
    assert all("cutmix" not in each for each in drawn)
    assert not set(names) & set(DefaultSpace(("resnet18",))(optuna.create_study().ask()))
    with pytest.raises(ValueError, match=r"--range cutout=0:2: .*cutout"):
        parse_range("cutout", "0:2")


def test_sgd_gets_higher_rates_by_default() -> None:
    space = DefaultSpace(("resnet18",), {"optimizer": Choice(("sgd",))})
    rates = [draw(space, seed)["learning_rate"] for seed in range(60)]
    assert max(float(str(rate)) for rate in rates) > 1e-2


def test_a_single_value_fixes_a_hyperparameter() -> None:
    space = DefaultSpace(("resnet18",), {"batch_size": Choice((16,)), "dropout": Interval(0.2, 0.2)})
    drawn = draw(space, 0)
    assert (drawn["batch_size"], drawn["dropout"]) == (16, 0.2)


@pytest.mark.parametrize(
    "ranges", [{}, {"optimizer": "sgd,rmsprop", "learning_rate": "1e-5:1e-4"}, {"optimizer": "sgd"}]
)
def test_a_search_begins_with_a_sound_point_of_every_model(ranges: dict[str, str]) -> None:
    narrowed = {name: parse_range(name, text) for name, text in ranges.items()}
    space = DefaultSpace(("small_cnn", "resnet18", "vgg16"), narrowed)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for point in space.first_points(pretrained={"vgg16"}):
        study.enqueue_trial(point)
    drawn = [TrialConfig.from_params(space(study.ask())) for _ in range(3)]
    assert [config.architecture for config in drawn] == ["small_cnn", "resnet18", "vgg16"]
    if not ranges:
        assert [config.learning_rate for config in drawn] == [1e-3, 1e-3, 5e-4]
        assert {(config.optimizer, config.batch_size, config.augmentation) for config in drawn} == {("adamw", 16, 0.4)}
    assert [trial.params for trial in study.trials] == space.first_points(pretrained={"vgg16"})


def test_a_pretrained_model_begins_with_all_of_its_layers_at_one_rate() -> None:
    space = DefaultSpace(("mobilenet_v2",), fine_tuned=("mobilenet_v2",))
    (point,) = space.first_points(pretrained={"mobilenet_v2"})
    fine_tuning = {"unfreezing": "all", "layer_lr_decay": 1.0, "pooling": "avg", "head_depth": 0}
    assert point.items() >= fine_tuning.items()
    assert (point["learning_rate"], point["batch_size"], point["weight_decay"]) == (5e-4, 16, 1e-2)


@pytest.mark.parametrize(
    ("name", "text", "parsed"),
    [
        ("learning_rate", "1e-5:1e-3", Interval(1e-5, 1e-3, log=True)),
        ("augmentation", "0:0.5", Interval(0.0, 0.5)),
        ("cnn_depth", "2:3", Interval(2, 3, integer=True)),
        ("batch_size", "16,32", Choice((16, 32))),
        ("optimizer", "adam,sgd", Choice(("adam", "sgd"))),
        ("class_weighting", "true", Choice((True,))),
        ("dropout", "0.1,0.2", Choice((0.1, 0.2))),
    ],
)
def test_ranges_are_read_as_they_are_written(name: str, text: str, parsed: Interval | Choice) -> None:
    assert parse_range(name, text) == parsed


@pytest.mark.parametrize(
    ("name", "text", "word"),
    [
        ("learning_rat", "1:2", "unknown hyperparameter"),
        ("learning_rate", "1e-3:1e-5", "lower end"),
        ("learning_rate", "a:b", "must be a number"),
        ("cnn_depth", "2.5:3", "whole number"),
        ("optimizer", "1:2", "is a choice"),
        ("class_weighting", "maybe", "true or false"),
        ("dropout", ",", "LOW:HIGH or A,B,C"),
    ],
)
def test_a_bad_range_says_what_must_hold(name: str, text: str, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        parse_range(name, text)


def test_a_users_own_space_is_loaded_and_checked(tmp_path: Path) -> None:
    file = tmp_path / "my_space.py"
    file.write_text("def space(trial):\n    return {'architecture': 'resnet18', 'learning_rate': 1e-3}\n")
    check_space(load_space(file))
    file.write_text("def space(trial):\n    return {'architecture': 'resnet18', 'learning_rat': 1e-3}\n")
    with pytest.raises(ValueError, match="unknown hyperparameter learning_rat"):
        check_space(load_space(file))
    file.write_text("spaces = 1\n")
    with pytest.raises(ValueError, match="defines no function `space`"):
        load_space(file)
    with pytest.raises(ValueError, match="--space"):
        load_space(tmp_path / "missing.py")
