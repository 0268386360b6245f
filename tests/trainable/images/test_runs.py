"""Runs of neighbouring numbers: found in names, cut where long, joined by likeness, true to COVID-CT's patients."""

from __future__ import annotations

import csv
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from trainable.images.decode import decode_slice
from trainable.images.near_duplicates import SAME_SCAN, THUMBNAIL_SIZE, find_near_duplicates, group_scans
from trainable.images.runs import MAX_RUN, groups_of_runs

FAR_APART = [f"other/{100 * k}.png" for k in range(1, 200)]  # so that a tenth of the set is more than a run


def groups(*names: str) -> list[int]:
    return groups_of_runs([*names, *FAR_APART]).tolist()[: len(names)]


def test_neighbouring_numbers_are_one_group_whatever_their_order_and_padding() -> None:
    assert groups("a/slice_010.png", "a/slice_008.png", "a/slice_9.png") == [0, 0, 0]


def test_a_gap_another_word_or_another_folder_ends_a_run() -> None:
    assert groups("a/s1.png", "a/s3.png", "a/t2.png", "b/s2.png") == [0, 1, 2, 3]


def test_only_the_last_number_counts_and_the_ending_does_not() -> None:
    assert groups("p1_s1.png", "p1_s2.jpg", "p2_s1.png", "p2_s2.png") == [0, 0, 1, 1]
    assert groups("p1-s1-lung.png", "p1-s2-lung.png", "p1-s2-bone.png") == [0, 0, 1]


def test_names_without_a_number_stand_alone_and_numbers_may_be_long() -> None:
    assert groups("a.png", "b.png", "1.2.840.99999999999999999998", "1.2.840.99999999999999999999") == [0, 1, 2, 2]


def test_a_set_that_is_numbered_through_is_cut_into_parts() -> None:
    sizes = np.bincount(groups_of_runs([f"Covid ({k}).png" for k in range(1, 1001)]))
    assert sizes.min() >= MAX_RUN / 2 and sizes.max() <= 1.5 * MAX_RUN
    assert len(np.bincount(groups_of_runs([f"{k}.png" for k in range(20)]))) == 10


def test_a_long_run_is_cut_where_neighbours_are_least_alike() -> None:
    alike = [(k, k + 1, 0.9) for k in range(299) if k != 27]
    found = groups_of_runs([f"{k}.png" for k in range(300)], [pair for pair in alike if pair[0] < 40])
    assert found[27] != found[28] and found[25] == found[27]


def test_likeness_joins_runs_but_never_the_whole_set() -> None:
    names = [f"{100 * k}.png" for k in range(100)]
    assert len(set(groups_of_runs(names, [(3, 50, 0.85)]))) == 99
    chain = [(k, k + 1, 0.85) for k in range(99)]
    assert len(set(groups_of_runs(names, [*chain, (3, 50, 0.99)]))) == 99
    assert groups_of_runs([]).tolist() == []


def test_runs_keep_more_of_covid_cts_patients_whole_than_likeness_does(shared_data: Path) -> None:
    with (shared_data / "covid-ct" / "manifest.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["split"] != "test"]
    names = [row["path"] for row in rows]
    pixels = np.stack([decode_slice(shared_data / "covid-ct" / name, THUMBNAIL_SIZE) for name in names])
    alike = find_near_duplicates(pixels, SAME_SCAN)
    same = [(i, j) for i, j in combinations(range(len(rows)), 2) if rows[i]["patient"] == rows[j]["patient"]]

    def share_kept(found: np.ndarray) -> float:
        return float(np.mean([found[i] == found[j] for i, j in same]))

    with_runs, with_likeness = share_kept(groups_of_runs(names, alike)), share_kept(group_scans(alike, len(names)))
    assert with_runs > 0.6 > 2 * with_likeness
    assert with_runs == pytest.approx(share_kept(groups_of_runs(names)), abs=0.1)
