"""Figures of probabilities: whether they mean what they say, and what acting on them is worth."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from trainable.figures import BLUE, GREEN, GREY, INK, PALE, RED, add_legend, new_axes
from trainable.intervals import share_interval
from trainable.probability_metrics import assign_bins, calibration_error

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.figure import Figure

    from trainable.decision_curve import DecisionCurve

_HUES = (BLUE, RED, GREEN, INK)


def draw_reliability(
    is_positive: np.ndarray,
    probabilities: Mapping[str, np.ndarray],
    patients: np.ndarray,
    *,
    title: str = "Reliability",
) -> Figure:
    """The share of positives by the mean probability of each bin; on the broken line probabilities are true.

    `is_positive` bool (N,), `patients` (N,); `probabilities` float (N,) of the positive class by name, such as before
    and after calibration. Bars are 95 % intervals over patients, the legend gives each calibration error.
    """
    figure, axes = new_axes(title, "probability", "share of positives", width=4.9, height=4.5)
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=(0, (4, 3)))
    one_of_each = np.ones((1, len(is_positive)))
    for (name, values), hue in zip(probabilities.items(), _HUES * len(probabilities), strict=False):
        bins = assign_bins(values)
        means = [values[rows].mean() for rows in bins]
        shares = [is_positive[rows].mean() for rows in bins]
        intervals = [share_interval(is_positive[rows], patients[rows]) for rows in bins]
        error = calibration_error(is_positive, values, one_of_each)[0]
        axes.vlines(means, [each.low for each in intervals], [each.high for each in intervals], color=hue, alpha=0.35)
        axes.plot(means, shares, "o-", color=hue, linewidth=2, markersize=5, label=f"{name}, error {error:.3f}")
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    axes.grid(color=PALE, linewidth=0.7)
    add_legend(axes, loc="upper left")
    return figure


def draw_decision_curve(curve: DecisionCurve, *, title: str = "Decision curve") -> Figure:
    """Net benefit by the probability from which one would act, with its 95 % interval, beside treating all and none."""
    figure, axes = new_axes(title, "threshold probability", "net benefit", width=5.6, height=4.2)
    axes.fill_between(curve.thresholds, curve.low, curve.high, color=BLUE, alpha=0.15, linewidth=0)
    axes.plot(curve.thresholds, curve.treat_all, color=GREY, linewidth=1.5, label="treat all")
    axes.axhline(0, color=INK, linewidth=1, linestyle=(0, (4, 3)), label="treat none")
    axes.plot(curve.thresholds, curve.model, color=BLUE, linewidth=2, label="the model")
    top = max(float(curve.model.max()), float(curve.treat_all.max()), 0.05)
    axes.set(xlim=(0, 1), ylim=(-0.3 * top, 1.1 * top))  # treating all falls without end
    axes.grid(color=PALE, linewidth=0.7)
    add_legend(axes, loc="upper right")
    return figure
