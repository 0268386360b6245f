"""TrialsView: the trials of a search as the charts want them; what is said of one when the mouse is on it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from search.core.describe import describe_params
from search.core.ledger import TrialEntry
from search.core.past import Scale
from trainable.smoothing import smoothed_value

NUM_DRAWN = 400
"""More trials than these would be a blot, and a page of many megabytes: the best are drawn."""


@dataclass(frozen=True, kw_only=True)
class TrialsView:
    """`ranked` are the trials, best first, those without a value last; `levels` the epochs at which they are compared.

    `members` are the champion's. `costs` are weighed against the metric, and no trial beats those of the `front`.
    `scales` has the ranges of numbers, as far as they are known.
    """

    ranked: Sequence[TrialEntry]
    metric: str
    higher_is_better: bool
    levels: Sequence[int]
    members: Sequence[int] = ()
    costs: Sequence[str] = ()
    front: Sequence[int] = ()
    scales: Mapping[str, Scale] = field(default_factory=dict)

    @cached_property
    def drawn(self) -> list[TrialEntry]:
        """Those with a value, at most so many; the best come last, so that they lie above the others."""
        return [entry for entry in self.ranked if is_number(entry.best_value)][:NUM_DRAWN][::-1]

    @property
    def axis_title(self) -> str:
        return f"validation {self.metric}"

    @cached_property
    def lit(self) -> frozenset[int]:
        """The champion's members, else the best three trials."""
        best = [entry.number for entry in self.ranked[:3] if is_number(entry.best_value)]
        return frozenset(self.members or best)

    def kind(self, entry: TrialEntry) -> str:
        """The classes of what is drawn of a trial."""
        return f"{entry.state}{' lit' if entry.number in self.lit else ''}"

    def tip(self, entry: TrialEntry) -> str:
        value = f"{self.metric} {entry.best_value:.4f}" if is_number(entry.best_value) else f"no {self.metric}"
        words = [f"trial {entry.number}", value, f"{entry.num_epochs} epochs, {entry.state}"]
        words += [f"{name} {entry.costs[name]:.3g}" for name in self.costs if name in entry.costs]
        words += [str(entry.params.get("architecture", "")), describe_params(entry.params)]
        return "\n".join(word for word in words if word)

    def score(self, entry: TrialEntry, epoch: int) -> float:
        """What a trial was worth after so many epochs."""
        return smoothed_value({e: value for e, value in entry.values.items() if e <= epoch})

    def reach(self, values: Sequence[float]) -> Scale:
        """The range that shows `values`: all the good ones, and of the bad ones what is not far out."""
        known = sorted((v for v in values if math.isfinite(v)), reverse=self.higher_is_better)
        if not known:
            return Scale(0.0, 1.0)
        best, middle, worst = known[0], known[len(known) // 2], known[-1]
        reach = max(abs(best - middle) * 4, abs(best) * 1e-3, 1e-9)
        end = max(worst, best - reach) if self.higher_is_better else min(worst, best + reach)
        margin = abs(best - end) * 0.05 or abs(best) * 0.05 or 0.05
        return Scale(min(best, end) - margin, max(best, end) + margin)

    def varied(self, at_most: int, importances: Mapping[str, float]) -> list[str]:
        """The hyperparameters that differ among the trials drawn, the important ones first, then those most have."""
        counts: dict[str, int] = {}
        for entry in self.drawn:
            for name in entry.params:
                counts[name] = counts.get(name, 0) + 1
        names = [name for name in counts if len({repr(e.params[name]) for e in self.drawn if name in e.params}) > 1]
        places = {name: place for place, name in enumerate(names)}
        names.sort(key=lambda name: (-_share(name, importances), -counts[name], places[name]))
        return names[:at_most]

    def is_whole(self, name: str) -> bool:
        """Whether a hyperparameter is a whole number in every trial."""
        values = [entry.params[name] for entry in self.drawn if name in entry.params]
        return bool(values) and all(isinstance(value, int) for value in values)

    def scale_of(self, name: str) -> Scale | list[str]:
        """The range of a hyperparameter's numbers, or its categories in order."""
        values = [entry.params[name] for entry in self.drawn if name in entry.params]
        if not all(is_number(value) for value in values):
            return sorted({str(value) for value in values})
        own = Scale.around([float(value) for value in values])
        known = self.scales.get(name)
        if known is None:
            return own
        is_log = known.is_log and min(own.low, known.low) > 0
        return Scale(min(own.low, known.low), max(own.high, known.high), is_log=is_log)


def _share(name: str, importances: Mapping[str, float]) -> float:
    """Its importance, or that of what a space calls `name_...` where it draws it on a condition."""
    return max((share for drawn, share in importances.items() if f"{drawn}_".startswith(f"{name}_")), default=0.0)


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
