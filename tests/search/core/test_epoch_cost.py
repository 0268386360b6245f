"""What an epoch costs, learnt from trials."""

from __future__ import annotations

import numpy as np
import pytest

from search.core.encoding import Encoder
from search.core.epoch_cost import EpochCost


def test_the_cost_of_an_architecture_is_learnt() -> None:
    generator = np.random.default_rng(0)
    seconds = {"small": 1.0, "large": 30.0}
    draws = [{"architecture": name, "rate": float(generator.random())} for name in list(seconds) * 20]
    encode = Encoder(draws)
    cost = EpochCost(encode.num_columns)
    for params in draws:
        cost.note(encode([params])[0], seconds[str(params["architecture"])] * float(generator.uniform(0.9, 1.1)))
    known = cost.predict(encode([{"architecture": "small", "rate": 0.5}, {"architecture": "large", "rate": 0.5}]))
    assert known == pytest.approx([1.0, 30.0], rel=0.5)


def test_every_configuration_costs_the_same_until_one_is_known() -> None:
    cost = EpochCost(2)
    assert cost.predict(np.zeros((3, 2))).tolist() == [1.0, 1.0, 1.0]


def test_a_cost_stays_within_what_was_seen() -> None:
    cost = EpochCost(1, ridge=1e-6)
    for place, seconds in ((0.4, 1.0), (0.6, 10.0)):
        cost.note(np.array([place]), seconds)
    assert cost.predict(np.array([[0.0], [1.0]])) == pytest.approx([1.0, 10.0])
