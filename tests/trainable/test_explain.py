from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from trainable.architectures import ARCHITECTURES, build_model
from trainable.config import TrialConfig
from trainable.explain import MIN_CELLS, Explainer, draw_overlay, export
from trainable.normalisation import to_input
from trainable.served_model import ServedModel

SIZE = 64


def draw_pixels(count: int) -> Tensor:
    return torch.randint(0, 256, (count, SIZE, SIZE), dtype=torch.uint8)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_has_a_feature_map_to_explain_by(architecture: str) -> None:
    model = build_model(TrialConfig(architecture=architecture), 2)
    explainer = Explainer(export(ServedModel(model), SIZE))
    _, channels, *cells = explainer.feature_map.meta["val"].shape
    assert channels > 2
    assert min(cells) >= MIN_CELLS
    heat = explainer.explain(draw_pixels(2))
    assert heat.shape == (2, SIZE, SIZE)
    assert heat.dtype == np.float32
    assert ((heat >= 0) & (heat <= 1)).all()
    assert np.isin(heat.max(axis=(1, 2)), (0, 1)).all()


def test_heat_is_grad_cam_as_its_paper_defines_it() -> None:
    """Against hooks on the eager model: the last ReLU's output weighted by the mean gradient of the winning logit."""
    torch.manual_seed(0)
    model = build_model(TrialConfig(architecture="small_cnn"), 2).eval()
    pixels = draw_pixels(3)
    kept: list[Tensor] = []
    last = [module for module in model.modules() if isinstance(module, nn.ReLU)][-1]
    handle = last.register_forward_hook(lambda module, given, result: kept.append(result))
    logits = model(to_input(pixels))
    handle.remove()
    best = logits.argmax(dim=1)
    score = (logits.gather(1, best[:, None]) - logits.gather(1, 1 - best[:, None])).sum()
    (gradient,) = torch.autograd.grad(score, kept[0])
    expected = F.relu((gradient.mean(dim=(2, 3), keepdim=True) * kept[0]).sum(dim=1, keepdim=True))
    expected = F.interpolate(expected, size=(SIZE, SIZE), mode="bilinear", align_corners=False)[:, 0]
    expected = expected / expected.amax(dim=(1, 2), keepdim=True)
    found = Explainer(export(ServedModel(model), SIZE)).explain(pixels)
    np.testing.assert_allclose(found, expected.detach().numpy(), atol=1e-5)


class BrightSpot(nn.Module):
    """A user's own model: class 1 for whatever holds something bright."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(1, 3, 3, padding=1, bias=False)
        with torch.no_grad():
            self.convolution.weight.fill_(1 / 9)
        self.head = nn.Linear(3, 2)
        with torch.no_grad():
            self.head.weight.copy_(torch.tensor([[-1.0] * 3, [1.0] * 3]))
            self.head.bias.copy_(torch.tensor([0.1, 0.0]))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(F.relu(self.convolution(images)).mean(dim=(2, 3)))


def test_heat_lies_where_the_answer_comes_from() -> None:
    pixels = torch.zeros((2, SIZE, SIZE), dtype=torch.uint8)
    pixels[0, 10:22, 40:52] = 255
    model = export(ServedModel(BrightSpot()), SIZE)
    assert model(pixels).argmax(dim=1).tolist() == [1, 0]
    heat = Explainer(model).explain(pixels)
    assert heat[0, 12:20, 42:50].min() > 0.9
    assert heat[0, 30:, :30].max() == 0
    assert heat[1].max() == 0, "nothing speaks for the class of a black image"


def test_the_answers_stay_what_they_were() -> None:
    torch.manual_seed(0)
    model = export(ServedModel(build_model(TrialConfig(architecture="small_cnn"), 3)), SIZE)
    pixels = draw_pixels(4)
    before = model(pixels)
    with torch.inference_mode():
        Explainer(model).explain(pixels)
    torch.testing.assert_close(model(pixels), before, rtol=0, atol=0)


def test_a_model_without_a_feature_map_is_refused_with_the_reason() -> None:
    flat = nn.Sequential(nn.Flatten(), nn.Linear(SIZE * SIZE, 2))
    with pytest.raises(ValueError, match="no convolution that leaves 4 x 4 cells"):
        Explainer(export(ServedModel(flat), SIZE))
    with pytest.raises(ValueError, match="does not end in a softmax"):
        Explainer(export(nn.Flatten(), SIZE))


def test_an_overlay_shows_the_image_beside_itself_at_its_own_shape() -> None:
    heat = np.zeros((SIZE, SIZE), np.float32)
    heat[:8] = 1
    sheet = np.asarray(draw_overlay(Image.new("L", (300, 200), 128), heat, "covid 0.93"))
    height = round(448 * 200 / 300)
    left, right = sheet[12 : 12 + height, 12:460], sheet[12 : 12 + height, 472:920]
    assert (left == 128).all()
    assert (right[-20:] == 128).all(), "what is cold stays as it is"
    assert right[:10, :, 0].min() > 128
    assert np.ptp(right[:10].astype(int), axis=2).min() > 20, "what is hot is coloured"
