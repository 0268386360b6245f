"""ASHA's rule over rungs: who goes on, of the trials that have come as far.

Asynchronous successive halving as in Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning"
(arXiv:1810.05934), in its stopping form: at a rung a trial goes on if it is among the best 1/reduction_factor
of those that have reached this rung so far.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from statistics import fmean

from trainable.report import Direction


def rung_levels(max_epochs: int, *, first: int = 1, reduction_factor: int = 3) -> tuple[int, ...]:
    """Epoch counts at which trials are compared: first * reduction_factor ** k, all below `max_epochs`."""
    if first < 1 or reduction_factor < 2:
        raise ValueError(
            f"first rung {first}, reduction factor {reduction_factor}; they must be at least 1 and at least 2"
        )
    levels = []
    level = first
    while level < max_epochs:
        levels.append(level)
        level *= reduction_factor
    return tuple(levels)


class Rungs:
    """What each trial had to show when it came to each rung: its mean value since the rung before.

    A mean, since one epoch's value on a small validation split is noise; and nobody is judged before
    `reduction_factor` trials have come: benchmarks/rung_rules.py measures both. Values are the ledger's: by epoch.
    """

    def __init__(
        self, levels: Iterable[int], *, reduction_factor: int = 3, direction: Direction = Direction.MAXIMIZE
    ) -> None:
        self.reduction_factor = reduction_factor
        self.direction = direction
        self.records: dict[int, dict[int, float]] = {level: {} for level in sorted(levels)}
        self.previous = dict(zip(self.records, (0, *self.records), strict=False))

    def enter(self, number: int, values: Mapping[int, float]) -> None:
        """A trial of an earlier session: every rung that it has reached."""
        for level in self.records:
            if level in values:
                self.arrive(number, level, values)

    def arrive(self, number: int, epoch: int, values: Mapping[int, float]) -> bool:
        """Whether the epoch brings the trial to a rung for the first time; then the rung holds it from now on."""
        rung = self.records.get(epoch)
        if rung is None or number in rung:
            return False
        rung[number] = fmean(value for at, value in values.items() if self.previous[epoch] < at <= epoch)
        return True

    def keeps(self, number: int, epoch: int) -> bool:
        """Whether the trial is among the best 1/reduction_factor at this rung; ties stay, and so do the first."""
        rung = self.records[epoch]
        num_better = sum(self.direction.is_better(value, rung[number]) for value in rung.values())
        return len(rung) < self.reduction_factor or num_better < len(rung) // self.reduction_factor

    def goes_on(self, number: int, epoch: int, values: Mapping[int, float]) -> bool:
        """Decide at a report. A trial is judged once a rung: what it repeats after a resume changes nothing."""
        return not self.arrive(number, epoch, values) or self.keeps(number, epoch)
