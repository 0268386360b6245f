"""Models that users bring: what a trial would fail on is one line at the door, with file and line."""

from __future__ import annotations

import pytest
import torch

from search.preparation.models import check_own_models
from trainable.model_check import check_own_model

HEAD = """import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, stride=4)
        self.head = nn.Linear(4, num_classes)

    def forward(self, x):
        {forward}

    def features(self, x):
        return self.stem(x).relu().mean((2, 3))


def build(num_classes):
    {build}
"""
GOOD = "return self.head(self.features(x))"
SIZE = 48


def write(forward: str = GOOD, build: str = "return Net(num_classes)") -> str:
    return HEAD.format(forward=forward, build=build)


def check(source: str) -> list[str]:
    return check_own_model("my_model.py:build", source, num_classes=3, image_size=SIZE)


def test_a_sound_model_is_taken_without_a_word_and_draws_nothing() -> None:
    state = torch.get_rng_state()
    assert check(write()) == []
    assert torch.equal(state, torch.get_rng_state())


FAULTS = {
    "my_model.py, line 12: a step in training mode failed: RuntimeError": "return self.head(self.stem(x))",
    "my_model.py, line 12: a step in training mode failed: AttributeError": "return self.hed(self.features(x))",
    "my_model.py, line 12: a step in training mode failed: ZeroDivisionError": "return 1 / 0",
    "in training mode the model answers 4 images with a tuple": (
        "y = self.head(self.features(x)); return (y, y) if self.training else y"
    ),
    "in evaluation mode the model answers 4 images with a dict": (
        "y = self.head(self.features(x)); return y if self.training else {'logits': y}"
    ),
    "in training mode the model answers 4 images with shape (4,)": "return self.head(self.features(x)).sum(1)",
    "in training mode the model answers 4 images with shape (3,)": "return self.head(self.features(x)).mean(0)",
    "in training mode the model answers 4 images with torch.int64": "return self.head(self.features(x)).long()",
    "in training mode the model answers 4 images with NaN": "return self.head(self.features(x)) * float('nan')",
    "no parameter of the model gets a gradient": (
        "return self.head(self.features(x)).detach() + x.mean().requires_grad_()"
    ),
    "an evaluation failed: RuntimeError: only for training": (
        "if not self.training: raise RuntimeError('only for training')\n        return self.head(self.features(x))"
    ),
    "an evaluation of one image failed": (
        "if not self.training and len(x) < 2: raise IndexError('one')\n        return self.head(self.features(x))"
    ),
}


@pytest.mark.parametrize("output", FAULTS)
def test_a_forward_that_a_trial_would_fail_on_is_reported(output: str) -> None:
    with pytest.raises(ValueError) as caught:
        check(write(FAULTS[output]))
    assert output in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (write("while True: pass"), "line 12: a step in training mode failed: TimeoutError: no end came within 0.2 s"),
        (write(build="while True: pass"), "line 19: building it by build(3) failed: TimeoutError"),
        ("while True: pass\n" + write(), "line 1: building it by build(3) failed: TimeoutError"),
    ],
)
def test_a_model_that_never_ends_is_one_line(source: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainable.model_check.STEP_S", 0.2)
    with pytest.raises(ValueError) as caught:
        check(source)
    assert f"my_model.py, {words}" in str(caught.value) and "\n" not in str(caught.value)


BUILDS = {
    "my_model.py, line 19: building it by build(3) failed: TypeError": "return Net()",
    "my_model.py, line 19: building it by build(3) failed: NameError": "return Nett(num_classes)",
    "gave a int; it must return a torch.nn.Module": "return 3",
    "layer 1 is a LazyLinear": "return nn.Sequential(nn.Flatten(), nn.LazyLinear(num_classes))",
    "has no parameter that could be trained": "return nn.Flatten()",
    "let the first convolution take 1 channel": (
        "return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, num_classes))"
    ),
    "AdaptiveAvgPool2d": "return nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(7, num_classes))",
    "SystemExit": "raise SystemExit(1)",
}


@pytest.mark.parametrize("output", BUILDS)
def test_a_builder_that_a_trial_would_fail_on_is_reported(output: str) -> None:
    with pytest.raises(ValueError) as caught:
        check(write(build=BUILDS[output]))
    assert output in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "output"),
    [
        ("def build(num_classes)\n    pass\n", "my_model.py, line 1"),
        ("import torch\nimport no_such_library\n", "my_model.py, line 2: .*ModuleNotFoundError"),
        ("def built(num_classes):\n    pass\n", "has no function build"),
    ],
)
def test_a_file_that_cannot_be_run_is_reported(source: str, output: str) -> None:
    with pytest.raises(ValueError, match=output) as caught:
        check(source)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("forward", "output"),
    [
        ("return self.head(self.features(x)).softmax(1)", "end in a softmax"),
        ("return self.head(self.features(x)).sigmoid()", "end in a sigmoid"),
        ("return self.head(self.features(x).mean(0, keepdim=True) + 0 * self.features(x))", "beside others"),
        ("return self.head(torch.zeros(len(x), 4))", "2 of 4 parameters of the model get no gradient"),
    ],
)
def test_what_trains_badly_is_a_warning(forward: str, output: str) -> None:
    assert any(output in line for line in check(write(forward)))


def test_a_log_softmax_at_the_end_is_harmless() -> None:
    assert check(write("return self.head(self.features(x)).log_softmax(1)")) == []


def test_a_lazy_layer_that_was_called_once_is_taken() -> None:
    build = (
        f"model = nn.Sequential(nn.Flatten(), nn.LazyLinear(num_classes)); model(torch.zeros(1, 1, {SIZE}, {SIZE})); "
        "return model"
    )
    assert check(write(build=build)) == []


def test_the_option_and_the_model_are_named() -> None:
    soft = write("return self.head(self.features(x)).softmax(1)")
    output = check_own_models({"my_model.py:build": soft}, num_classes=3, image_size=SIZE)
    assert output and output[0].startswith("--arch my_model.py:build: the model seems to end in a softmax")
    with pytest.raises(ValueError, match=r"--arch is 'my_model.py:build': my_model.py, line 12"):
        check_own_models({"my_model.py:build": write("return 1 / 0")}, num_classes=3, image_size=SIZE)
