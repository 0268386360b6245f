"""Shortcuts: how well simple models tell the classes apart by what must not decide, each group of features alone."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainable.images.shortcut_features import AFTER, BEFORE, Features, Value

WARN_ABOVE = 0.7
MAX_SLICES = 3000  # enough for an AUC to within 0.01
NUM_FOLDS = 5
MIN_GROUPS = 10  # of each class: with fewer an AUC says nothing

_NUM_TREES = 60
_NUM_NAMED = 3
Matrix = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Shortcut:
    """How well one group of features tells the classes apart on slices of groups that the model has not seen.

    `auc` is one against the rest, the mean over the classes, in [0, 1]; `margin` half of its 95 % interval, from
    the number of groups; `features` the best single ones, by name and AUC; `seen` tells whether a model that is
    trained on decoded slices can see them.
    """

    group: str
    seen: bool
    auc: float
    margin: float
    features: tuple[tuple[str, float], ...]

    @property
    def is_warning(self) -> bool:
        """Above 0.7, and not by chance."""
        return self.auc > WARN_ABOVE and self.auc - self.margin > 0.5


def measure_shortcuts(
    features: Sequence[Features], labels: Sequence[str], groups: NDArray[np.int64], *, seed: int = 0
) -> tuple[Shortcut, ...]:
    """The AUC of a forest on each group of features, and of a small tree on each feature, the highest first.

    Cross-validated in five folds; slices that share a number in `groups` int64 (N,) share a fold. At most 3,000
    slices, whole groups of them, are used. Empty where a class has fewer than 10 groups. The interval is that of
    Hanley and McNeil (Radiology 1982) for as many cases as there are groups.
    """
    chosen = _draw_groups(groups, seed)
    labels, groups = [labels[index] for index in chosen], groups[chosen]
    targets = np.unique(labels, return_inverse=True)[1]
    num_groups = Counter(target for target, _ in {*zip(targets.tolist(), groups.tolist(), strict=True)})
    if len(num_groups) < 2 or min(num_groups.values()) < MIN_GROUPS:
        return ()
    folds = _make_folds(targets, groups, seed)
    found = []
    for group in (*BEFORE, *AFTER):
        names, matrix = _to_matrix([features[index][group] for index in chosen])
        if not names:
            continue
        auc = _cross_validate(matrix, targets, folds, seed, forest=True)
        single = [
            (name, round(_cross_validate(matrix[:, [at]], targets, folds, seed, forest=False), 4))
            for at, name in enumerate(names)
        ]
        found.append(
            Shortcut(
                group=group,
                seen=group in AFTER,
                auc=round(auc, 4),
                margin=round(_margin(auc, list(num_groups.values())), 4),
                features=tuple(sorted(single, key=lambda pair: -pair[1])[:_NUM_NAMED]),
            )
        )
    return tuple(sorted(found, key=lambda shortcut: -shortcut.auc))


def _draw_groups(groups: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Indices of whole groups, drawn at random, of at most MAX_SLICES slices; all where there are no more."""
    if len(groups) <= MAX_SLICES:
        return np.arange(len(groups))
    sizes = np.bincount(groups)
    order = np.random.default_rng(seed).permutation(len(sizes))
    taken = order[np.cumsum(sizes[order]) <= MAX_SLICES]
    return np.flatnonzero(np.isin(groups, taken))


def _make_folds(
    targets: NDArray[np.int64], groups: NDArray[np.int64], seed: int
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    from sklearn.model_selection import StratifiedGroupKFold

    folds = StratifiedGroupKFold(NUM_FOLDS, shuffle=True, random_state=seed)
    return list(folds.split(np.zeros(len(targets)), targets, groups))


def _to_matrix(rows: Sequence[dict[str, Value]]) -> tuple[list[str], Matrix]:
    """Features as numbers (N, F): words by how frequent they are, what is missing as -1. Constant ones are left out."""
    names = sorted({name for row in rows for name in row})
    columns, kept = [], []
    for name in names:
        values = [row.get(name) for row in rows]
        if any(isinstance(value, str) for value in values):
            counts = Counter(str(value) for value in values)
            order = {word: rank for rank, word in enumerate(sorted(counts, key=lambda word: (-counts[word], word)))}
            column = np.array([order[str(value)] for value in values], dtype=np.float32)
        else:
            column = np.array([-1.0 if value is None else value for value in values], dtype=np.float32)
        if np.ptp(column) > 0:
            kept.append(name)
            columns.append(column)
    return kept, np.stack(columns, axis=1) if columns else np.zeros((len(rows), 0), dtype=np.float32)


def _cross_validate(
    matrix: Matrix,
    targets: NDArray[np.int64],
    folds: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]],
    seed: int,
    *,
    forest: bool,
) -> float:
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.metrics import roc_auc_score
    from sklearn.tree import DecisionTreeClassifier

    num_classes = int(targets.max()) + 1
    leaf = max(3, len(targets) // 200)
    scores = np.zeros((len(targets), num_classes))
    for train, held_out in folds:
        if forest:
            model = RandomForestClassifier(
                _NUM_TREES, min_samples_leaf=leaf, class_weight="balanced", random_state=seed
            )
        else:
            model = DecisionTreeClassifier(
                max_depth=4, min_samples_leaf=leaf, class_weight="balanced", random_state=seed
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of classes that a fold lacks
            model.fit(matrix[train], targets[train])
        scores[np.ix_(held_out, model.classes_)] = model.predict_proba(matrix[held_out])
    return float(np.mean([roc_auc_score(targets == number, scores[:, number]) for number in range(num_classes)]))


def _margin(auc: float, num_groups: Sequence[int]) -> float:
    """Half of the 95 % interval, for the rarest class against all others."""
    num_positive = min(num_groups)
    num_negative = max(1, sum(num_groups) - num_positive)
    one, two = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    variance = (auc * (1 - auc) + (num_positive - 1) * (one - auc**2) + (num_negative - 1) * (two - auc**2)) / (
        num_positive * num_negative
    )
    return 1.96 * math.sqrt(max(variance, 0.0))
