from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from tests.trainable.patient_sets import draw_set, to_probabilities
from trainable.decision_curve import decision_curve
from trainable.figures import save_figure
from trainable.probability_figures import draw_decision_curve, draw_reliability

if TYPE_CHECKING:
    from pathlib import Path


def draw(num_patients: int = 150) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    is_positive, scores, patients = draw_set(np.random.default_rng(0), num_patients)
    return is_positive, to_probabilities(scores)[:, 1], patients


def test_treating_all_is_worth_nothing_at_the_share_of_positives() -> None:
    is_positive, probabilities, patients = draw()
    share = float(is_positive.mean())
    curve = decision_curve(is_positive, probabilities, patients, (0.1, share), num_resamples=50)
    assert curve.treat_all == pytest.approx([share - (1 - share) / 9, 0], abs=1e-12)


def test_a_good_model_is_worth_more_than_treating_all_or_none() -> None:
    curve = decision_curve(*draw(), (0.2, 0.5, 0.7), num_resamples=200)
    assert (curve.model > np.maximum(curve.treat_all, 0)).all()
    assert (curve.low < curve.model).all()
    assert (curve.model < curve.high).all()


def test_a_model_that_calls_everybody_is_worth_what_treating_all_is() -> None:
    is_positive, _, patients = draw()
    curve = decision_curve(is_positive, np.ones(len(patients)), patients, (0.1, 0.4), num_resamples=20)
    assert curve.model == pytest.approx(curve.treat_all)


@pytest.mark.parametrize("thresholds", [(), (0.0, 0.5), (0.5, 1.0)])
def test_thresholds_out_of_range_are_refused(thresholds: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        decision_curve(*draw(10), thresholds)


def test_both_figures_are_drawn(tmp_path: Path) -> None:
    is_positive, probabilities, patients = draw()
    curve = draw_decision_curve(decision_curve(is_positive, probabilities, patients, num_resamples=30))
    legend = curve.axes[0].get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["treat all", "treat none", "the model"]
    both = {"before": probabilities**2, "after": probabilities}
    reliability = draw_reliability(is_positive, both, patients)
    legend = reliability.axes[0].get_legend()
    assert legend is not None
    assert [text.get_text().split(",")[0] for text in legend.get_texts()] == ["before", "after"]
    for name, figure in (("curve", curve), ("reliability", reliability)):
        with Image.open(save_figure(figure, tmp_path / f"{name}.png")) as image:
            assert min(image.size) > 200
