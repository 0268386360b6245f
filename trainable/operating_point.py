"""The operating point: from which probability on a slice is called positive, so that it holds for new patients."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import special, stats

from trainable.clustered import count_patients
from trainable.probability_metrics import to_logit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trainable.clustered import Floats

# The bootstrap's spread of a quantile is too small by about this where slices come in patients: with it a goal holds in
# 86 to 93 of 100 new sets of 7 to 60 patients, without it in 84 to 91 (benchmarks/LOG.md).
_WIDEN = 1.15


@dataclass(frozen=True, kw_only=True)
class OperatingPoint:
    """A `threshold` in (0, 1), the `rule` it was chosen by, and what it gives on the slices it was chosen on."""

    threshold: float
    rule: str
    sensitivity: float
    specificity: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> OperatingPoint:
        """What `to_dict` gave, read again."""
        return cls(**given)


def choose_threshold(
    is_positive: np.ndarray,
    probabilities: np.ndarray,
    patients: np.ndarray,
    *,
    min_sensitivity: float | None = None,
    min_specificity: float | None = None,
    cost_ratio: float | None = None,
    assurance: float = 0.9,
    num_resamples: int = 1000,
    seed: int = 0,
) -> OperatingPoint:
    """The threshold that keeps one goal, given exactly one; `is_positive` bool (N,), `probabilities` float (N,).

    With `min_sensitivity` in (0, 1) the highest threshold at which a new set of as many patients has that sensitivity,
    in a share `assurance` of new sets; with `min_specificity` the lowest, likewise. Patients are drawn twice over, once
    for what these say of all patients, once for the new set; the spread of the thresholds that would just do
    is then kept as a margin, with Student's t for few patients. With `cost_ratio`, what a missed positive costs in
    false alarms, the mean of the cheapest thresholds of resamples. A slice is called positive from the threshold on.
    The predictions must be of patients that the model was not trained on. Raises ValueError for none or
    several goals, values out of range, and fewer than two patients of a class that is needed.
    """
    goals = {"sensitivity": min_sensitivity, "specificity": min_specificity, "cost ratio": cost_ratio}
    given = {name: goal for name, goal in goals.items() if goal is not None}
    if len(given) != 1:
        named = ", ".join(given) or "none"
        raise ValueError(f"the goals of the threshold are {named}; there must be one of {', '.join(goals)}")
    ((name, goal),) = given.items()
    if not (0 < goal < 1 or (name == "cost ratio" and 0 < goal < math.inf)):
        bounds = "above 0" if name == "cost ratio" else "between 0 and 1"
        raise ValueError(f"the goal for {name} is {goal}; it must be {bounds}")
    for what, rows in (("positive", is_positive), ("negative", ~is_positive)):
        if len(np.unique(patients[rows])) < 2:
            raise ValueError(f"fewer than two patients have {what} slices; a threshold needs two of each class")

    logits = to_logit(np.asarray(probabilities, dtype=np.float64))
    rng = np.random.default_rng(seed)
    if name == "sensitivity":
        rows = is_positive
        limit = _find_margin(logits[rows], patients[rows], goal, assurance, num_resamples, rng)
    elif name == "specificity":
        rows = ~is_positive
        limit = -_find_margin(-logits[rows], patients[rows], goal, assurance, num_resamples, rng)
    else:
        limit = _find_cheapest(is_positive, logits, patients, goal, num_resamples, rng)
    threshold = float(special.expit(limit))
    called = probabilities >= threshold
    rule = f"cost ratio {goal:g}" if name == "cost ratio" else f"{name} of at least {goal:g}"
    return OperatingPoint(
        threshold=threshold,
        rule=rule,
        sensitivity=float(called[is_positive].mean()),
        specificity=float((~called[~is_positive]).mean()),
    )


def _find_margin(
    scores: Floats, patients: np.ndarray, goal: float, assurance: float, num_resamples: int, rng: np.random.Generator
) -> float:
    """The score that a share `goal` of a new set's slices reaches, in a share `assurance` of new sets."""
    _, patient_of = np.unique(patients, return_inverse=True)
    num_patients = count_patients(patients)[0]
    order = np.argsort(scores)
    evenly = np.full(num_patients, 1 / num_patients)
    first = rng.multinomial(num_patients, evenly, size=num_resamples)
    second = rng.multinomial(num_patients, first / num_patients)
    weights = second[:, patient_of[order]]
    just = _find_quantiles(scores[order], weights, goal)
    here = _find_quantiles(scores[order], np.ones((1, len(scores)), dtype=int), goal)[0]
    reach = stats.t.isf(1 - assurance, num_patients - 1) * math.sqrt(num_patients / (num_patients - 1))
    return float(min(here, just.mean()) - _WIDEN * reach * just.std())


def _find_quantiles(ordered: Floats, weights: np.ndarray, goal: float) -> Floats:
    """For weights int (R, N) the highest of the rising scores (N,) that a share `goal` of the weight reaches."""
    total = weights.sum(axis=1, keepdims=True)
    reaching = total - np.cumsum(weights, axis=1) + weights
    enough = reaching >= goal * total - 1e-9
    return ordered[enough.shape[1] - 1 - np.argmax(enough[:, ::-1], axis=1)]


def _find_cheapest(
    is_positive: np.ndarray,
    logits: Floats,
    patients: np.ndarray,
    cost_ratio: float,
    num_resamples: int,
    rng: np.random.Generator,
) -> float:
    """The mean over resamples of the threshold with the least cost, half-way to the next lower slice."""
    _, patient_of = np.unique(patients, return_inverse=True)
    order = np.argsort(logits)
    ordered = logits[order]
    num_patients = count_patients(patients)[0]
    times = rng.multinomial(num_patients, np.full(num_patients, 1 / num_patients), size=num_resamples)
    # raising the threshold past a slice costs a miss where it is positive, and saves a false alarm where it is not
    steps = times[:, patient_of[order]] * np.where(is_positive[order], cost_ratio, -1.0)
    costs = np.concatenate([np.zeros((num_resamples, 1)), np.cumsum(steps, axis=1)], axis=1)
    is_between = np.concatenate([[True], np.diff(ordered) > 0, [True]])
    costs[:, ~is_between] = np.inf
    edges = np.concatenate([[ordered[0]], (ordered[1:] + ordered[:-1]) / 2, [ordered[-1] + 1e-6]])
    return float(edges[costs.argmin(axis=1)].mean())
