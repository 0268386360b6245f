from __future__ import annotations

import io
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch
from torch import nn
from torchvision import models

from trainable.architectures import build_model
from trainable.config import TrialConfig
from trainable.weights import download_imagenet, fit_kernel, load_weights, sum_over_rgb


def build(name: str = "small_cnn", num_classes: int = 2) -> nn.Module:
    return build_model(TrialConfig(architecture=name), num_classes)


def save(state: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def test_half_precision_rgb_weights_with_a_foreign_classifier_are_taken(shared_data: Path) -> None:
    path = shared_data / "weights" / "mobilenet_v2-fp16.pth"
    file, model = torch.load(path, weights_only=True), build("mobilenet_v2")
    fresh_head = model.state_dict()["classifier.1.weight"].clone()
    assert load_weights(model, path, "mobilenet_v2") == len(file) - 2
    loaded = model.state_dict()
    assert {tensor.dtype for tensor in loaded.values()} == {torch.float32, torch.int64}
    assert torch.equal(loaded["features.0.0.weight"], file["features.0.0.weight"].float().sum(1, keepdim=True))
    assert torch.equal(loaded["features.1.conv.1.weight"], file["features.1.conv.1.weight"].float())
    assert torch.equal(loaded["classifier.1.weight"], fresh_head)


def test_weights_without_a_classifier_are_taken(shared_data: Path) -> None:
    path = shared_data / "weights" / "squeezenet1_1-features.pth"
    assert load_weights(build("squeezenet1_1"), path, "squeezenet1_1") == 50


@pytest.mark.parametrize("given", ["file", "bytes", "array", "wrapped", "module."])
def test_every_form_of_a_state_dict_is_read(given: str, tmp_path: Path) -> None:
    donor, model = build(), build()
    state = donor.state_dict()
    if given == "wrapped":
        content = save({"state_dict": state, "epoch": 3})
    elif given == "module.":
        content = save({f"module.{name}": tensor for name, tensor in state.items()})
    else:
        content = save(state)
    source: Any = content
    if given == "file":
        source = tmp_path / "weights.pth"
        source.write_bytes(content)
    elif given == "array":
        source = np.frombuffer(content, dtype=np.uint8)
    assert load_weights(model, source, "small_cnn") == len(state)
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


def test_summing_over_rgb_is_exact_for_grey_images() -> None:
    kernel, grey = torch.randn(4, 3, 3, 3), torch.randn(2, 1, 8, 8)
    expected = nn.functional.conv2d(grey.expand(-1, 3, -1, -1), kernel)
    torch.testing.assert_close(nn.functional.conv2d(grey, sum_over_rgb(kernel)), expected)


def test_the_old_names_of_densenet_files_are_understood() -> None:
    with torch.device("meta"):
        theirs = models.densenet121(weights=None).state_dict()
    old = {name.replace("norm1", "norm.1").replace("conv2", "conv.2"): t for name, t in theirs.items()}
    assert old.keys() != theirs.keys()
    content = save({name: torch.zeros(tensor.shape, dtype=tensor.dtype) for name, tensor in old.items()})
    assert load_weights(build("densenet121"), content, "densenet121") == len(theirs) - 2


def test_what_does_not_fit_is_counted_and_named() -> None:
    state = build().state_dict()
    state["features.4.weight"] = torch.zeros(1)
    state["stem.weight"] = torch.zeros(1)
    del state["features.0.weight"]
    with pytest.raises(ValueError) as caught:
        load_weights(build(), save(state), "small_cnn")
    message = str(caught.value)
    assert "1 missing (features.0.weight)" in message
    assert "1 unexpected (stem.weight)" in message
    assert "1 of another shape (features.4.weight (1,) for (32, 16, 3, 3))" in message


@pytest.mark.parametrize("content", [b"", b"not a zip", save([1, 2]), save({}), save(nn.Linear(1, 1))])
def test_anything_but_plain_tensors_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"plain tensors|dict of tensors"):
        load_weights(build(), content, "small_cnn")


def test_without_internet_the_file_to_fetch_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise URLError("no route")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.urlopen", refuse)
    with pytest.raises(
        ConnectionError, match=r"resnet18-\w+\.pth.*ResNet18_Weights\.IMAGENET1K_V1.*--weights resnet18=FILE"
    ):
        download_imagenet("resnet18")


def test_a_downloaded_state_dict_is_handed_on_as_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    state = build("mobilenet_v2", 1000).state_dict()
    enum = models.MobileNet_V2_Weights
    monkeypatch.setattr(enum, "get_state_dict", lambda *_, **__: state)
    assert load_weights(build("mobilenet_v2"), download_imagenet("mobilenet_v2"), "mobilenet_v2") == len(state) - 2


def test_a_model_unknown_to_torchvision_has_no_imagenet_weights() -> None:
    with pytest.raises(ValueError, match="--weights small_cnn=FILE"):
        download_imagenet("small_cnn")


@pytest.mark.parametrize("num_channels", [1, 2, 5])
def test_channels_that_all_show_one_grey_image_are_answered_as_the_rgb_model_answers_it(num_channels: int) -> None:
    kernel = torch.randn(4, 3, 3, 3)
    grey = torch.rand(2, 1, 8, 8)
    expected = nn.functional.conv2d(grey.expand(-1, 3, -1, -1), kernel)
    found = nn.functional.conv2d(grey.expand(-1, num_channels, -1, -1), fit_kernel(kernel, num_channels))
    torch.testing.assert_close(found, expected)


def test_colour_takes_an_rgb_kernel_as_it_is_and_a_grey_one_in_equal_parts() -> None:
    kernel = torch.randn(4, 3, 3, 3)
    assert fit_kernel(kernel, 3) is kernel
    torch.testing.assert_close(fit_kernel(kernel[:, :1], 3), kernel[:, :1].expand(-1, 3, -1, -1) / 3)
    assert fit_kernel(torch.randn(4, 2, 3, 3), 5).shape == (4, 2, 3, 3), "no rule for others: load_weights refuses them"


@pytest.mark.parametrize("num_channels", [1, 3, 4])
def test_rgb_weights_load_into_a_model_of_any_channels(num_channels: int, tmp_path: Path) -> None:
    config = TrialConfig(architecture="squeezenet1_1")
    rgb = build_model(config, 2, num_channels=3)
    torch.save(rgb.state_dict(), tmp_path / "rgb.pth")
    model = build_model(config, 2, num_channels=num_channels, weights=tmp_path / "rgb.pth")
    first = "features.0.weight"
    torch.testing.assert_close(model.state_dict()[first], fit_kernel(rgb.state_dict()[first], num_channels))


def test_a_file_of_safetensors_is_read(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    model = build_model(TrialConfig(architecture="small_cnn"), 2)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    other = build_model(TrialConfig(architecture="small_cnn"), 2)
    load_weights(other, tmp_path / "model.safetensors", "small_cnn")
    for name, tensor in model.state_dict().items():
        assert torch.equal(other.state_dict()[name], tensor), name
    content = (tmp_path / "model.safetensors").read_bytes()
    with pytest.raises(ValueError, match="is damaged"):
        load_weights(other, content[: len(content) // 2], "small_cnn")
