"""Draws from a define-by-run space, and steps from what did well: always valid, inactive entries included."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import optuna
import pytest

from search.core.proposals import SpaceProposals
from search.core.space import DefaultSpace, Wish


def space(trial: Any) -> dict[str, Any]:
    kind = trial.suggest_categorical("kind", ["sgd", "adam"])
    rate = trial.suggest_float("rate", 1e-5, 1e-1, log=True)
    batch = trial.suggest_int("batch", 4, 64, step=4)
    drawn = {"kind": kind, "rate": rate, "batch": batch, "width": trial.suggest_int("width", 1, 1000, log=True)}
    if kind == "sgd":
        drawn["momentum"] = trial.suggest_float("momentum", 0.0, 1.0, step=0.25)
    return drawn


def test_draws_cover_their_ranges_evenly() -> None:
    draws = SpaceProposals(space).draw(2000, np.random.default_rng(0))
    assert {params["batch"] for params in draws} == set(range(4, 65, 4))
    assert {params["momentum"] for params in draws if "momentum" in params} == {0.0, 0.25, 0.5, 0.75, 1.0}
    assert np.mean([math.log10(params["rate"]) for params in draws]) == pytest.approx(-3, abs=0.1)
    assert np.mean([params["kind"] == "sgd" for params in draws]) == pytest.approx(0.5, abs=0.05)
    assert np.median([params["width"] for params in draws]) == pytest.approx((0.5 * 1000.5) ** 0.5, rel=0.2)


def test_only_what_the_space_asks_for_is_there() -> None:
    for params in SpaceProposals(space).draw(50, np.random.default_rng(0)):
        assert ("momentum" in params) == (params["kind"] == "sgd")


def test_a_step_stays_near_and_within_the_ranges() -> None:
    base = {"kind": "sgd", "rate": 1e-5, "batch": 64, "width": 1, "momentum": 1.0}
    near = SpaceProposals(space, step=0.05, change=0.0).near(base, 200, np.random.default_rng(0))
    assert all(1e-5 <= params["rate"] < 1e-4 for params in near)
    assert all(48 <= params["batch"] <= 64 for params in near)
    assert {params["kind"] for params in near} == {"sgd"}
    assert len({params["rate"] for params in near}) == 200


def test_what_a_step_switches_on_is_drawn() -> None:
    base = {"kind": "adam", "rate": 1e-3, "batch": 8, "width": 10}
    near = SpaceProposals(space, change=0.5).near(base, 100, np.random.default_rng(0))
    assert {len(params) for params in near} == {4, 5}
    assert all(("momentum" in params) == (params["kind"] == "sgd") for params in near)


def test_the_same_seed_draws_the_same() -> None:
    first, second = (SpaceProposals(space).draw(5, np.random.default_rng(3)) for _ in range(2))
    assert first == second


def test_optuna_accepts_every_proposal_of_the_default_space() -> None:
    default = DefaultSpace(["small_cnn", "resnet18"], fine_tuned=["resnet18"])
    proposals, generator = SpaceProposals(default), np.random.default_rng(0)
    drawn = proposals.draw(20, generator)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for params in [*drawn, *proposals.near(drawn[0], 20, generator)]:
        study.enqueue_trial(dict(params))
        trial = study.ask()
        wish = Wish(params)
        assert default(trial) == default(wish)
        assert trial.params == params
