"""What a search looks for: a metric, or one metric where another holds a floor, such as sensitivity@specificity=0.8.

A sensitivity alone is best for a model that calls every image positive. Asked for with a floor, it is read from the
ROC curve: the best sensitivity of all thresholds at which the specificity is at least the floor (as screening tests
are compared, Pepe, The Statistical Evaluation of Medical Tests, 2003, chapter 4). Asked for alone, it is guarded:
counted in full only where the other one is at least 0.5, and in proportion below, so that a constant model scores 0.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trainable.metrics import score
from trainable.suggest import did_you_mean

PLAIN = ("auc", "accuracy", "f1", "loss")
OPPOSITE = {"sensitivity": "specificity", "specificity": "sensitivity", "precision": "sensitivity"}
"""What falls to nothing as a metric alone is driven to 1."""
ALIASES = {"recall": "sensitivity", "ppv": "precision", "tpr": "sensitivity", "tnr": "specificity"}
GUARD = 0.5
_FORM = re.compile(r"\s*(?P<name>[\w-]+)\s*(@\s*(?P<other>[\w-]+)\s*=\s*(?P<floor>\S+))?\s*")


@dataclass(frozen=True, kw_only=True)
class Objective:
    """The value by which trials are compared. `floor` in (0, 1) is what `other` must hold, None for a plain metric.

    With `is_guarded` the metric is that of the most probable class, weighed down where `other` falls below `floor`.
    `text` is what the user asked for.
    """

    text: str
    name: str
    other: str | None = None
    floor: float | None = None
    is_guarded: bool = False

    @property
    def higher_is_better(self) -> bool:
        return self.name != "loss"

    @property
    def given(self) -> str:
        """How it is asked for, whatever the user wrote: `auc` for AUC, `sensitivity` for recall."""
        return self.name if self.other is None or self.is_guarded else f"{self.name}@{self.other}={self.floor!r}"

    @property
    def key(self) -> str:
        """Its name in MLflow and in records, which allow no @ and no =; that of a plain metric is the metric's."""
        if self.is_guarded:
            return f"{self.name}_guarded"
        return self.name if self.other is None else f"{self.name}_at_{self.other}_{self.floor:g}"

    @property
    def warning(self) -> str | None:
        """What a user who gave a metric without a floor must know."""
        if not self.is_guarded:
            return None
        return (
            f"--metric {self.text} alone is best for a model that says the same of every image; it counts in full only "
            f"where {self.other} is {GUARD:g} or more, and in proportion below. Say what you want held: "
            f"--metric {self.name}@{self.other}=0.8"
        )

    def value(
        self, labels: np.ndarray, probabilities: np.ndarray, positive: int, *, loss: float = float("nan")
    ) -> float:
        """Its value on labels int (N,) and probabilities float (N, C), in [0, 1] but for the loss, which is given.

        Of more than two classes the plain mean over one-versus-rest. NaN where a class is missing.
        """
        if self.name == "loss":
            return loss
        if self.other is None or self.floor is None or self.is_guarded:
            scores = score(labels, probabilities, positive)
            found = scores[self.name]
            return found * min(1.0, scores[self.other] / GUARD) if self.is_guarded and self.other else found
        classes = [positive] if probabilities.shape[1] == 2 else range(probabilities.shape[1])
        held = [best_at_floor(labels == c, probabilities[:, c], self.name, self.other, self.floor) for c in classes]
        return float(np.mean(held))


def parse_objective(text: str) -> Objective:
    """Read `--metric`: auc, accuracy, f1, loss, sensitivity, ..., or METRIC@METRIC=FLOOR. Raises ValueError."""
    found = _FORM.fullmatch(text.lower())
    known = (*PLAIN, *OPPOSITE)
    if found is None:
        raise ValueError(f"--metric is {text!r}; it must be a metric, or one with a floor: sensitivity@specificity=0.8")
    name = ALIASES.get(found["name"], found["name"])
    if name not in known:
        raise ValueError(
            f"--metric is {text!r}{did_you_mean(name, known)}; it must be one of {', '.join(known)} (on validation), "
            "or one with a floor: sensitivity@specificity=0.8"
        )
    if found["other"] is None:
        other = OPPOSITE.get(name)
        return Objective(
            text=text, name=name, other=other, floor=GUARD if other else None, is_guarded=other is not None
        )
    other = ALIASES.get(found["other"], found["other"])
    if other != OPPOSITE.get(name):  # under any other floor a model that calls nearly all, or nearly nothing, is best
        pairs = ", ".join(f"{one}@{another}=0.8" for one, another in OPPOSITE.items())
        raise ValueError(f"--metric is {text!r}; a floor holds what a metric alone would give up: {pairs}")
    return Objective(text=text, name=name, other=other, floor=_read_floor(text, found["floor"]))


def name_metric(text: str) -> str:
    """A metric as everybody calls it: AUC is auc, recall is sensitivity. What is none is left for others to refuse."""
    try:
        return parse_objective(text).given
    except ValueError:
        return text


def _read_floor(text: str, floor: str) -> float:
    try:
        value = float(floor.removesuffix("%")) / (100 if floor.endswith("%") else 1)
    except ValueError:
        value = float("nan")
    if not 0 < value < 1:
        raise ValueError(f"--metric is {text!r}; the floor {floor!r} must be a number between 0 and 1, such as 0.8")
    return value


def best_at_floor(is_positive: np.ndarray, scores: np.ndarray, name: str, other: str, floor: float) -> float:
    """The best `name` over all thresholds at which `other` is at least `floor`; 0 where none is, NaN without a class.

    `is_positive` bool (N,), `scores` float (N,): an image is called positive from the threshold up. The threshold
    above all scores, where nothing is called, is one of them.
    """
    num_positive, num_negative = int(is_positive.sum()), int((~is_positive).sum())
    if num_positive == 0 or num_negative == 0:
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)  # of each run of equal scores
    true_positive = np.append(0, np.cumsum(is_positive[order])[ends])
    called = np.append(0, ends + 1)
    curves: dict[str, npt.NDArray[np.float64]] = {
        "sensitivity": true_positive / num_positive,
        "specificity": 1 - (called - true_positive) / num_negative,
        "precision": np.where(called > 0, true_positive / np.maximum(called, 1), 0.0),
    }
    holds = curves[other] >= floor - 1e-12
    return float(curves[name][holds].max(initial=0.0))
