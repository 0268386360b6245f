from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from trainable.architectures import build_model
from trainable.classifier import Classifier
from trainable.config import TrialConfig
from trainable.explain import export
from trainable.images.decode import decode_slice
from trainable.served_model import ServedModel
from trainable.to_onnx import write_onnx

SIZE = 64


def build_classifier(architecture: str, *, exported: bool) -> Classifier:
    torch.manual_seed(0)
    model = build_model(TrialConfig(architecture=architecture), 2)
    model = ServedModel(model)
    return Classifier(
        label=f"a {architecture}",
        classes=("healthy", "ill"),
        image_size=SIZE,
        predict=export(model, SIZE) if exported else model,
    )


@pytest.mark.parametrize(("architecture", "exported"), [("squeezenet1_1", True), ("mobilenet_v3_small", False)])
def test_onnx_runtime_gives_what_torch_gives_on_real_slices(
    architecture: str, exported: bool, shared_data: Path, tmp_path: Path
) -> None:
    classifier = build_classifier(architecture, exported=exported)
    files = sorted((shared_data / "covid-ct").glob("CT_*/*"))[:: 746 // 11]
    pixels = np.stack([decode_slice(file, SIZE) for file in files])
    assert write_onnx(classifier, tmp_path / "model.onnx") <= 1e-4
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    (given,), (returned,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.type, given.shape[1:]) == ("pixels", "tensor(uint8)", [SIZE, SIZE])
    assert isinstance(given.shape[0], str), "the batch size is open"
    assert (returned.name, returned.type) == ("probabilities", "tensor(float)")
    with torch.inference_mode():
        expected = classifier.predict(torch.from_numpy(pixels)).numpy()
    for count in (1, len(pixels)):
        (found,) = session.run(None, {"pixels": pixels[:count]})
        np.testing.assert_allclose(found, expected[:count], rtol=0, atol=1e-4)
    facts = session.get_modelmeta().custom_metadata_map
    assert json.loads(facts["classes"]) == ["healthy", "ill"]
    assert facts["image_size"] == str(SIZE)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_a_model_that_would_answer_otherwise_is_not_written(tmp_path: Path) -> None:
    honest = build_classifier("small_cnn", exported=True)

    class Drifting(torch.nn.Module):
        """Says something else once it was exported."""

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            shares = honest.predict(pixels)
            return shares if torch.compiler.is_exporting() else shares.flip(1)

    classifier = Classifier(label="drifting", classes=honest.classes, image_size=SIZE, predict=Drifting())
    with pytest.raises(ValueError, match="differs from torch by"):
        write_onnx(classifier, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_without_the_libraries_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ValueError, match=r"onnxscript is not installed.*pip install 'ctsearch\[onnx\]'"):
        write_onnx(build_classifier("small_cnn", exported=False), tmp_path / "model.onnx")
