"""The value that a trial is known by: the mean of its last epochs, since a single one may be lucky"""

from __future__ import annotations

import math
from collections.abc import Mapping

WINDOW = 3
"""Over how many epochs a value is averaged (benchmarks/smoothing_windows.py compares others)."""


def smoothed_value(values: Mapping[int, float], *, epoch: int | None = None, window: int = WINDOW) -> float:
    """The mean of `values` by epoch over the latter half of the epochs up to `epoch`, and over at most `window`.

    `epoch` is the last one by default. The mean is over 1, 1, 2, 2, 3, 3, ... epochs, since what a trial was worth in
    its first ones says little of what it is worth now. Epochs that are missing are passed over; one value that is NaN
    makes the mean NaN. Raises ValueError where none of those epochs has a value.
    """
    end = max(values, default=0) if epoch is None else epoch
    num = min(window, (end + 1) // 2)
    found = [values[e] for e in range(end - num + 1, end + 1) if e in values]
    if not found:
        raise ValueError(f"there is no value of the {num} epochs up to epoch {end}: values are of {sorted(values)}")
    return sum(found) / len(found)


def is_best_epoch(
    epoch: int,
    value: float,
    *,
    best_epoch: int,
    best_value: float,
    higher_is_better: bool,
    window: int = WINDOW,
) -> bool:
    """Whether the smoothed `value` of `epoch` makes it the best one, in place of an earlier `best_epoch`.

    A value of one or two epochs is no more than a guess, so that each of the first `window` epochs gives way to the
    next; from then on a better smoothed value is needed. NaN never is better.
    """
    if epoch <= window:
        return epoch > best_epoch
    if math.isnan(best_value):
        return not math.isnan(value)
    return value > best_value if higher_is_better else value < best_value


def find_best(values: Mapping[int, float], *, higher_is_better: bool, window: int = WINDOW) -> tuple[int, float]:
    """The best epoch of a trial and its smoothed value, from its `values` by epoch; the first of equals.

    This is the epoch whose weights `best` holds. Raises ValueError for no values at all.
    """
    if not values:
        raise ValueError("values are empty: a trial without an epoch has no best one")
    best_epoch, best_value = 0, float("nan")
    for epoch in sorted(values):
        value = smoothed_value(values, epoch=epoch, window=window)
        if best_epoch == 0 or is_best_epoch(
            epoch,
            value,
            best_epoch=best_epoch,
            best_value=best_value,
            higher_is_better=higher_is_better,
            window=window,
        ):
            best_epoch, best_value = epoch, value
    return best_epoch, best_value
