"""The bench on recorded curves: its clock, its tables, and every contender on a small one."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

from benchmarks.curve_clock import noisy, simulate
from benchmarks.curve_contenders import CONTENDERS, Judged, RandomProposer, RayAsha, TableProposals
from benchmarks.curve_optuna import TableSpace
from benchmarks.curve_tables import CurveTable, read_tables
from benchmarks.curves import STEPS, Case, interval, run_case
from search.core.curve_file import RecordedCurves, write_curves
from search.core.decisions import PastTrial
from search.core.promotion import Promotion
from search.core.space import DefaultSpace

ARCHITECTURES = ("small_cnn", "squeezenet1_1", "mobilenet_v3_small")
ROOT = Path(__file__).resolve().parents[2]


def table(num_rows: int = 40, max_epochs: int = 9, seconds: float = 1.0) -> CurveTable:
    """Rows whose rate and kind decide how far they rise; one diverges, one ends early, one kind has a width."""
    generator = np.random.default_rng(0)
    rates = generator.random(num_rows)
    params = tuple(
        {"rate": float(rate), "kind": "a"} if row % 2 else {"rate": float(rate), "kind": "b", "width": row}
        for row, rate in enumerate(rates)
    )
    values = rates[:, None] * (1 - np.exp(-np.arange(1, max_epochs + 1) / 3))
    values[3, 2:] = np.nan
    lengths = np.full(num_rows, max_epochs)
    lengths[5] = 4
    return CurveTable("small", params, values / np.nanmax(values), lengths, np.full(num_rows, seconds))


@pytest.mark.parametrize("name", CONTENDERS)
def test_a_contender_searches_and_does_so_the_same_way_each_time(name: str) -> None:
    case = Case(name, table(), num_workers=3, noise=0.02, seed=1, trainings=6)
    (regrets, num_trials), (again, _) = run_case(case), run_case(case)
    assert (regrets == again).all()
    assert regrets.shape == (6 * STEPS,)
    assert 0 <= regrets[-1] < 0.5
    assert num_trials >= 6


def test_the_space_of_a_table_knows_what_decides_whether_a_hyperparameter_is_there() -> None:
    """The default space's own conditions: one upon others, on a truth and on a whole number."""
    study, space = optuna.create_study(sampler=optuna.samplers.RandomSampler(0)), DefaultSpace(ARCHITECTURES)

    def draw() -> dict[str, Any]:
        trial = study.ask()
        space(trial)
        return dict(trial.params)

    rows = tuple(draw() for _ in range(200))
    shape = (len(rows), 3)
    found = TableSpace(CurveTable("drawn", rows, np.zeros(shape), np.full(len(rows), 3), np.ones(len(rows))))
    assert {"cnn_pool", "head_width", "momentum"} <= set(found.wanted)
    for _ in range(50):
        params = draw()
        others = {name: params.get(name, row_with(rows, name)[name]) for name in found.distributions}
        assert found.settle(others) == params


def row_with(rows: Sequence[dict[str, Any]], name: str) -> dict[str, Any]:
    return next(row for row in rows if name in row)


def test_what_no_choice_decides_is_refused() -> None:
    rows = ({"rate": 0.1}, {"rate": 0.2, "width": 3})
    small = CurveTable("odd", rows, np.zeros((2, 3)), np.full(2, 3), np.ones(2))
    with pytest.raises(ValueError, match="odd: no category or whole number says when width is there"):
        TableSpace(small)


def test_all_contenders_begin_alike() -> None:
    begun = []
    for contender in (CONTENDERS[name] for name in CONTENDERS if not name.startswith("syne-tune")):
        small = table()
        rule, proposer = contender(small, 5)
        seen = noisy(small, 0.02, 5)
        trace = simulate(small, rule, proposer, num_workers=4, seen=seen, seconds=9.5)
        begun.append([trace.rows[number] for number in range(4)])
    assert all(rows == begun[0] for rows in begun) and len(set(begun[0])) == 4


def test_tasks_do_not_share_their_luck() -> None:
    one, other = table(), replace(table(), name="other")
    assert one.own_seed(3) != other.own_seed(3)
    cases = [Case("promotion-random", each, 2, 0.1, 3, 4) for each in (one, one, other)]
    first, again, elsewhere = (run_case(case)[0] for case in cases)
    assert (first == again).all() and (first != elsewhere).any()


def test_before_anything_is_reported_the_regret_is_that_of_the_start() -> None:
    regrets, _ = run_case(Case("promotion-random", table(seconds=5.0), 1, 0.0, 0, 1))
    first_epoch = STEPS // 9
    assert (regrets[: first_epoch - 1] == 1).all()
    assert regrets[-1] < 1


def test_workers_share_the_trials_and_the_time() -> None:
    small = table()
    traces = []
    for num_workers in (1, 4):
        proposer = RandomProposer(0, len(small.params))
        rule = Promotion((1, 3, 9))
        traces.append(
            simulate(small, rule, proposer, num_workers=num_workers, seen=small.values, seconds=40 / num_workers)
        )
    assert [trace.num_epochs for trace in traces] == [40, 40]


def test_a_row_that_ended_by_itself_is_never_trained_again_and_no_row_twice() -> None:
    small = table(num_rows=6)
    proposer = RandomProposer(0, len(small.params))
    trace = simulate(small, Promotion((1, 3, 9)), proposer, num_workers=2, seen=small.values, seconds=1e6)
    assert trace.num_trials == 6
    assert not proposer.free.any()
    assert trace.num_epochs <= 5 * 9 + 4


def test_what_is_handed_over_is_worth_its_true_value() -> None:
    small = table()
    seen = noisy(small, 0.3, 0)
    rule = Judged(lambda number, epoch, value: True, 9)
    trace = simulate(small, rule, RandomProposer(0, len(small.params)), num_workers=1, seen=seen, seconds=50.0)
    assert trace.values.max() <= 1.0
    assert np.nanmax(seen) > 1.1


def test_noise_is_the_same_for_every_contender() -> None:
    assert np.array_equal(noisy(table(), 0.1, 3), noisy(table(), 0.1, 3), equal_nan=True)


def test_rays_rule_keeps_those_at_or_above_the_percentile_of_those_before() -> None:
    rule = RayAsha(50, 4)
    assert list(rule.rungs) == [16, 4, 1]
    assert [rule(number, 1, value) for number, value in enumerate([0.5, 0.1, 0.9, 0.4])] == [True, False, True, False]


def test_rows_near_a_configuration_are_near_and_free() -> None:
    small = table()
    proposals = TableProposals()
    proposals.table, proposals.free = small, np.ones(40, dtype=bool)
    proposals.free[::2] = False
    near = proposals.near(small.params[1], 20, np.random.default_rng(0))
    assert {params["kind"] for params in near} == {"a"}


def test_an_interval_without_differences_is_zero() -> None:
    assert interval(np.zeros((2, 3))) == (0.0, 0.0)
    low, high = interval(np.array([[0.1, 0.2], [0.3, 0.4]]))
    assert 0.1 <= low < 0.25 < high <= 0.4


def test_the_recorded_files_are_read(shared_data: Path) -> None:
    tables = {read.name: read for read in read_tables(shared_data / "curves")}
    assert len(tables) == 12
    assert {len(read.params) for name, read in tables.items() if name.startswith("patch")} == {1000}
    assert {read.max_epochs for read in tables.values()} == {25, 50}
    for read in tables.values():
        assert np.nanmax(read.values) == pytest.approx(1.0)
        assert (read.seconds > 0).all()


def test_a_folder_without_curves_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must hold \*\.npz"):
        read_tables(tmp_path)


def test_the_command_compares_on_an_exported_table(tmp_path: Path) -> None:
    small = table(num_rows=20)
    trials = []
    for row, (params, values) in enumerate(zip(small.params, small.values.tolist(), strict=True)):
        losses = {epoch: 2.0 - value for epoch, value in enumerate(values, start=1)}
        trials.append(PastTrial(row, params, losses, "completed"))
    write_curves(tmp_path / "toy.curves.json", RecordedCurves("toy", "loss", False, 9, trials))
    command = [sys.executable, "benchmarks/curves.py", "--curves", str(tmp_path), "--seeds", "2", "--trainings", "10"]
    command += ["--workers", "2", "--noise", "0", "--only", "freeze-thaw,promotion-random,stock", "--jobs", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["contender"] for line in lines] == ["stock", "freeze-thaw", "promotion-random"]
    assert all(0 <= line["area"] <= 1 for line in lines)
    assert len(lines[0]["ours_minus_this"]) == len(lines[2]["ours_minus_this"]) == 3
    assert 0 < lines[0]["epochs_to_stock"] <= 1
