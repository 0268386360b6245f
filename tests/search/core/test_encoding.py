"""Configurations as points: numbers by rank, categories one-hot, and entries that only some trials have."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from search.core.encoding import Encoder
from search.core.proposals import SpaceProposals
from search.core.space import DefaultSpace


def distance(encode: Encoder, a: dict[str, object], b: dict[str, object]) -> float:
    first, second = encode([a, b])
    return float(np.linalg.norm(first - second))


def test_a_number_is_its_quantile_whatever_its_scale() -> None:
    encode = Encoder([{"rate": 10.0**power} for power in range(-6, 1)])
    points = encode([{"rate": 1e-6}, {"rate": 1e-3}, {"rate": 1.0}, {"rate": 100.0}])
    assert points[:, 0].round(3).tolist() == [0.071, 0.5, 0.929, 0.929]


def test_integers_take_the_middle_of_their_share() -> None:
    encode = Encoder([{"depth": depth} for depth in (0, 1, 2)] * 10)
    assert encode([{"depth": depth} for depth in (0, 1, 2)])[:, 0].round(3).tolist() == [0.167, 0.5, 0.833]


def test_two_categories_are_at_distance_one_and_an_unknown_one_is_near_none() -> None:
    encode = Encoder([{"architecture": name} for name in ("a", "b", "c")])
    assert distance(encode, {"architecture": "a"}, {"architecture": "c"}) == pytest.approx(1.0)
    assert distance(encode, {"architecture": "a"}, {"architecture": "z"}) == pytest.approx(0.5**0.5)


def test_true_and_1_are_not_the_same_category() -> None:
    encode = Encoder([{"norm": True}, {"norm": False}])
    assert distance(encode, {"norm": True}, {"norm": False}) == pytest.approx(1.0)


def test_those_without_a_hyperparameter_are_alike_and_equally_far_from_all_that_have_it() -> None:
    encode = Encoder([{"kind": "sgd", "momentum": 0.1 * number} for number in range(10)] + [{"kind": "adam"}])
    absent: dict[str, object] = {"kind": "sgd"}
    assert distance(encode, absent, absent) == 0
    apart = [distance(encode, absent, {"kind": "sgd", "momentum": value}) for value in (0.0, 0.4, 0.9)]
    assert apart == pytest.approx([1.0, 1.0, 1.0])
    near, far = ({"kind": "sgd", "momentum": value} for value in (0.5, 0.9))
    assert distance(encode, {"kind": "sgd", "momentum": 0.4}, near) < distance(
        encode, {"kind": "sgd", "momentum": 0.4}, far
    )


def test_every_column_knows_its_hyperparameter() -> None:
    encode = Encoder([{"architecture": "a", "depth": 1}, {"architecture": "b", "depth": 2, "width": 3}])
    assert encode.names == ("architecture", "depth", "width")
    assert encode.owners.tolist() == [0, 0, 1, 2, 2]
    assert encode.num_columns == encode([{"architecture": "a"}]).shape[1] == 5


def test_no_draws_are_refused() -> None:
    with pytest.raises(ValueError, match="no draws"):
        Encoder([])


def test_the_default_space_is_encoded_with_its_inactive_entries() -> None:
    space = DefaultSpace(["small_cnn", "resnet18", "vgg16"], fine_tuned=["resnet18"])
    proposals, generator = SpaceProposals(space), np.random.default_rng(0)
    draws = proposals.draw(300, generator)
    encode = Encoder(draws)
    points = encode(draws)
    assert np.isfinite(points).all()
    assert 0 <= points.min() <= points.max() <= 1
    cnn = next(params for params in draws if params["architecture"] == "small_cnn")
    resnet = next(params for params in draws if params["architecture"] == "resnet18")
    filters = encode.owners == encode.names.index("cnn_filters")
    assert encode([resnet])[0, filters].tolist() == [0.0, 0.0]
    assert np.linalg.norm(encode([cnn])[0, filters]) == pytest.approx(1.0)


def test_recorded_conditional_configurations_are_encoded(shared_data: Path) -> None:
    with (shared_data / "curves" / "medquicktune" / "config.csv").open(newline="") as text:
        rows = [
            {name: number_or(value) for name, value in row.items() if name and value} for row in csv.DictReader(text)
        ]
    encode = Encoder(rows)
    points = encode(rows)
    assert points.shape == (505, encode.num_columns)
    assert len(np.unique(points, axis=0)) == 505
    resnets = [row for row in rows if row["model"] == "resnet"]
    only_densenets = np.isin(encode.owners, [encode.names.index(name) for name in ("bn_size", "growth_rate")])
    assert np.count_nonzero(only_densenets) == 4
    assert not encode(resnets)[:, only_densenets].any()


def number_or(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text
