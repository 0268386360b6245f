"""A model of the user's own, tried at the door: built, trained one step and evaluated, at the search's image size."""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from trainable.architectures import build_model
from trainable.config import TrialConfig
from trainable.normalisation import pixel_shape, to_input
from trainable.time_limit import time_limit

BATCH = 4
STEP_S = 60.0
"""How long each thing that is tried may take: with more for four images no trial would come to its first epoch."""


def check_own_model(
    architecture: str, source: str, *, num_classes: int, image_size: int, num_channels: int = 1
) -> list[str]:
    """Build the model of "FILE.py:FUNCTION", train it one step and evaluate it; what a user should know of it.

    `source` is the file's text. Images are noise, uint8 (4, S, S[, C]), as a trial gives them. Draws from no generator
    that a search uses. The warnings: a softmax or sigmoid at the end, parameters that get no gradient, outputs that
    depend on the other images of a batch. Raises ValueError, one line with the user's file and line, for all that a
    trial would fail on.
    """
    file = architecture.rpartition(":")[0]
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the user's code
        torch.manual_seed(0)
        with _blaming(file, f"building it by {architecture.rpartition(':')[2]}({num_classes})"):
            config = TrialConfig(architecture=architecture)
            model = build_model(config, num_classes, num_channels=num_channels, source=source)
        _refuse_lazy_layers(model)
        images = to_input(torch.randint(0, 256, (BATCH, *pixel_shape(image_size, num_channels)), dtype=torch.uint8))
        labels = torch.arange(BATCH) % num_classes
        lines = _train_one_step(model, images, labels, num_classes, file)
        return lines + _evaluate(model, images, num_classes, file)


def _train_one_step(model: nn.Module, images: Tensor, labels: Tensor, num_classes: int, file: str) -> list[str]:
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not parameters:
        raise ValueError("the model has no parameter that could be trained; layers must be attributes of the module")
    model.train()
    with _blaming(file, "a step in training mode", images):
        logits = model(images)
    _check_logits(logits, num_classes, "training")
    with _blaming(file, "the gradients of a step"):
        F.cross_entropy(logits.float(), labels).backward()
    idle = [name for name, parameter in model.named_parameters() if parameter.requires_grad and parameter.grad is None]
    if len(idle) == len(parameters):
        raise ValueError(
            "no parameter of the model gets a gradient; its output must depend on them: no .detach(), .data, NumPy or "
            "torch.no_grad() on the way"
        )
    torch.optim.SGD(parameters, lr=1e-4).step()
    if not idle:
        return []
    return [
        f"{len(idle)} of {len(parameters)} parameters of the model get no gradient and stay as they are ({idle[0]})"
    ]


def _evaluate(model: nn.Module, images: Tensor, num_classes: int, file: str) -> list[str]:
    model.eval()
    lines = []
    with torch.inference_mode():
        with _blaming(file, "an evaluation", images):
            logits = model(images)
        _check_logits(logits, num_classes, "evaluation")
        with _blaming(file, "an evaluation of one image", images):
            alone = model(images[:1])
        _check_logits(alone, num_classes, "evaluation", num_images=1)
    with _blaming(file, "a look at its answers"):
        kind, is_steady = _name_end(logits), torch.allclose(alone[0], logits[0], rtol=1e-3, atol=1e-4)
    if kind:
        lines.append(
            f"the model seems to end in a {kind}; it must give logits, which the loss turns into probabilities itself: "
            f"take the {kind} out, or it will hardly learn"
        )
    if not is_steady:
        lines.append(
            "the model says another thing of an image alone than beside others, in evaluation mode: it must not draw "
            "at random there, nor use statistics of the batch"
        )
    return lines


def _refuse_lazy_layers(model: nn.Module) -> None:
    for name, module in model.named_modules():
        own = (*module.parameters(recurse=False), *module.buffers(recurse=False))
        if any(isinstance(tensor, UninitializedParameter | UninitializedBuffer) for tensor in own):
            raise ValueError(
                f"the model's layer {name or 'itself'} is a {type(module).__name__}, which has no weights before its "
                "first image; give its number of inputs, or call the model once on zeros of shape (1, 1, S, S) in the "
                "function that builds it"
            )


def _check_logits(logits: Any, num_classes: int, mode: str, num_images: int = BATCH) -> None:
    where = f"in {mode} mode the model answers {num_images} image{'s' * (num_images > 1)} with"
    if not isinstance(logits, Tensor):
        raise ValueError(
            f"{where} a {type(logits).__name__}; it must give one tensor of logits, shape (N, {num_classes}): return "
            "the main output alone (aux_logits=False, or output.logits)"
        )
    if tuple(logits.shape) != (num_images, num_classes):
        raise ValueError(
            f"{where} shape {tuple(logits.shape)}; it must give logits of shape (N, {num_classes}): end it in a layer "
            "with num_classes outputs"
        )
    if not logits.is_floating_point():
        raise ValueError(f"{where} {logits.dtype}; logits are floating-point numbers")
    if not logits.isfinite().all():
        raise ValueError(f"{where} NaN or infinities")


def _name_end(logits: Tensor) -> str:
    """What squeezes the outputs, if anything does: a softmax adds up to 1, a sigmoid stays between 0 and 1."""
    if not ((logits >= 0) & (logits <= 1)).all():
        return ""
    if torch.allclose(logits.sum(dim=1), torch.ones(len(logits)), atol=1e-4):
        return "softmax"
    return "sigmoid" if ((logits > 0) & (logits < 1)).all() and logits.shape[1] > 1 else ""


@contextmanager
def _blaming(file: str, what: str, images: Tensor | None = None) -> Iterator[None]:
    """Turn what the user's code raises, or that it never ends, into a ValueError of one line with the place in their
    file."""
    try:
        with time_limit(STEP_S):
            yield
    except (Exception, SystemExit) as error:
        cause = error.__cause__ if isinstance(error, ValueError) and error.__cause__ is not None else error
        frames = [frame for frame in traceback.extract_tb(cause.__traceback__) if frame.filename == file]
        if isinstance(cause, SyntaxError) and cause.filename == file:
            place, words = f"{file}, line {cause.lineno}", cause.msg
        else:
            place = f"{file}, line {frames[-1].lineno}" if frames else file
            lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
            words = f"{type(cause).__name__}: {lines[0]}" if lines else type(cause).__name__
        if isinstance(error, ValueError) and not frames and cause is error:  # our own words
            raise
        raise ValueError(f"{place}: {what} failed: {words[:300]}{_advise(str(cause), images)}") from error


def _advise(words: str, images: Tensor | None) -> str:
    if images is None:
        return ""
    shape = f"(N, 1, {images.shape[2]}, {images.shape[3]})"
    if "3 channels" in words and "1 channels" in words:
        return (
            f"; images are grey, {shape}: let the first convolution take 1 channel, or begin the forward by "
            "x = x.expand(-1, 3, -1, -1)"
        )
    if "Expected more than 1 value per channel" in words:
        return f"; the last feature map of images {shape} is too small for it: pool less, or raise --image-size"
    if "shapes cannot be multiplied" in words or "kernel size can't be greater" in words or "too small" in words:
        return f"; images have the shape {shape}: use nn.AdaptiveAvgPool2d before a linear layer, or set --image-size"
    return ""
