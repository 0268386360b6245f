"""A training goes on from its checkpoints: bit for bit, and with no best epoch lost."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.trainable.test_train import CONFIG, SETTINGS, curve, run
from tests.trainable.test_train import data as data  # the fixture
from trainable.checkpoint import CheckpointStore
from trainable.checkpoint_writer import CheckpointWriter
from trainable.config import LR_SCHEDULES, OPTIMIZERS, StepPlan, TrialConfig
from trainable.images.prepare import TrainingData
from trainable.train import train


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_resumed_trial_goes_on_bit_for_bit(data: TrainingData, tmp_path: Path, optimizer: str) -> None:
    schedules = dict(zip(OPTIMIZERS, (*LR_SCHEDULES, "one_cycle"), strict=True))
    config = replace(CONFIG, optimizer=optimizer, lr_schedule=schedules[optimizer])
    straight = run(data, config=config)
    store = CheckpointStore(tmp_path / "trial")
    with CheckpointWriter(store, 0.0) as writer:
        begun = run(data, 3, config=config, checkpoints=writer)
    with CheckpointWriter(store, 0.0) as writer:
        repeated, *resumed = run(data, config=config, checkpoints=writer)
    assert curve([repeated]) == curve(begun[-1:])
    assert curve(begun + resumed) == curve(straight)
    assert [(r.epoch, r.best_epoch, r.best_value, r.finished) for r in begun + resumed] == [
        (r.epoch, r.best_epoch, r.best_value, r.finished) for r in straight
    ]


@pytest.mark.parametrize("changed", [False, True])
def test_another_plan_may_go_on_from_a_checkpoint(data: TrainingData, tmp_path: Path, changed: bool) -> None:
    settings = replace(SETTINGS, deterministic=False)
    plans = [StepPlan(memory_format="channels_last"), StepPlan()] if changed else [StepPlan(), StepPlan()]
    store = CheckpointStore(tmp_path / "trial")
    for plan, num_epochs in zip(plans, (3, None), strict=True):
        with CheckpointWriter(store, 0.0) as writer:
            reports = run(data, num_epochs, settings=settings, plan=plan, checkpoints=writer)
    assert reports[-1].metrics["val_loss"] == pytest.approx(run(data)[-1].metrics["val_loss"], abs=0.02)


def test_facts_and_states_of_checkpoints_say_where_the_trial_is(data: TrainingData, tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "trial")
    with CheckpointWriter(store, 0.0) as writer:
        reports = run(data, 4, checkpoints=writer)
    newest, best = store.load("newest"), store.load("best")
    assert newest is not None
    assert best is not None
    last = reports[-1]
    assert newest[1]["epoch"] == 4
    assert (newest[1]["best_value"], newest[1]["best_epoch"]) == (last.best_value, last.best_epoch)
    assert newest[1]["epochs_since_best"] == 4 - last.best_epoch
    assert TrialConfig.from_params(newest[1]["config"]) == CONFIG
    assert best[1]["epoch"] == last.best_epoch
    assert set(newest[0]) == {"model", "average", "optimizer"}
    assert set(best[0]) == {"model"}


def test_the_best_epoch_is_durable_before_the_next_is_reported_and_the_last_before_its_own(
    data: TrainingData, tmp_path: Path
) -> None:
    store = CheckpointStore(tmp_path / "trial")
    with CheckpointWriter(store, 1e6) as writer:
        last = None
        for report in train(CONFIG, SETTINGS, data, checkpoints=writer):
            durable = report if report.finished else last
            if durable is not None:
                facts = store.facts("best")
                assert facts is not None
                assert facts["epoch"] in (durable.best_epoch, report.best_epoch)
            last = report
        writer.close(keep_newest=False)


def test_a_best_epoch_lost_with_its_worker_is_written_from_the_newest_checkpoint(
    data: TrainingData, tmp_path: Path
) -> None:
    store = CheckpointStore(tmp_path / "trial")
    settings = replace(SETTINGS, max_epochs=2)
    with CheckpointWriter(store, 0.0) as writer:
        run(data, 1, settings=settings, checkpoints=writer)
    store.delete("best")
    with CheckpointWriter(store, 0.0) as writer:
        run(data, 1, settings=settings, checkpoints=writer)
    best, newest = store.load("best"), store.load("newest")
    assert best is not None
    assert newest is not None
    assert best[1]["epoch"] == 1
    assert all(torch.equal(tensor, newest[0]["average"][name]) for name, tensor in best[0]["model"].items())


def test_a_best_epoch_newer_than_the_newest_checkpoint_is_not_forgotten(data: TrainingData, tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "trial")
    with CheckpointWriter(store, 0.0) as writer:
        run(data, 2, checkpoints=writer)
    loaded = store.load("best")
    assert loaded is not None
    store.save("best", loaded[0], loaded[1] | {"epoch": 4, "best_value": 2.0})
    with CheckpointWriter(store, 0.0) as writer:
        reports = run(data, checkpoints=writer)
    assert {(report.best_epoch, report.best_value, report.is_best) for report in reports if report.epoch != 4} == {
        (4, 2.0, False)
    }


def test_a_trial_found_finished_reports_its_last_epoch_again(data: TrainingData, tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "trial")
    settings = replace(SETTINGS, max_epochs=2)
    with CheckpointWriter(store, 0.0) as writer:
        last = run(data, settings=settings, checkpoints=writer)[-1]
    with CheckpointWriter(store, 0.0) as writer:
        assert run(data, settings=settings, checkpoints=writer) == [last]


def test_a_checkpoint_of_another_configuration_is_refused(data: TrainingData, tmp_path: Path) -> None:
    with CheckpointWriter(CheckpointStore(tmp_path / "trial"), 0.0) as writer:
        run(data, 1, checkpoints=writer)
        writer.close()
    with (
        CheckpointWriter(CheckpointStore(tmp_path / "trial"), 0.0) as writer,
        pytest.raises(ValueError, match="of another configuration"),
    ):
        run(data, config=replace(CONFIG, dropout=0.2), checkpoints=writer)
