"""Grad-CAM: which parts of an image spoke for the class it was given, for any model with convolutions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn
from torch.fx import GraphModule, Interpreter, Node
from torch.nn import functional as F

from trainable.normalisation import pixel_shape

if TYPE_CHECKING:
    from collections.abc import Sequence

MIN_CELLS = 4
OVERLAY_SIDE = 448
_GAP, _STRIP, _OPACITY = 12, 40, 0.75


class Explainer:
    """Grad-CAM of a served model.

    Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", 2017. `model`
    is what `torch.export` made of it (`ExportedProgram.module()`), uint8 (N, S, S[, C]) to probabilities. The feature
    map taken is the last one of the last convolution that leaves at least 4 x 4 cells.
    The score is the class's logit less the mean of the others', which is what the softmax decides by: logits alone may
    all be negative, and explain nothing. Of an ensemble it is the mean of its members' heat, each from 0 to 1, for the
    class of their mean; where it looks at mirror images too, their heat is turned back. Raises ValueError for a model
    without such a feature map in any member.
    """

    def __init__(self, model: GraphModule) -> None:
        self.model = model.requires_grad_(False)
        self.members = _find_members(model)
        self.feature_map = self.members[0][0]

    def explain(self, pixels: Tensor) -> np.ndarray:
        """uint8 (N, S, S[, C]) to heat float32 (N, S, S) in [0, 1], for each image's most probable class.

        An image's hottest place is 1; one in which nothing speaks for its class is 0 all over.
        """
        with torch.inference_mode(False), torch.enable_grad():
            run = _Run(self.model, starts=[start for start, _ in self.members], ends=[end for _, end in self.members])
            run.run(pixels)
            kept = [(run.kept[start], run.kept[end]) for start, end in self.members]
            each = [logits.detach().softmax(dim=1) for _, logits in kept]
            best_class = _turn_back(torch.stack(each), len(pixels)).mean(dim=(0, 1)).argmax(dim=1, keepdim=True)
            if len(kept) == 1 and len(each[0]) == len(pixels):
                best_class = kept[0][1].argmax(dim=1, keepdim=True)
            best_class = best_class.repeat(len(each[0]) // len(pixels), 1)
            heats = [_weigh(features, logits, best_class, tuple(pixels.shape[1:3])) for features, logits in kept]
        return _to_peak(_turn_back(torch.stack(heats), len(pixels)).mean(dim=(0, 1))).numpy()


def _turn_back(found: Tensor, num_images: int) -> Tensor:
    """What members (M, N, ...) found of each of N images, or of these and then their mirror images (M, 2N, ...), to
    (M, 1, N, ...) or (M, 2, N, ...); heat (.., S, S) of a mirror image is turned back."""
    views = found.unflatten(1, (-1, num_images))
    if views.ndim == 5 and views.shape[1] == 2:
        views = torch.stack([views[:, 0], views[:, 1].flip(-1)], dim=1)
    return views


def export(model: nn.Module, image_size: int, num_channels: int = 1) -> GraphModule:
    """The graph of a served model that was not loaded as one."""
    pixels = torch.zeros((2, *pixel_shape(image_size, num_channels)), dtype=torch.uint8)
    exported = torch.export.export(model, (pixels,), dynamic_shapes=({0: torch.export.Dim.AUTO},)).module()
    assert isinstance(exported, GraphModule)
    return exported


def _weigh(features: Tensor, logits: Tensor, best_class: Tensor, size: tuple[int, ...]) -> Tensor:
    """One member's heat float (N, S, S) in [0, 1] for the class (N, 1) of each image."""
    best = logits.gather(1, best_class)[:, 0]
    others = (logits.sum(dim=1) - best) / (logits.shape[1] - 1)
    # one sum for all images: in evaluation mode they do not mix
    (gradient,) = torch.autograd.grad((best - others).sum(), features)
    weights = gradient.mean(dim=(2, 3), keepdim=True)
    heat = F.relu((weights * features.detach()).sum(dim=1, keepdim=True))
    return _to_peak(F.interpolate(heat, size=size, mode="bilinear", align_corners=False)[:, 0])


def _to_peak(heat: Tensor) -> Tensor:
    peak = heat.amax(dim=(1, 2), keepdim=True)
    return torch.where(peak > 0, heat / peak, 0).detach()


def find_feature_map(nodes: Sequence[Node], *, num_classes: int) -> Node:
    """The last tensor (N, C, h, w) with the h and w of the last convolution for which both are at least 4.

    A map of `num_classes` channels is passed over: it holds the logits of a model that is convolutional to its end.
    """
    maps = [
        (node, tuple(node.meta["val"].shape[2:]))
        for node in nodes
        if node.op == "call_function"
        and isinstance(node.meta.get("val"), Tensor)
        and node.meta["val"].ndim == 4
        and node.meta["val"].shape[1] != num_classes
    ]
    convolved = [size for node, size in maps if "conv" in str(node.target) and min(size) >= MIN_CELLS]
    if not convolved:
        raise ValueError(
            f"this model has no convolution that leaves {MIN_CELLS} x {MIN_CELLS} cells or more: there is no feature "
            "map to explain its answers by; classify without --explain, or train on larger images"
        )
    return next(node for node, size in reversed(maps) if size == convolved[-1])


def _find_members(model: GraphModule) -> list[tuple[Node, Node]]:
    """Feature map and logits of each member that has a feature map: the graph holds one member after another, each up
    to the softmax over its classes."""
    nodes = list(model.graph.nodes)
    ends = [i for i, node in enumerate(nodes) if "softmax" in str(node.target) and node.meta["val"].ndim == 2]
    if not ends:
        raise ValueError("this model does not end in a softmax: it is none that ctsearch registered")
    found, fault = [], None
    for begin, end in zip([0, *ends], ends, strict=False):
        logits = nodes[end].args[0]
        assert isinstance(logits, Node)
        try:
            found.append((find_feature_map(nodes[begin:end], num_classes=logits.meta["val"].shape[1]), logits))
        except ValueError as error:
            fault = error
    if not found and fault is not None:
        raise fault
    return found


def draw_overlay(image: Image.Image, heat: np.ndarray, caption: str) -> Image.Image:
    """An image, grey or RGB, beside itself under the heat (S, S); `caption` says what the heat speaks for."""
    scale = OVERLAY_SIDE / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    grey = image.resize((width, height), Image.Resampling.LANCZOS).convert("RGB")
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
    """Runs a graph and keeps what some nodes gave; gradients begin anew at `starts`."""

    def __init__(self, model: GraphModule, *, starts: Sequence[Node], ends: Sequence[Node]) -> None:
        super().__init__(model)
        self.starts, self.wanted = set(starts), {*starts, *ends}
        self.kept: dict[Node, Tensor] = {}

    def run_node(self, n: Node) -> Any:
        result = super().run_node(n)
        if n in self.wanted:
            if n in self.starts:
                result = result.detach().requires_grad_()
            self.kept[n] = result
        return result
