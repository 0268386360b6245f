"""Two real processes that train one trial over gloo, beside one process that trains it alone."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.trainable.squares import make_squares
from tests.trainable.test_loop import draw_images
from tests.trainable.test_train import SETTINGS as SMALLER
from tests.trainable.test_train import curve
from trainable.architectures import build_model
from trainable.checkpoint import CheckpointStore
from trainable.checkpoint_writer import CheckpointWriter
from trainable.config import StepPlan, TrialConfig
from trainable.epoch_report import EpochReport
from trainable.images.batches import draw_batches
from trainable.images.prepare import TrainingData
from trainable.micro_batches import sum_gradients
from trainable.process_group import SINGLE, ProcessGroup, join_process_group
from trainable.train import train
from trainable.trainer import Trainer

SIZE = 2
SETTINGS = replace(SMALLER, image_size=32)
CONFIG = TrialConfig(
    architecture="small_cnn", cnn_filters=4, batch_size=7, learning_rate=3e-3, label_smoothing=0.1, class_weighting=True
)
WITHOUT_NORM = replace(CONFIG, cnn_norm=False)

process_group = SINGLE


def join(rank: int, meeting_file: Path) -> None:
    global process_group
    process_group = join_process_group(rank, SIZE, meeting_file, torch.device("cpu"))


def train_here(
    config: TrialConfig, data: TrainingData, folder: Path, num_epochs: int | None = None, **options: Any
) -> tuple[list[EpochReport], dict[str, Tensor]]:
    """The reports of `num_epochs` epochs, or of all, and the weights at their end, which rank 0 alone keeps."""
    settings = options.pop("settings", replace(SETTINGS, max_epochs=3))
    store = CheckpointStore(folder)
    checkpoints = CheckpointWriter(store, 0.0) if process_group.rank == 0 else None
    reports = train(config, settings, data, checkpoints=checkpoints, process_group=process_group, **options)
    found = list(reports) if num_epochs is None else [next(reports) for _ in range(num_epochs)]
    reports.close()
    if checkpoints is None:
        return found, {}
    checkpoints.close()
    loaded = store.load("newest")
    assert loaded is not None
    return found, loaded[0]["model"]


class Pair:
    """Two warm processes, each a rank."""

    def __init__(self, meeting_file: Path) -> None:
        spawn = multiprocessing.get_context("spawn")
        self.ranks = [ProcessPoolExecutor(1, mp_context=spawn) for _ in range(SIZE)]
        for done in [rank.submit(join, number, meeting_file) for number, rank in enumerate(self.ranks)]:
            done.result()

    def __call__(self, function: Any, *args: Any, **options: Any) -> list[Any]:
        work: list[Future[Any]] = [rank.submit(function, *args, **options) for rank in self.ranks]
        return [done.result() for done in work]

    def close(self) -> None:
        for rank in self.ranks:
            rank.shutdown()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    pair = Pair(tmp_path_factory.mktemp("meeting") / "file")
    yield pair
    pair.close()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> TrainingData:
    """Of 32 images for training the last batch is smaller."""
    return make_squares(tmp_path_factory.mktemp("pixels"), count=49, size=32)


def assert_alike(ours: tuple[Any, Any], expected: tuple[Any, Any]) -> None:
    for report, other in zip(curve(ours[0]), curve(expected[0]), strict=True):
        assert report == pytest.approx(other, rel=1e-3, abs=1e-5)
    for name, tensor in expected[1].items():
        torch.testing.assert_close(ours[1][name], tensor, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("config", [WITHOUT_NORM, CONFIG], ids=["without norm", "with norm"])
def test_two_processes_train_what_one_does(
    pair: Pair, data: TrainingData, tmp_path: Path, config: TrialConfig, optimizer: str
) -> None:
    config = replace(config, optimizer=optimizer)
    alone = train_here(config, data, tmp_path / "alone")
    first, *others = pair(train_here, config, data, tmp_path / "pair")
    assert_alike(first, alone)
    for other in others:
        assert curve(other[0]) == curve(first[0]), "every rank knows the same"


def test_a_trial_of_two_goes_on_from_its_checkpoint_bit_for_bit(pair: Pair, data: TrainingData, tmp_path: Path) -> None:
    straight, *_ = pair(train_here, CONFIG, data, tmp_path / "straight")
    begun, *_ = pair(train_here, CONFIG, data, tmp_path / "pair", 2)
    resumed, other, *_ = pair(train_here, CONFIG, data, tmp_path / "pair")
    assert curve(begun[0][:1] + resumed[0]) == curve(straight[0])
    assert curve(other[0]) == curve(resumed[0])
    assert all(torch.equal(tensor, straight[1][name]) for name, tensor in resumed[1].items())
    alone = train_here(CONFIG, data, tmp_path / "pair")
    assert curve(alone[0]) == curve(resumed[0][-1:]), "one process takes over what two have written"


def test_dropout_differs_from_rank_to_rank_and_the_result_stays_within_noise(
    pair: Pair, data: TrainingData, tmp_path: Path
) -> None:
    config, settings = replace(CONFIG, dropout=0.3), replace(SETTINGS, max_epochs=8)
    alone = train_here(config, data, tmp_path / "alone", settings=settings)
    (reports, _), *_ = pair(train_here, config, data, tmp_path / "pair", settings=settings)
    assert curve(reports) != curve(alone[0])
    assert reports[-1].metrics["val_loss"] == pytest.approx(alone[0][-1].metrics["val_loss"], abs=0.1)
    assert reports[-1].best_value == pytest.approx(alone[0][-1].best_value, abs=0.05)


@pytest.mark.parametrize("architecture", ["squeezenet1_1", "mobilenet_v3_small"])
def test_known_models_in_bf16_and_channels_last_train_in_two_processes(
    pair: Pair, data: TrainingData, tmp_path: Path, architecture: str
) -> None:
    config = TrialConfig(architecture=architecture, batch_size=16)
    settings = replace(SETTINGS, max_epochs=1, deterministic=False)
    plan = StepPlan(precision="bf16", memory_format="channels_last")
    alone = train_here(config, data, tmp_path / "alone", plan=plan, settings=settings)
    (reports, state), *_ = pair(train_here, config, data, tmp_path / "pair", plan=plan, settings=settings)
    assert reports[0].metrics["train_loss"] == pytest.approx(alone[0][0].metrics["train_loss"], rel=0.05)
    assert state.keys() == alone[1].keys()


@pytest.mark.parametrize("config", [CONFIG, replace(CONFIG, unfreezing="gradual")], ids=["all", "gradual"])
def test_torchs_own_data_parallel_trains_what_ours_does(pair: Pair, config: TrialConfig) -> None:
    ours, torchs = (pair(train_in_memory, config, uses_ddp=uses_ddp)[0] for uses_ddp in (False, True))
    for name, tensor in ours.items():
        torch.testing.assert_close(torchs[name], tensor, rtol=1e-3, atol=1e-5)


def train_in_memory(config: TrialConfig, *, uses_ddp: bool) -> dict[str, Tensor]:
    torch.manual_seed(0)
    model = build_model(config, 2)
    trainer = Trainer(model, config, max_epochs=2, device=torch.device("cpu"), process_group=process_group)
    assert not trainer.uses_ddp, "on CPUs ours does it"
    trainer.uses_ddp = uses_ddp
    for epoch in (1, 2):
        trainer.train_epoch(*draw_images(), epoch)
    return {name: tensor.clone() for name, tensor in trainer.average.model.state_dict().items()}


def test_parts_of_a_batch_are_nearly_equal_and_leave_nothing_out() -> None:
    for size in (1, 2, 3, 8):
        for num in range(size, 20):
            parts = [list(range(num))[ProcessGroup(rank=rank, size=size).shard(num)] for rank in range(size)]
            assert [row for part in parts for row in part] == list(range(num))
            assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_a_last_batch_with_fewer_images_than_ranks_is_left_out() -> None:
    def sizes(num: int, **options: int) -> list[int]:
        return [len(batch) for batch in draw_batches(num, 8, torch.Generator().manual_seed(0), **options)]

    assert sizes(19) == [8, 8, 3]
    assert sizes(19, least=4) == [8, 8]
    assert sizes(3, least=4) == [3]


def test_what_cannot_be_divided_is_said_before_training(data: TrainingData) -> None:
    with pytest.raises(ValueError, match=r"batches of 1 and 17 validation images.*among 2 GPUs"):
        next(train(replace(CONFIG, batch_size=1), SETTINGS, data, process_group=ProcessGroup(rank=0, size=2)))


def test_memory_that_does_not_hold_a_part_is_an_error_where_ranks_normalise_together() -> None:
    def compute(images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        raise torch.OutOfMemoryError("no room")

    with pytest.raises(MemoryError, match=r"on 8 images does not fit.*--trial-gpus"):
        sum_gradients(
            compute, torch.ones(8, 1), torch.arange(8), micro_batch=None, forget=lambda: None, may_split=False
        )


def test_the_groups_normalisation_is_torchs_own_when_alone(pair: Pair) -> None:
    """Each rank normalises its part of one batch; together they must do what torch does with all of it."""
    torch.manual_seed(0)
    images, weights = torch.randn(7, 3, 5, 5) * 3 + 1, torch.randn(7, 3, 5, 5)
    norm = nn.BatchNorm2d(3)
    expected = normalise(norm, images.requires_grad_(), weights)
    parts = pair(normalise_part, images.detach(), weights)
    for ours in zip(*parts, strict=True):
        name = ours[0][0]
        found = torch.cat([tensor for _, tensor in ours]) if name in ("output", "gradient") else ours[0][1]
        torch.testing.assert_close(found, dict(expected)[name], rtol=1e-4, atol=1e-5)


def normalise(norm: nn.Module, images: Tensor, weights: Tensor) -> list[tuple[str, Tensor]]:
    output = norm(images)
    (output * weights).sum().backward()
    assert images.grad is not None
    found = [("output", output.detach()), ("gradient", images.grad)]
    return found + [(name, tensor.clone()) for name, tensor in norm.state_dict().items()]


def normalise_part(images: Tensor, weights: Tensor) -> list[tuple[str, Tensor]]:
    model = nn.Sequential(nn.BatchNorm2d(3))
    process_group.synchronize(model)
    part = process_group.shard(len(images))
    return normalise(model[0], images[part].clone().requires_grad_(), weights[part])
