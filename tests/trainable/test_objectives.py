from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn import metrics as reference

from trainable.metrics import score
from trainable.objectives import Objective, best_at_floor, parse_objective

RNG = np.random.default_rng(3)
LABELS = RNG.integers(0, 2, 200)
SCORES = np.round(np.clip(0.5 + 0.22 * (LABELS - 0.5) + 0.2 * RNG.normal(size=200), 0, 1), 2)
USEFUL = np.stack([1 - SCORES, SCORES], axis=1)
RISKY = ("sensitivity", "specificity", "precision")


def constant(share: float) -> np.ndarray:
    return np.tile([1 - share, share], (len(LABELS), 1))


@pytest.mark.parametrize("floor", [0.05, 0.5, 0.8, 0.95, 0.999])
def test_sensitivity_at_a_specificity_is_that_of_the_roc_curve(floor: float) -> None:
    false_rate, true_rate, _ = reference.roc_curve(LABELS, SCORES, drop_intermediate=False)
    found = parse_objective(f"sensitivity@specificity={floor}").value(LABELS, USEFUL, 1)
    assert found == pytest.approx(true_rate[1 - false_rate >= floor - 1e-12].max())
    reverse = parse_objective(f"specificity@sensitivity={floor}").value(LABELS, USEFUL, 1)
    assert reverse == pytest.approx((1 - false_rate)[true_rate >= floor - 1e-12].max())


@pytest.mark.parametrize("floor", [0.1, 0.6, 0.9])
def test_precision_at_a_recall_is_that_of_its_curve(floor: float) -> None:
    precision, recall, _ = reference.precision_recall_curve(LABELS, SCORES)
    precision, recall = precision[:-1], recall[:-1]  # the last point is sklearn's own, with no threshold
    found = parse_objective(f"precision@recall={floor}").value(LABELS, USEFUL, 1)
    assert found == pytest.approx(precision[recall >= floor].max())


FLOORED = [f"{pair}={floor}" for pair in ("sensitivity@specificity", "specificity@sensitivity", "precision@recall")
           for floor in (0.05, 0.5, 0.95)]  # fmt: skip


@pytest.mark.parametrize("name", [*RISKY, *FLOORED])
@pytest.mark.parametrize("share", [0.0, 0.4, 0.5, 0.6, 1.0])
@pytest.mark.parametrize("positive", [0, 1])
def test_a_constant_model_never_wins(name: str, share: float, positive: int) -> None:
    objective = parse_objective(name)
    assert objective.value(LABELS, constant(share), positive) < objective.value(LABELS, USEFUL, positive)


@pytest.mark.parametrize("name", RISKY)
def test_a_bare_metric_that_a_constant_model_wins_warns(name: str) -> None:
    objective = parse_objective(name)
    assert objective.warning is not None and f"--metric {name}@" in objective.warning
    assert parse_objective(f"{name}@{objective.other}=0.8").warning is None
    assert objective.key == f"{name}_guarded"


def test_the_guard_changes_nothing_where_the_other_holds() -> None:
    scores = score(LABELS, USEFUL, 1)
    assert scores["specificity"] > 0.5
    assert parse_objective("sensitivity").value(LABELS, USEFUL, 1) == scores["sensitivity"]
    nearly_all = np.stack([0.75 - SCORES / 2, 0.25 + SCORES / 2], axis=1)
    nearly_all[:, 1] += 0.15
    scores = score(LABELS, nearly_all, 1)
    assert 0 < scores["specificity"] < 0.5
    found = parse_objective("sensitivity").value(LABELS, nearly_all, 1)
    assert found == pytest.approx(scores["sensitivity"] * scores["specificity"] / 0.5)


@pytest.mark.parametrize("name", ["auc", "accuracy", "f1"])
def test_a_plain_metric_is_the_metric(name: str) -> None:
    objective = parse_objective(name)
    assert objective.value(LABELS, USEFUL, 1) == score(LABELS, USEFUL, 1)[name]
    assert (objective.key, objective.warning, objective.higher_is_better) == (name, None, True)


def test_the_loss_is_given_and_lower_is_better() -> None:
    objective = parse_objective("loss")
    assert objective.value(LABELS, USEFUL, 1, loss=0.3) == 0.3 and not objective.higher_is_better


def test_more_classes_are_the_mean_over_one_versus_rest() -> None:
    labels = RNG.integers(0, 3, 90)
    probabilities = RNG.dirichlet(np.ones(3), 90)
    found = parse_objective("sensitivity@specificity=0.7").value(labels, probabilities, 0)
    each = [best_at_floor(labels == c, probabilities[:, c], "sensitivity", "specificity", 0.7) for c in range(3)]
    assert found == pytest.approx(np.mean(each))


def test_without_a_class_it_is_undefined() -> None:
    assert math.isnan(parse_objective("sensitivity@specificity=0.7").value(np.ones(4, int), USEFUL[:4], 1))
    assert math.isnan(parse_objective("sensitivity").value(np.zeros(4, int), USEFUL[:4], 1))


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("Sensitivity@Specificity=0.80", "sensitivity_at_specificity_0.8"),
        (" recall @ specificity = 90% ", "sensitivity_at_specificity_0.9"),
        ("precision@recall=0.5", "precision_at_sensitivity_0.5"),
        ("recall", "sensitivity_guarded"),
    ],
)
def test_it_is_read_as_people_write_it_and_its_key_is_one_that_mlflow_takes(text: str, key: str) -> None:
    from mlflow.utils.validation import _validate_metric_name

    objective = parse_objective(text)
    assert objective.key == key
    _validate_metric_name(f"val_{objective.key}")


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("sensitivty", "did you mean 'sensitivity'"),
        ("sensitivity@specificity", "with a floor"),
        ("sensitivity@specificity=", "with a floor"),
        ("sensitivity@specificity=1.5", "between 0 and 1"),
        ("sensitivity@specificity=nan", "between 0 and 1"),
        ("sensitivity@specificity=high", "between 0 and 1"),
        ("sensitivity@recall=0.8", "would give up"),
        ("sensitivity@precision=0.3", "would give up"),
        ("auc@specificity=0.8", "would give up"),
        ("sensitivity@auc=0.8", "would give up"),
        ("", "it must be a metric"),
    ],
)
def test_a_bad_metric_says_what_must_hold(text: str, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        parse_objective(text)


def test_an_objective_is_a_plain_value() -> None:
    assert parse_objective("auc") == Objective(text="auc", name="auc")
