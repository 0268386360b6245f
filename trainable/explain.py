"""Grad-CAM: which parts of a picture spoke for the class it was given, for any net with convolutions."""

from __future__ import annotations

from typing import Any

import matplotlib
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn
from torch.fx import GraphModule, Interpreter, Node
from torch.nn import functional as F

from trainable.normalisation import pixel_shape

MIN_CELLS = 4
OVERLAY_SIDE = 448
_GAP, _STRIP, _OPACITY = 12, 40, 0.75


class Explainer:
    """Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", 2017.

    `model` is what `torch.export` made of a served model (`ExportedProgram.module()`), uint8 (N, S, S[, C]) to
    probabilities. The feature map taken is the last one of the last convolution that leaves at least 4 x 4 cells.
    The score is the class's logit less the mean of the others', which is what the softmax decides by: logits alone may
    all be negative, and explain nothing. Raises ValueError for a net without such a feature map.
    """

    def __init__(self, model: GraphModule) -> None:
        self.model = model.requires_grad_(False)
        self.logits = _find_logits(model)
        self.feature_map = find_feature_map(model, num_classes=self.logits.meta["val"].shape[1])

    def explain(self, pixels: Tensor) -> np.ndarray:
        """uint8 (N, S, S[, C]) to heat float32 (N, S, S) in [0, 1], for each picture's most probable class.

        A picture's hottest place is 1; one in which nothing speaks for its class is 0 all over.
        """
        with torch.inference_mode(False), torch.enable_grad():
            run = _Run(self.model, keep=(self.feature_map, self.logits))
            run.run(pixels)
            features, logits = run.kept[self.feature_map], run.kept[self.logits]
            best = logits.max(dim=1).values
            others = (logits.sum(dim=1) - best) / (logits.shape[1] - 1)
            # one sum for all pictures: in evaluation mode they do not mix
            (gradient,) = torch.autograd.grad((best - others).sum(), features)
        weights = gradient.mean(dim=(2, 3), keepdim=True)
        heat = F.relu((weights * features.detach()).sum(dim=1, keepdim=True))
        heat = F.interpolate(heat, size=pixels.shape[1:3], mode="bilinear", align_corners=False)[:, 0]
        peak = heat.amax(dim=(1, 2), keepdim=True)
        return torch.where(peak > 0, heat / peak, 0).numpy()


def export(model: nn.Module, image_size: int, num_channels: int = 1) -> GraphModule:
    """The graph of a served model that was not loaded as one."""
    pixels = torch.zeros((2, *pixel_shape(image_size, num_channels)), dtype=torch.uint8)
    exported = torch.export.export(model, (pixels,), dynamic_shapes=({0: torch.export.Dim.AUTO},)).module()
    assert isinstance(exported, GraphModule)
    return exported


def find_feature_map(model: GraphModule, *, num_classes: int) -> Node:
    """The last tensor (N, C, h, w) with the h and w of the last convolution for which both are at least 4.

    A map of `num_classes` channels is passed over: it holds the logits of a net that is convolutional to its end.
    """
    maps = [
        (node, tuple(node.meta["val"].shape[2:]))
        for node in model.graph.nodes
        if node.op == "call_function"
        and isinstance(node.meta.get("val"), Tensor)
        and node.meta["val"].ndim == 4
        and node.meta["val"].shape[1] != num_classes
    ]
    convolved = [size for node, size in maps if "conv" in str(node.target) and min(size) >= MIN_CELLS]
    if not convolved:
        raise ValueError(
            f"this net has no convolution that leaves {MIN_CELLS} x {MIN_CELLS} cells or more: there is no feature map "
            "to explain its answers by; classify without --explain, or train on larger pictures"
        )
    return next(node for node, size in reversed(maps) if size == convolved[-1])


def _find_logits(model: GraphModule) -> Node:
    softmax = [node for node in model.graph.nodes if "softmax" in str(node.target)]
    logits = softmax[-1].args[0] if softmax else None
    if not isinstance(logits, Node):
        raise ValueError("this model does not end in a softmax: it is none that ctsearch registered")
    return logits


def draw_overlay(picture: Image.Image, heat: np.ndarray, caption: str) -> Image.Image:
    """An image, grey or RGB, beside itself under the heat (S, S); `caption` says what the heat speaks for."""
    scale = OVERLAY_SIDE / max(picture.size)
    width, height = (max(1, round(side * scale)) for side in picture.size)
    grey = picture.resize((width, height), Image.Resampling.LANCZOS).convert("RGB")
    spread = Image.fromarray(heat.astype(np.float32)).resize((width, height), Image.Resampling.BICUBIC)
    share = np.clip(np.asarray(spread), 0, 1)
    opacity = (_OPACITY * share)[..., None]  # what is cold stays grey, and readable
    blended = np.asarray(grey) * (1 - opacity) + _colour(share) * opacity

    sheet = Image.new("RGB", (2 * width + 3 * _GAP, height + _STRIP + _GAP), "white")
    sheet.paste(grey, (_GAP, _GAP))
    sheet.paste(Image.fromarray(blended.astype(np.uint8)), (width + 2 * _GAP, _GAP))
    pen, font, middle = ImageDraw.Draw(sheet), ImageFont.load_default(15), height + _GAP + _STRIP // 2
    pen.text((_GAP, middle), caption, fill="#2B2B2B", font=font, anchor="lm")
    shades = np.linspace(0, 1, 96)[None].repeat(10, axis=0)
    ramp = 128 * (1 - _OPACITY * shades[..., None]) + _colour(shades) * _OPACITY * shades[..., None]
    right = sheet.width - _GAP - 40
    sheet.paste(Image.fromarray(ramp.astype(np.uint8)), (right - 96, middle - 5))
    small = ImageFont.load_default(12)
    pen.text((right - 102, middle), "little", fill="#5B5B5B", font=small, anchor="rm")
    pen.text((right + 6, middle), "much", fill="#5B5B5B", font=small, anchor="lm")
    return sheet


def _colour(share: np.ndarray) -> np.ndarray:
    """Purple over orange to yellow, RGB in [0, 255]: the vivid part of a map whose lightness grows evenly."""
    return matplotlib.colormaps["inferno"](0.4 + 0.45 * share)[..., :3] * 255


class _Run(Interpreter):
    """Runs a graph and keeps what some nodes gave; gradients begin at the first of them."""

    def __init__(self, model: GraphModule, *, keep: tuple[Node, Node]) -> None:
        super().__init__(model)
        self.wanted = keep
        self.kept: dict[Node, Tensor] = {}

    def run_node(self, n: Node) -> Any:
        result = super().run_node(n)
        if n in self.wanted:
            if n is self.wanted[0]:
                result = result.detach().requires_grad_()
            self.kept[n] = result
        return result
