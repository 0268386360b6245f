from __future__ import annotations

from pathlib import Path

import pytest

from search.preparation.models import KNOWN, check_own_models, choose_models
from trainable.architectures import ARCHITECTURES
from trainable.config import CPU_ARCHITECTURES, GPU_ARCHITECTURES


def test_the_driver_knows_every_model_without_torch() -> None:
    assert set(KNOWN) == set(ARCHITECTURES)
    assert set(CPU_ARCHITECTURES) == {name for name, model in ARCHITECTURES.items() if model.cpu_friendly}


def test_without_a_gpu_the_large_models_are_left_out_and_named() -> None:
    models = choose_models((), {}, has_gpu=False)
    assert models.architectures == CPU_ARCHITECTURES
    assert models.skipped == GPU_ARCHITECTURES
    assert choose_models((), {}, has_gpu=True).architectures == KNOWN


def test_who_asks_for_a_large_model_gets_it() -> None:
    models = choose_models(("vgg16",), {}, has_gpu=False)
    assert (models.architectures, models.skipped) == (("vgg16",), ())


def test_an_unknown_model_lists_the_known() -> None:
    with pytest.raises(ValueError, match=r"unknown architecture 'resnet19'.*resnet18"):
        choose_models(("resnet19",), {}, has_gpu=False)


def test_timms_models_are_known_by_timm_and_their_weights_come_from_its_hub_or_it_is_said_what_to_fetch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    timm = pytest.importorskip("timm")
    name = "timm:efficientnet_lite0"
    models = choose_models((name,), {}, has_gpu=False)
    assert (models.architectures, models.weights) == ((name,), {})

    def refuse(*_: object, **__: object) -> None:
        raise OSError("no route")

    monkeypatch.setattr(timm, "create_model", refuse)
    with pytest.raises(ConnectionError, match=r"no route.*timm/efficientnet_lite0.*--weights timm:efficientnet_lite0"):
        choose_models((name,), {"imagenet": ""}, has_gpu=False)
    with pytest.raises(ValueError, match="no pretrained weights of coatnet_0_224"):
        choose_models(("timm:coatnet_0_224",), {"imagenet": ""}, has_gpu=False)
    with pytest.raises(ValueError, match=r"has no model 'efficientnet_lite'; near are timm:"):
        choose_models(("timm:efficientnet_lite",), {}, has_gpu=False)


def test_a_model_of_ones_own_is_read_as_text(tmp_path: Path) -> None:
    file = tmp_path / "my_model.py"
    file.write_text("def build(num_classes):\n    ...\n")
    name = f"{file}:build"
    assert choose_models((name,), {}, has_gpu=False).sources == {name: file.read_text()}
    with pytest.raises(ValueError, match=r"must define made\(num_classes\), it has: build"):
        choose_models((f"{file}:made",), {}, has_gpu=False)
    with pytest.raises(ValueError, match="there is no file"):
        choose_models((f"{tmp_path}/other.py:build",), {}, has_gpu=False)


def test_a_model_of_an_earlier_session_is_taken_as_it_was(tmp_path: Path) -> None:
    name = f"{tmp_path}/gone.py:build"
    assert choose_models((name,), {}, has_gpu=False, sources={name: "kept"}).sources == {name: "kept"}


def test_weights_are_checked_before_anything_is_trained(shared_data: Path, tmp_path: Path) -> None:
    file = str(shared_data / "weights/squeezenet1_1-features.pth")
    models = choose_models(("squeezenet1_1",), {"squeezenet1_1": file}, has_gpu=False)
    assert models.weights["squeezenet1_1"].nbytes == Path(file).stat().st_size
    with pytest.raises(ValueError, match="tensor"):
        choose_models(("mobilenet_v2",), {"mobilenet_v2": file}, has_gpu=False)
    with pytest.raises(ValueError, match="there is no file"):
        choose_models(("mobilenet_v2",), {"mobilenet_v2": str(tmp_path / "lost.pth")}, has_gpu=False)
    with pytest.raises(ValueError, match="the search tries only: resnet18"):
        choose_models(("resnet18",), {"squeezenet1_1": file}, has_gpu=False)


BRANCHING_MODEL = """
import torch

class Branching(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(1))

    def forward(self, images):
        return self.scale * (images[:, 0, 0, :2] if images.sum() > 0 else images[:, 0, 1, :2])

def build(num_classes):
    return Branching()
"""


def test_a_model_of_ones_own_that_could_not_be_registered_is_refused_before_it_trains() -> None:
    with pytest.raises(ValueError, match=r"--arch is 'model.py:build': the model cannot be exported"):
        check_own_models({"model.py:build": BRANCHING_MODEL}, num_classes=2, image_size=32)
    with pytest.raises(ValueError, match=r"it must give logits of shape \(N, 3\)"):
        check_own_models({"model.py:build": BRANCHING_MODEL}, num_classes=3, image_size=32)
