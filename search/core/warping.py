"""Values as the curve model takes them: normal scores, as far as noise lets them be told apart."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr, ndtri

from search.core.curve_model import Array

MAX_CENTRES = 500


class Warp:
    """From values to normal scores: the normal quantile of the share of all values that are below.

    A Gaussian copula (Salinas et al. 2020, arXiv:1909.13595), in which every value is spread by normal noise of the
    standard deviation `noise`: what differs by less than that keeps about the distance it has, the rest its rank.
    `ordered` (n) are all values from the best down; -inf is the worst there is. Of more than 500 the best 250 count one
    by one, the others by a sample.
    """

    def __init__(self, ordered: Array, noise: float) -> None:
        finite = ordered[np.isfinite(ordered)]
        self.noise = noise if len(finite) else 0.0
        self.worst = float(finite[-1]) - 10 * noise - 1.0 if len(finite) else -1.0
        self.least_share = 0.5 / len(ordered)
        self.centres, self.weights = _thinned(self._finite(ordered))

    def __call__(self, values: Array) -> Array:
        """Scores (m) of values (m)."""
        return self._scores(self._finite(values))

    def variances(self, values: Array, deviations: Array) -> Array:
        """The variance (m) of the scores of values (m) whose noise has the standard deviations (m) `deviations`."""
        known = self._finite(values)
        moved = (self._scores(known + deviations) - self._scores(known - deviations)) / 2
        return np.where(np.isfinite(values), moved, 0.0) ** 2

    def _finite(self, values: Array) -> Array:
        return np.where(np.isfinite(values), values, self.worst)

    def _scores(self, values: Array) -> Array:
        apart = values[:, None] - self.centres
        below = ndtr(apart / self.noise) if self.noise > 0 else (np.sign(apart) + 1) / 2
        share = below @ self.weights / self.weights.sum()
        return ndtri(np.clip(share, self.least_share, 1 - self.least_share))


def _thinned(ordered: Array) -> tuple[Array, Array]:
    """At most `MAX_CENTRES` of the values, and how many each stands for."""
    if len(ordered) <= MAX_CENTRES:
        return ordered, np.ones(len(ordered))
    num = MAX_CENTRES // 2
    rest = ordered[num:]
    sample = rest[((np.arange(num) + 0.5) * len(rest) / num).astype(np.int64)]
    return np.concatenate([ordered[:num], sample]), np.repeat([1.0, len(rest) / num], num)
