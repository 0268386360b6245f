"""What search_quality.py makes of epochs: who led when, epochs to a peer's value, and what is confirmed in folds."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.contenders import Arena, Epoch, build_arena, check_home, drop_models, make_manifest
from benchmarks.quality_confirmed import Folds, confirm, find_leader, read_params
from benchmarks.search_quality import TWELFTHS, compare_confirmed, compare_epochs, count_to, read_at, trace_best

TUTORIAL = {"architecture": "squeezenet1_1", "optimizer": "adam", "learning_rate": 1e-3, "weight_decay": 1e-4}
TUTORIAL |= {"batch_size": 32, "augmentation": 0.0}


def searched(*values: float) -> list[Epoch]:
    """A search with one epoch a second."""
    return [
        Epoch(at_s=second, configuration={"architecture": "resnet18"}, epoch=1, val_auc=value, images_per_s=1.0)
        for second, value in enumerate(values, 1)
    ]


@pytest.fixture(scope="module")
def arena(tmp_path_factory: pytest.TempPathFactory) -> Arena:
    home = tmp_path_factory.mktemp("arena")
    manifest = make_manifest(home, num_patients=30)
    return build_arena(home, manifest, image_size=32, max_epochs=2, tracking_uri="http://127.0.0.1:9")


def test_the_leader_of_a_peer_is_the_best_epoch_by_then_and_not_later(arena: Arena) -> None:
    epochs = searched(0.5, 0.7, 0.6, 0.9)
    leader = find_leader("ray-expert", epochs, 3.5, arena)
    assert leader is not None and leader.val_auc == 0.7
    assert find_leader("ray-expert", epochs, 0.5, arena) is None
    assert read_at(trace_best(epochs, 3.5), 3.5) == 0.7


def test_our_leader_is_the_best_member_of_the_mean_that_would_be_the_champion(arena: Arena) -> None:
    """With a first rung after epoch 1 of 4, promotion has another after 3."""

    def trial(rate: float, *values: float) -> list[Epoch]:
        return [
            Epoch(at_s=number, configuration={"learning_rate": rate}, epoch=number, val_auc=value, images_per_s=1.0)
            for number, value in enumerate(values, 1)
        ]

    arena = replace(arena, max_epochs=4, first_rung=1)
    lucky, steady, short = trial(0.1, 0.95, 0.5, 0.5, 0.5), trial(0.2, 0.6, 0.7, 0.7, 0.8), trial(0.3, 0.9)
    chance, late = trial(0.4, 0.5, 0.5, 0.5, 0.5), trial(0.5, 0.6, 0.7, 0.75)

    def lead(contender: str, *trials: list[Epoch], at_s: float = 10) -> tuple[float, int]:
        leader = find_leader(contender, [epoch for trial in trials for epoch in trial], at_s, arena)
        assert leader is not None
        return leader.configuration["learning_rate"], leader.epoch

    assert lead("ours", lucky, steady, late, short) == (0.2, 4), "by its smoothed value, and not after one epoch"
    assert lead("ours", chance, late) == (0.5, 3), "not the only one that has ended its training"
    assert lead("ours", lucky, steady, short, at_s=1) == (0.1, 1), "nobody has come to the last rung by then"
    assert lead("ours", chance, steady, short) == (0.3, 1), "one eligible trial makes no mean"
    assert lead("ours-freeze-thaw", chance, steady) == (0.2, 4)
    assert find_leader("ours", [], 10, arena) is None


def test_epochs_to_a_value_are_those_of_all_trials_together() -> None:
    epochs = searched(0.5, 0.7, 0.6, 0.9)
    assert count_to(epochs, 0.6, math.inf) == 2
    assert count_to(epochs, 0.9, 3.5) is None


def test_epochs_to_a_peers_last_value_are_a_share_of_its_own_in_the_median_of_seeds() -> None:
    peer = searched(0.5, 0.6, 0.6, 0.8)
    fast, slow, never = searched(0.8), searched(0.5, 0.5, 0.5, 0.5, 0.5, 0.8), searched(0.7)
    assert compare_epochs([fast, slow, never], [peer] * 3, 10) == 1.5
    assert compare_epochs([fast, never, never], [peer] * 3, 10) is None
    assert compare_epochs([fast], [searched(0.5, 0.79996)], 10) == 0.5, "a value is not rounded up beyond its own epoch"


def test_epochs_to_a_peers_last_confirmed_value_are_counted_to_a_twelfth_of_the_time() -> None:
    def confirmed(last: float, **medians: float) -> dict[str, dict[str, float]]:
        by_share = {f"{share:.0%}": {"median": 0.6} for share in TWELFTHS} | {"100%": {"median": last}}
        return by_share | {name.removeprefix("at_") + "%": {"median": value} for name, value in medians.items()}

    ours, peer = [searched(*[0.5] * 8)] * 3, [searched(*[0.5] * 10)] * 3
    peers = confirmed(0.7)
    assert compare_confirmed(ours, peer, confirmed(0.8, at_42=0.7, at_50=0.6), peers, 12) == 0.5, "five epochs of ten"
    assert compare_confirmed(ours, peer, confirmed(0.6), peers, 12) is None


def test_a_configuration_is_read_back_from_the_texts_of_mlflow() -> None:
    config = read_params({"architecture": "resnet18", "batch_size": "16", "dropout": "0.2", "class_weighting": "False"})
    assert (config.batch_size, config.dropout, config.class_weighting) == (16, 0.2, False)


def test_a_home_is_not_read_for_what_another_call_has_asked_for(tmp_path: Path) -> None:
    for _ in range(2):
        check_home(tmp_path / "home", minutes=3.0, data=None)
    with pytest.raises(ValueError, match="give another --home"):
        check_home(tmp_path / "home", minutes=1.0, data=None)
    check_home(tmp_path / "home", minutes=3.0, data=None)


def test_a_finished_search_drops_its_models_and_nothing_else(tmp_path: Path) -> None:
    for name in ("results/trial/checkpoint_000000/checkpoint.pt", "models/model.pt2", "outcome.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}")
    drop_models(tmp_path)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["outcome.json"]


def test_folds_keep_patients_together_and_hold_each_slice_out_once(arena: Arena) -> None:
    folds = Folds(arena, 3)
    assert sum(map(int, sum(folds.held_out))) == len(folds.rows)  # type: ignore[arg-type]
    for held_out in folds.held_out:
        assert not set(folds.data.groups[held_out]) & set(folds.data.groups[~held_out])


def test_what_led_is_trained_again_by_the_loop_that_found_it(arena: Arena) -> None:
    ours = Epoch(at_s=1, configuration={"architecture": "small_cnn"}, epoch=1, val_auc=0.9, images_per_s=1)
    peers = Epoch(at_s=1, configuration=TUTORIAL, epoch=1, val_auc=0.9, images_per_s=1)
    values = confirm([("ours", ours), ("ray-tutorial", peers), ("optuna-tutorial", peers)], arena, 2)
    kept = list((Path(arena.home) / "confirmed-2").iterdir())
    assert len(kept) == 4, "two configurations in two folds: both tutorials train in one way"
    assert values[1] == values[2] and all(0 <= value <= 1 for value in values)
    assert confirm([("ours", ours)], arena, 2) == values[:1], "read, not trained anew"
