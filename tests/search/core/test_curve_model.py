"""The curve model: its gradient, what it learns from curves, and what it makes of trials it has not seen."""

from __future__ import annotations

import numpy as np
import pytest

from search.core.curve_model import Array, CurveModel, CurvePoints, Parameters, _Loss

LEVELS = np.array([1.0, 2.0, 3.0, 5.0, 8.0, 12.0])


def curves(num_trials: int, *, noise: float = 0.0, seed: int = 0, num_columns: int = 3) -> tuple[CurvePoints, Array]:
    """Trials that rise to a level which the first column alone decides, best at 0.7, seen at six levels each."""
    generator = np.random.default_rng(seed)
    points = generator.random((num_trials, num_columns))
    rows = np.repeat(np.arange(num_trials), len(LEVELS))
    epochs = np.tile(LEVELS, num_trials)
    values = truth(points)[rows] * (1 - np.exp(-epochs / 4)) + noise * generator.standard_normal(len(rows))
    return CurvePoints(points, np.arange(num_trials), rows, epochs, np.ones(len(rows))), values


def truth(points: Array) -> Array:
    return 1 - 4 * (points[:, 0] - 0.7) ** 2


def at(points: Array, epochs: float, trials: int = -1) -> CurvePoints:
    num = len(points)
    return CurvePoints(points, np.full(num, trials), np.arange(num), np.full(num, epochs), np.ones(num))


def fitted(num_trials: int = 20, noise: float = 0.0) -> tuple[CurveModel, CurvePoints, Array, float, float]:
    data, values = curves(num_trials, noise=noise)
    middle, spread = float(values.mean()), float(values.std())
    model = CurveModel.fit(data, (values - middle) / spread, np.arange(3), noise=1e-2)
    return model, data, values, middle, spread


def test_the_gradient_is_that_of_the_loss() -> None:
    data, values = curves(8, noise=0.1)
    owners = np.array([0, 0, 1])
    centre = Parameters.typical(2, 1e-2).vector
    loss = _Loss(data, values, owners, centre, 0.7)
    vector = centre + 0.2 * np.random.default_rng(1).standard_normal(len(centre))
    steps = 1e-5 * np.eye(len(vector))
    numeric = [(loss(vector + step)[0] - loss(vector - step)[0]) / 2e-5 for step in steps]
    assert loss(vector)[1] == pytest.approx(numeric, rel=1e-4, abs=1e-4)


def test_it_knows_what_it_has_seen() -> None:
    model, data, values, middle, spread = fitted()
    mean, deviation = model.predict(data)
    assert middle + spread * mean == pytest.approx(values, abs=0.03)
    assert deviation.max() < 0.3


def test_it_finds_which_hyperparameter_matters() -> None:
    model, *_ = fitted(40)
    assert model.parameters.lengths[0] < model.parameters.lengths[1:].min() - 0.5


def test_it_ranks_configurations_it_has_not_seen() -> None:
    model, *_ = fitted(40)
    points = np.random.default_rng(5).random((100, 3))
    mean, _ = model.predict(at(points, 12.0))
    assert np.corrcoef(mean, truth(points))[0, 1] > 0.9


def test_it_goes_on_with_a_curve_it_has_seen_the_beginning_of() -> None:
    data, values = curves(20)
    is_seen = (data.rows < 19) | (data.epochs <= 3)
    part = CurvePoints(data.points, data.trials, data.rows[is_seen], data.epochs[is_seen], data.noise[is_seen])
    middle, spread = float(values[is_seen].mean()), float(values[is_seen].std())
    model = CurveModel.fit(part, (values[is_seen] - middle) / spread, np.arange(3), noise=1e-2)
    mean, near = model.predict(at(data.points[19:], 12.0, trials=19))
    assert middle + spread * mean[0] == pytest.approx(values[-1], abs=0.15)
    _, nearer = model.predict(at(data.points[19:], 3.0, trials=19))
    assert nearer[0] < near[0]


def test_more_noise_is_found_and_makes_it_less_sure() -> None:
    quiet, *_ = fitted(30, noise=0.01)
    loud, *_ = fitted(30, noise=0.3)
    assert loud.parameters.noise > quiet.parameters.noise + 2
    points = np.random.default_rng(5).random((10, 3))
    assert loud.predict(at(points, 12.0))[1].mean() > quiet.predict(at(points, 12.0))[1].mean()


def test_it_finds_whether_curves_part_as_they_go_on() -> None:
    parting, data, *_ = fitted()
    generator = np.random.default_rng(0)
    level = generator.standard_normal(len(data.points))[data.rows]
    steady = CurveModel.fit(data, level, np.arange(3), noise=1e-2)
    assert parting.parameters.growth > steady.parameters.growth + 0.1
    far = np.full((1, 3), 9.0)
    early, late = (parting.predict(at(far, epochs))[1][0] for epochs in (1.0, 12.0))
    assert early < late


def test_what_is_a_trials_own_may_change_sooner_than_what_its_configuration_says() -> None:
    """Curves whose every step is their own, above a level that is their configuration's; and curves without steps."""
    data, _ = curves(20)
    generator = np.random.default_rng(0)
    level = 2 * truth(data.points)[data.rows] - 1
    steps = 0.5 * generator.standard_normal(len(level))
    low = Parameters.typical(3, 1e-3)
    stepping = CurveModel.fit(data, level + steps, np.arange(3), noise=1e-3, noise_spread=0.01).parameters
    steady = CurveModel.fit(data, level, np.arange(3), noise=1e-3, noise_spread=0.01).parameters
    assert stepping.trial_amplitude > steady.trial_amplitude + 1
    assert stepping.trial_epoch_length < low.trial_epoch_length < stepping.epoch_length - 1


def test_a_surer_value_counts_for_more() -> None:
    points, rows = np.full((2, 1), 0.5), np.array([0, 1])
    noise = np.array([1.0, 0.01])
    data = CurvePoints(points, np.array([0, 1]), rows, np.array([3.0, 3.0]), noise)
    model = CurveModel(data, np.array([-1.0, 1.0]), np.array([0]), Parameters.typical(1, 0.5))
    assert model.predict(at(points[:1], 3.0))[0][0] > 0.2


def test_a_single_point_is_enough() -> None:
    data = CurvePoints(np.zeros((1, 2)), np.array([0]), np.array([0]), np.array([1.0]), np.ones(1))
    model = CurveModel.fit(data, np.zeros(1), np.array([0, 1]), noise=1e-2)
    mean, deviation = model.predict(at(np.ones((1, 2)), 5.0))
    assert mean[0] == pytest.approx(0)
    assert deviation[0] > 0.5


def test_what_runs_is_believed_to_show_what_is_expected_of_it() -> None:
    """One trial that has shown its first levels, and one that has shown nothing."""
    model, data, *_ = fitted()
    running = CurvePoints(
        np.stack([data.points[3], np.full(3, 0.2)]),
        np.array([3, 99]),
        np.array([0, 1]),
        np.array([20.0, 5.0]),
        np.ones(2),
    )
    joined = data.joined(running)
    assert len(joined.points) == len(joined.trials) == len(data.trials) + 1
    assert joined.trials[joined.rows].tolist() == [*data.trials[data.rows].tolist(), 3, 99]
    mean, deviation = model.predict(running)
    believing = model.believing(running)
    believed, certain = believing.predict(running)
    assert believed == pytest.approx(mean, abs=1e-2)
    assert (certain < 0.8 * deviation).all()
    near = at(np.full((1, 3), 0.21), 5.0)
    assert believing.predict(near)[1] < 0.9 * model.predict(near)[1], "nor is another worker needed there"
