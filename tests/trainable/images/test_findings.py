"""Findings: blank slices, few patients, one source, unlike classes, shortcuts; each with its severity."""

from __future__ import annotations

import numpy as np
import pytest

from trainable.images.findings import (
    EXIT_CODES,
    Severity,
    check_blank_classes,
    find_blank,
    find_blank_slices,
    find_one_source,
    find_shortcuts,
    find_small_splits,
)
from trainable.images.shortcuts import Shortcut


def test_blank_is_one_grey_level_whichever() -> None:
    pixels = np.full((4, 8, 8), 0, dtype=np.uint8)
    pixels[1] = 255
    pixels[2, 3, 3] = 1
    pixels[3] = np.arange(64).reshape(8, 8)
    assert find_blank(pixels).tolist() == [True, True, False, False]


def test_blank_slices_are_named_and_a_class_of_nothing_else_is_an_error() -> None:
    names, labels = ["a/1", "a/2", "b/1", "b/2"], ["a", "a", "b", "b"]
    (some,) = find_blank_slices(names, labels, np.array([True, False, False, False]))
    assert some.severity is Severity.WARNING and some.names == ("a/1",) and "1 of 4" in some.title
    whole = find_blank_slices(names, labels, np.array([True, True, False, False]))
    assert [finding.severity for finding in whole] == [Severity.ERROR, Severity.WARNING]
    with pytest.raises(ValueError, match="every slice of class a is blank"):
        check_blank_classes(labels, [True, True, False, False])
    check_blank_classes(labels, [True, False, False, False])


def test_fewer_than_thirty_test_patients_are_a_warning() -> None:
    groups = np.arange(60)
    splits = ["test" if group < 30 else "train" for group in groups]
    labels = ["a", "b"] * 30
    assert find_small_splits(labels, splits, groups, "patients") == []
    splits[0] = "train"
    (few,) = find_small_splits(labels, splits, groups, "patients")
    assert few.severity is Severity.WARNING and "holds 29 patients" in few.title
    (drawn,) = find_small_splits(labels, None, groups, "groups")
    assert "about 6 groups" in drawn.title


@pytest.mark.parametrize(("most", "severity"), [(29, None), (40, Severity.NOTE), (120, Severity.WARNING)])
def test_unlike_classes_are_told_by_how_unlike_they_are(most: int, severity: Severity | None) -> None:
    labels = ["a"] * most + ["b"] * 10
    splits = ["test"] * len(labels)
    found = find_small_splits(labels, splits, np.arange(len(labels)), "patients")
    assert [finding.severity for finding in found] == ([] if severity is None else [severity])


def test_a_class_from_one_source_is_a_warning_and_a_source_of_all_is_none() -> None:
    labels = ["a"] * 12 + ["b"] * 12
    types = ["PNG"] * 12 + ["JPEG"] * 12
    groups = np.arange(24)
    one, two = find_one_source(labels, groups, {"file type": types}, "patients")
    assert "class a comes from one source: its file type is always PNG" in one.title and "JPEG" in two.title
    assert find_one_source(labels, groups, {"file type": ["PNG"] * 24}, "patients") == []
    (single,) = find_one_source(labels, np.where(groups < 12, 0, groups), {}, "patients")
    assert "all 12 slices of class a come from one of the patients" in single.title


def test_shortcuts_are_warned_of_above_chance_only() -> None:
    def shortcut(auc: float, margin: float) -> Shortcut:
        return Shortcut(group="file", seen=False, auc=auc, margin=margin, features=(("width", auc),))

    found = find_shortcuts([shortcut(0.84, 0.05), shortcut(0.75, 0.3), shortcut(0.69, 0.01)])
    assert len(found) == 1 and "width (0.84)" in found[0].title


def test_a_finding_is_one_line_with_what_to_do() -> None:
    (finding,) = find_blank_slices(["a\nb", "c"], ["x", "x"], np.array([True, False]))
    assert finding.line().startswith("warning: 1 of 2 slices are blank") and "remove them" in finding.line()


def test_exit_codes_leave_one_and_two_to_the_command_itself() -> None:
    assert [EXIT_CODES[severity] for severity in Severity] == [0, 3, 4]
