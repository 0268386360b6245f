from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from trainable.images.splits import SPLITS, SplitRow, assign_splits, check_splits, read_splits, write_splits


def _uneven_set(num_groups: int = 384, seed: int = 0) -> tuple[list[int], list[str]]:
    """Patients of one class each, mostly with one or two slices, a few with up to 16."""
    rng = np.random.default_rng(seed)
    sizes = np.minimum(rng.geometric(0.5, num_groups), 16)
    labels = rng.random(num_groups) < 0.45
    order = rng.permutation(int(sizes.sum()))
    slices = [(int(labels[g]), f"patient {g}") for g in range(num_groups) for _ in range(sizes[g])]
    return [slices[i][0] for i in order], [slices[i][1] for i in order]


@pytest.mark.parametrize("seed", range(5))
def test_no_group_straddles_and_every_class_has_its_share(seed: int) -> None:
    labels, groups = _uneven_set(seed=seed)
    splits = assign_splits(labels, groups, seed=seed)
    assert len({*zip(groups, splits, strict=True)}) == len(set(groups))
    for label in (0, 1):
        counts = Counter(split for split, other in zip(splits, labels, strict=True) if other == label)
        shares = [counts[split] / labels.count(label) for split in SPLITS]
        assert shares == pytest.approx([0.7, 0.2, 0.1], abs=0.02)
    num_groups = Counter(split for _, split in {*zip(groups, splits, strict=True)})
    assert [num_groups[split] / 384 for split in SPLITS] == pytest.approx([0.7, 0.2, 0.1], abs=0.03)


def test_groups_of_several_classes_are_balanced_too() -> None:
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 60, 900)
    labels = rng.integers(0, 3, 900)
    splits = np.array(assign_splits(labels, groups, seed=1))
    for label in range(3):
        shares = [np.mean(splits[labels == label] == split) for split in SPLITS]
        assert shares == pytest.approx([0.7, 0.2, 0.1], abs=0.05)


def test_the_seed_decides_and_the_order_of_slices_does_not() -> None:
    labels, groups = _uneven_set()
    first = assign_splits(labels, groups, seed=3)
    assert assign_splits(labels, groups, seed=3) == first
    assert assign_splits(labels, groups, seed=4) != first
    assert assign_splits(labels[::-1], groups[::-1], seed=3) == first[::-1]


def test_the_hash_seed_does_not_decide() -> None:
    code = (
        "from trainable.images.splits import assign_splits as a;"
        "print(a([0, 1] * 60, [f'p{i % 40}' for i in range(120)], seed=1))"
    )
    root = Path(__file__).resolve().parents[3]
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": s}, cwd=root, capture_output=True, check=True
        ).stdout
        for s in ("1", "2")
    }
    assert len(outputs) == 1


@pytest.mark.parametrize("seed", range(10))
def test_three_groups_of_a_class_are_enough_whatever_their_sizes(seed: int) -> None:
    groups = [0] * 50 + [1] + [2] + [3] * 5 + [4] * 5 + [5] * 90
    labels = [0] * 52 + [1] * 100
    splits = assign_splits(labels, groups, seed=seed)
    assert {*zip(labels, splits, strict=True)} == {(label, split) for label in (0, 1) for split in SPLITS}


def test_too_few_groups_of_a_class_are_an_error_that_counts_them() -> None:
    labels, groups = ["a"] * 9 + ["b"] * 6, [*range(9), 9, 9, 9, 10, 10, 10]
    with pytest.raises(ValueError, match=r"class b has 2 groups .*; 3 are needed"):
        assign_splits(labels, groups, seed=0)


@pytest.mark.parametrize("fractions", [(0.8, 0.2), (0.8, 0.2, 0.0), (0.7, 0.2, 0.2)])
def test_fractions_must_be_three_with_the_sum_one(fractions: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="fractions"):
        assign_splits([0, 1] * 9, list(range(18)), seed=0, fractions=fractions)


def test_labels_and_groups_must_be_as_many() -> None:
    with pytest.raises(ValueError, match="one for each slice"):
        assign_splits([0, 1], [0], seed=0)


# -- splits that came with the data

GIVEN = ("train", "train", "val", "val", "test", "test")


def test_good_splits_pass_as_they_are() -> None:
    assert check_splits(GIVEN, list(range(6)), [0, 1] * 3) == (GIVEN, None)


def test_a_patient_in_two_splits_is_an_error_that_names_files_and_no_patient() -> None:
    groups = ["Ann", "Bob", "Cy", "Bob", "Dee", "Cy"]
    with pytest.raises(ValueError, match=r"2 patients.*: 1\.png \(train\) and 3\.png \(val\)") as caught:
        check_splits(GIVEN, groups, [0, 1] * 3, names=[f"{i}.png" for i in range(6)])
    assert not any(name in str(caught.value) for name in groups)


def test_val_is_drawn_from_train_by_groups() -> None:
    labels, groups = _uneven_set()
    given = tuple("test" if int(group.split()[1]) % 5 == 0 else "train" for group in groups)
    splits, note = check_splits(given, groups, labels, seed=1)
    assert note is not None and note.startswith("the splits given have no val: ")
    assert len({*zip(groups, splits, strict=True)}) == len(set(groups))
    assert all((old == "test") == (new == "test") for old, new in zip(given, splits, strict=True))
    assert splits.count("val") / given.count("train") == pytest.approx(2 / 9, abs=0.02)
    assert check_splits(given, groups, labels, seed=1) == (splits, note)


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        (("train",) * 4 + ("val",) * 2, "have no test, only train, val; add it, or name val test .*or drop"),
        (("test",) * 4 + ("val",) * 2, "have no train, only test, val"),
        (("train", "val", "val", "val", "test", "test"), "class 1 has no slice in the train split"),
        (("train",) * 5 + ("holdout",), "unknown split 'holdout'"),
    ],
)
def test_incomplete_splits_are_an_error(splits: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_splits(splits, list(range(6)), [0, 1] * 3)


# -- splits.csv


def _row(**changes: object) -> SplitRow:
    facts = {"path": Path('/d/a, "1"\n%.png'), "label": "ü, 1", "group": 7, "split": "val", "sha256": "ab"}
    return SplitRow(**{**facts, "kept": True, "near_duplicate": False, **changes})  # type: ignore[arg-type]


def test_rows_are_read_as_they_were_written(tmp_path: Path) -> None:
    rows = (_row(), _row(path=Path("/d/\udcff.png"), kept=False, near_duplicate=True, split="test"))
    write_splits(tmp_path / "splits.csv", rows)
    assert read_splits(tmp_path / "splits.csv") == rows
    assert [path.name for path in tmp_path.iterdir()] == ["splits.csv"]


@pytest.mark.parametrize(("old", "new"), [("val", "dev"), ("True", "yes"), (",7,", ",x,"), ("sha256", "hash")])
def test_a_damaged_file_is_an_error_that_names_it(old: str, new: str, tmp_path: Path) -> None:
    path = tmp_path / "splits.csv"
    write_splits(path, [_row()])
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(ValueError, match=r"splits\.csv"):
        read_splits(path)
