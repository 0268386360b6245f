from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from trainable import step_plan
from trainable.config import StepPlan, TrialConfig
from trainable.step_plan import choose_plan, list_candidates, measure_step_plan, name_step, pick_device

CPU = torch.device("cpu")
CONFIG = TrialConfig(architecture="small_cnn", cnn_filters=4)
FAST = StepPlan(precision="bf16", memory_format="channels_last")


def measure(cache_file: Path | None = None, **changes: Any) -> StepPlan:
    arguments: dict[str, Any] = {"image_size": 32, "device": CPU, "num_threads": 1, "cache_file": cache_file}
    return measure_step_plan(CONFIG, **(arguments | changes))


def test_another_plan_must_win_by_the_margin() -> None:
    assert choose_plan({StepPlan(): 1.0, FAST: 0.96}) == StepPlan()
    assert choose_plan({StepPlan(): 1.0, FAST: 0.95}) == FAST
    assert choose_plan({StepPlan(): 1.0}) == StepPlan()


def test_the_stock_plan_is_always_a_candidate() -> None:
    assert list_candidates(CPU)[0] == StepPlan()


def test_measuring_chooses_a_candidate_and_leaves_torch_as_it_was() -> None:
    threads, state = torch.get_num_threads(), torch.random.get_rng_state()
    assert measure() in list_candidates(CPU)
    assert torch.get_num_threads() == threads
    assert torch.equal(state, torch.random.get_rng_state())


def test_a_choice_is_measured_once_and_then_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache_file = tmp_path / "node" / "plans.json"
    first = measure(cache_file)
    kept = json.loads(cache_file.read_text())
    _, key = name_step(CONFIG, image_size=32, device=CPU, num_threads=1)
    assert kept == {key: {"precision": first.precision, "memory_format": first.memory_format}}

    def fail(*_: Any) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr(step_plan, "_measure", fail)
    assert measure(cache_file) == first
    with pytest.raises(AssertionError):
        measure(cache_file, image_size=40)


def test_a_step_is_named_by_all_that_its_speed_hangs_on() -> None:
    def key(config: TrialConfig = CONFIG, size: int = 32, threads: int = 1) -> str:
        return name_step(config, image_size=size, device=CPU, num_threads=threads)[1]

    others = {
        key(replace(CONFIG, architecture="resnet18")),
        key(replace(CONFIG, cnn_depth=2)),
        key(size=64),
        key(threads=2),
    }
    assert len(others | {key()}) == 5
    assert key(replace(CONFIG, learning_rate=0.5, batch_size=4)) == key()
    assert torch.__version__ in key()


def test_a_plan_that_a_users_own_model_cannot_take_is_passed_over() -> None:
    source = """
import torch
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 8, 3), nn.Linear(8, 2)
    def forward(self, images):
        if torch.is_autocast_enabled("cpu"):
            raise RuntimeError("fp32 only")
        return self.head(self.conv(images).mean((2, 3)))
def build(num_classes):
    return Net()
"""
    config = TrialConfig(architecture="my_model.py:build")
    plan = measure_step_plan(config, image_size=32, device=CPU, num_threads=1, source=source)
    assert plan.precision == "fp32"


def test_images_too_small_for_the_model_are_refused() -> None:
    with pytest.raises(ValueError, match="8 px or more"):
        measure(image_size=4)


def test_without_a_gpu_the_device_is_the_cpu() -> None:
    assert pick_device().type == ("cuda" if torch.cuda.is_available() else "cpu")
