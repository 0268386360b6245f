from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.trainable.scoring import score_validation
from tests.trainable.squares import make_squares
from tests.trainable.test_loop import CONFIG, draw_images, start_training, states_are_equal
from tests.trainable.test_train import CONFIG as SQUARES
from tests.trainable.test_train import SETTINGS, run
from trainable.architectures import ARCHITECTURES, build_model
from trainable.checkpoint import CheckpointStore
from trainable.checkpoint_writer import CheckpointWriter
from trainable.config import StepPlan, TrialConfig
from trainable.normalisation import to_input
from trainable.served_model import rebuild_model
from trainable.trainer import Trainer
from trainable.weight_average import WeightAverage, copy_model, find_decay


def floats(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items() if tensor.is_floating_point()}


def train_step_by_step(trainer: Trainer) -> list[dict[str, torch.Tensor]]:
    """The weights after each step of two epochs."""
    states: list[dict[str, torch.Tensor]] = []
    for epoch in (1, 2):
        steps_begun = 0

        def look() -> None:
            nonlocal steps_begun
            steps_begun += 1
            if steps_begun > 1:
                states.append(floats(trainer.model))

        trainer.train_epoch(*draw_images(), epoch, check_time=look)
        states.append(floats(trainer.model))
    return states


def test_the_decay_warms_up_and_ends_at_two_epochs_of_steps() -> None:
    decays = [find_decay(step, 50) for step in range(3000)]
    assert decays[0] == pytest.approx(0.1)
    assert decays == sorted(decays)
    assert decays[-1] == pytest.approx(0.99)
    assert find_decay(10**6, 1) == pytest.approx(0.5), "an epoch of one step is averaged with the one before"


@pytest.mark.parametrize("memory_format", ["contiguous", "channels_last"])
def test_weights_and_statistics_are_averaged_after_every_step(memory_format: str) -> None:
    trainer = start_training(plan=StepPlan(memory_format=memory_format))
    expected = floats(trainer.model)
    states = train_step_by_step(trainer)
    assert len(states) == 8
    for step, state in enumerate(states):
        decay = find_decay(step, 4)
        expected = {name: decay * tensor + (1 - decay) * state[name] for name, tensor in expected.items()}
    assert any("running_var" in name for name in expected)
    for name, tensor in floats(trainer.average.model).items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-4, atol=1e-6)
    counters = [m.num_batches_tracked for m in trainer.average.model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert [int(counter) for counter in counters if counter is not None] == [8] * 3


def test_frozen_layers_keep_weights_and_statistics_in_the_average_bit_for_bit() -> None:
    trainer = start_training(replace(CONFIG, unfreezing="last", unfrozen_layers=2))
    before = floats(trainer.model)
    train_step_by_step(trainer)
    changed = {name for name, tensor in floats(trainer.average.model).items() if not torch.equal(tensor, before[name])}
    assert {name.rsplit(".", 1)[0] for name in changed} == {"features.8", "features.9", "classifier.1"}


def test_layers_that_thaw_in_stages_are_averaged_from_then_on() -> None:
    stages = replace(CONFIG, unfreezing="staged", unfrozen_layers=100, unfreeze_at=0.1)  # after one of ten epochs
    trainer = start_training(stages)
    first = trainer.average.model.state_dict()["features.0.weight"].clone()
    trainer.train_epoch(*draw_images(), 1)
    assert torch.equal(trainer.average.model.state_dict()["features.0.weight"], first)
    trainer.train_epoch(*draw_images(), 2)
    assert not torch.equal(trainer.average.model.state_dict()["features.0.weight"], first)


def test_new_statistics_are_those_of_training_images_and_frozen_layers_keep_theirs() -> None:
    config = replace(CONFIG, unfreezing="last", unfrozen_layers=2)
    averaged, renewed = start_training(config), start_training(config, renews_statistics=True)
    for trainer in (averaged, renewed):
        trainer.train_epoch(*draw_images(), 1)
        assert not any(module.training for module in trainer.average.model.modules())
    states = floats(averaged.average.model), floats(renewed.average.model)
    changed = {name for name, tensor in states[0].items() if not torch.equal(tensor, states[1][name])}
    assert changed == {"features.9.running_mean", "features.9.running_var"}
    norms = [module for module in renewed.average.model.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [module.momentum for module in norms]
    inputs: list[torch.Tensor] = []
    norms[2].register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
    images = to_input(draw_images()[0])
    renewed.model.train()
    renewed.average.renew_statistics(renewed.model, images)
    assert norms[2].running_mean is not None
    torch.testing.assert_close(norms[2].running_mean, inputs[0].mean(dim=(0, 2, 3)))
    assert [module.momentum for module in norms] == momenta


def test_only_what_trains_from_scratch_gets_new_statistics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    renewed: list[str] = []
    monkeypatch.setattr(WeightAverage, "renew_statistics", lambda *_: renewed.append("once"))
    data = make_squares(tmp_path, count=48, size=32)
    settings = replace(SETTINGS, max_epochs=1, image_size=32)
    config = TrialConfig(architecture="mobilenet_v3_small", batch_size=16)
    run(data, config=config, settings=settings)
    assert renewed == ["once"]
    torch.save(build_model(config, 2).state_dict(), tmp_path / "weights.pth")
    run(data, config=config, settings=settings, weights=tmp_path / "weights.pth")
    run(data, config=SQUARES, settings=settings)
    assert renewed == ["once"]


def test_the_average_takes_no_gradient_and_trains_nothing() -> None:
    trainer = start_training()
    plain = start_training()
    plain.average = WeightAverage(nn.Sequential())
    plain.average.follow = lambda model: None  # type: ignore[method-assign]
    plain.average.update = lambda decay: None  # type: ignore[method-assign]
    plain.average.copy_counters = lambda: None  # type: ignore[method-assign]
    for each in (trainer, plain):
        each.train_epoch(*draw_images(), 1)
    assert states_are_equal(trainer.model, plain.model)
    assert not any(parameter.requires_grad for parameter in trainer.average.model.parameters())


@pytest.mark.parametrize("config", [SQUARES, TrialConfig(architecture="small_cnn", cnn_filters=4, cnn_norm=False)])
def test_best_holds_the_average_and_a_rebuilt_model_scores_what_was_reported(
    tmp_path: Path, config: TrialConfig
) -> None:
    data = make_squares(tmp_path, count=48, size=24)
    settings = replace(SETTINGS, max_epochs=4, metric="loss")
    store = CheckpointStore(tmp_path / "trial")
    with CheckpointWriter(store, 0.0) as writer:
        reports = run(data, config=config, settings=settings, checkpoints=writer)
    best = store.load("best")
    assert best is not None
    state, facts = best
    rebuilt = rebuild_model(config.to_params(), settings, state)
    assert score_validation(rebuilt, data, "loss") == reports[facts["epoch"] - 1].value
    newest = store.load("newest")
    assert newest is not None
    assert not torch.equal(newest[0]["model"]["classifier.1.weight"], newest[0]["average"]["classifier.1.weight"])


def test_the_weights_themselves_are_scored_now_and_then_and_in_the_last_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainable.train.RAW_EVERY", 4)
    reports = run(make_squares(tmp_path, count=48, size=24))
    raw = {report.epoch: {k for k in report.metrics if k.startswith("val_raw_")} for report in reports}
    assert [epoch for epoch, names in raw.items() if names] == [4, 6]
    assert raw[6] == {k.replace("val_", "val_raw_") for k in reports[0].metrics if k.startswith("val_")} - {
        "val_raw_se"
    }
    assert reports[-1].metrics["val_raw_loss"] != reports[-1].metrics["val_loss"]


def test_a_checkpoint_from_before_there_was_an_average_goes_on_from_its_weights(tmp_path: Path) -> None:
    data = make_squares(tmp_path, count=48, size=24)
    store = CheckpointStore(tmp_path / "trial")
    with CheckpointWriter(store, 0.0) as writer:
        run(data, 2, checkpoints=writer)
    loaded = store.load("newest")
    assert loaded is not None
    state, facts = loaded
    del state["average"], facts["smoothed_value"], facts["recent_values"]
    store.save("newest", state, facts)
    with CheckpointWriter(store, 0.0) as writer:
        reports = run(data, checkpoints=writer)
    assert [report.epoch for report in reports] == [2, 3, 4, 5, 6]
    assert reports[0].recent_values == (reports[0].value,)
    assert reports[1].smoothed_value == pytest.approx((reports[0].value + reports[1].value) / 2), "of epochs 2 and 3"


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_model_is_copied_as_deepcopy_does(architecture: str) -> None:
    model = build_model(replace(CONFIG, architecture=architecture), 2, num_channels=1).eval()
    copied = copy_model(model)
    state = copied.state_dict()
    assert list(state) == list(model.state_dict())
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert str(copied) == str(model)
    shared = {id(part) for part in (*model.modules(), *model.parameters(), *model.buffers())}
    assert not shared & {id(part) for part in (*copied.modules(), *copied.parameters(), *copied.buffers())}
    images = torch.rand(2, 1, 96, 96)
    with torch.no_grad():
        expected = model(images)
        assert torch.equal(copied(images), expected)
        for parameter in model.parameters():
            parameter.add_(1.0)
        assert torch.equal(copied(images), expected)


class Tied(nn.Module):
    """Refers to its layers twice, also where torch does not see it, and hooks one of them."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)
        self.second.weight = self.first.weight
        self.again = self.first
        self.unseen = [self.second]
        self.first.register_forward_hook(add_one)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.unseen[0](self.again(images))


def add_one(module: nn.Module, inputs: object, output: torch.Tensor) -> torch.Tensor:
    return output + 1


class Counted(nn.Linear):
    num_copies = 0

    def __deepcopy__(self, memo: object) -> Counted:
        Counted.num_copies += 1
        return Counted(self.in_features, self.out_features)


def test_a_copy_refers_to_its_own_parts_and_a_module_that_copies_itself_is_asked() -> None:
    model = Tied()
    copied = copy_model(model)
    assert isinstance(copied, Tied)
    assert copied.first is copied.again is not model.first
    assert copied.unseen[0] is copied.second
    assert copied.first.weight is copied.second.weight
    assert torch.equal(copied(torch.ones(1, 3)), model(torch.ones(1, 3)))
    copy_model(nn.Sequential(Counted(2, 2)))
    assert Counted.num_copies == 1
