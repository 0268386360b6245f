"""Pretrained weights: from a file, from bytes, or downloaded once by torchvision; always as plain tensors."""

from __future__ import annotations

import io
import pickle
import re
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torchvision import models

from trainable.heads import Head

WeightSource: TypeAlias = Path | bytes | np.ndarray  # an array holds the file's bytes as uint8

# DenseNet files of torchvision are older than its module names: "norm.1.weight" is "norm1.weight" today.
_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|conv))\.(\d\.)")
_MAX_NAMED = 5


def sum_over_rgb(kernel: Tensor) -> Tensor:
    """The grey kernel (O, 1, k, k) float32 of an RGB kernel (O, 3, k, k).

    Summing is exact: a grey picture shown to an RGB net is the same plane three times, so
    r*x + g*x + b*x = (r + g + b)*x.
    """
    return kernel.float().sum(dim=1, keepdim=True)


def fit_kernel(kernel: Tensor, num_channels: int) -> Tensor:
    """A trained first kernel (O, 3 or 1, k, k) for images of `num_channels`; another shape comes back as it is.

    Three channels take an RGB kernel as it is. Any other number take its sum over RGB in equal parts: a grey image
    that stands in every channel is answered as the RGB model answers it, exactly, and no channel counts for more than
    another before training.
    """
    if kernel.ndim != 4 or kernel.shape[1] not in (1, 3) or kernel.shape[1] == num_channels:
        return kernel
    return sum_over_rgb(kernel).expand(-1, num_channels, -1, -1) / num_channels


def load_weights(model: nn.Module, source: WeightSource, architecture: str) -> int:
    """Copy a saved state dict into `model`; return how many tensors were taken.

    `source` is a file, its bytes, or a uint8 array of them, read with weights_only=True; a dict wrapped as
    {"state_dict": ...} and the prefix "module." are unwrapped, half precision is cast, a first convolution for
    RGB is fitted to the model's channels (`fit_kernel`). The classifier keeps its fresh weights where the file has
    none or one for another number of classes. Raises ValueError counting and naming what else does not fit.
    """
    given = _read_state_dict(source)
    wanted = model.state_dict()
    last_layer = _last_layer(model)
    for name, kernel in given.items():  # of some architectures several convolutions look at the image
        if name in wanted and kernel.ndim == wanted[name].ndim == 4 and kernel.shape[0] == wanted[name].shape[0]:
            given[name] = fit_kernel(kernel, wanted[name].shape[1])

    head = last_layer.split(".")[0] + "."
    without_head = not any(name.startswith(head) for name in given)
    fresh = {
        name
        for name in wanted
        if name.startswith(head if without_head else last_layer + ".")
        and (name not in given or given[name].shape != wanted[name].shape)
    }
    missing = [n for n in wanted if n not in given and n not in fresh and not n.endswith("num_batches_tracked")]
    unexpected = [name for name in given if name not in wanted and not name.startswith(f"{last_layer}.")]
    misshapen = [
        f"{name} {tuple(tensor.shape)} for {tuple(wanted[name].shape)}"
        for name, tensor in given.items()
        if name in wanted and name not in fresh and tensor.shape != wanted[name].shape
    ]
    problems = [
        f"{len(names)} {what} ({', '.join(names[:_MAX_NAMED])}{', ...' if len(names) > _MAX_NAMED else ''})"
        for what, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", misshapen))
        if names
    ]
    if problems:
        raise ValueError(
            f"the weights in {_describe(source)} do not fit {architecture}: of {len(wanted)} tensors "
            f"{'; '.join(problems)}. Give a state dict of this architecture under torchvision's or timm's names"
        )
    taken = {name: tensor for name, tensor in given.items() if name in wanted and name not in fresh}
    model.load_state_dict(taken, strict=False)  # copies into the model's own dtype
    return len(taken)


def download_imagenet(architecture: str) -> bytes:
    """Let torchvision download its ImageNet weights (into its own cache); give them as a saved state dict.

    Raises ValueError for a net that has none, ConnectionError, naming the file to fetch, without internet.
    """
    try:
        weights = models.get_model_weights(architecture).DEFAULT
    except ValueError:
        raise ValueError(
            f"torchvision has no ImageNet weights for {architecture}; give a file: --weights {architecture}=FILE"
        ) from None
    try:
        state_dict = weights.get_state_dict(progress=False, check_hash=True)
    except OSError as error:
        raise ConnectionError(
            f"could not download the ImageNet weights of {architecture} ({error}). Where there is internet, "
            f"fetch {Path(weights.url).name}, which torchvision knows as {weights}, bring the file here and "
            f"pass --weights {architecture}=FILE"
        ) from error
    buffer = io.BytesIO()
    torch.save(dict(state_dict), buffer)
    return buffer.getvalue()


def _read_state_dict(source: WeightSource) -> dict[str, Tensor]:
    try:
        content = source.read_bytes() if isinstance(source, Path) else bytes(source)
        is_safetensors = content[8:9] == b"{"  # after its header's length: https://github.com/huggingface/safetensors
        loaded = _load_safetensors(content) if is_safetensors else _load_pickle(content)
    except FileNotFoundError:
        raise
    except ImportError as error:
        raise ValueError(
            f"{_describe(source)} is in safetensors, which is not installed: pip install 'ctsearch[timm]'"
        ) from error
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, KeyError, ValueError) as error:
        raise ValueError(
            f"{_describe(source)} is damaged or holds more than plain tensors ({type(error).__name__}); "
            "give a state dict saved with torch.save(model.state_dict(), FILE)"
        ) from error
    if isinstance(loaded, dict) and isinstance(loaded.get("state_dict"), dict):
        loaded = loaded["state_dict"]
    if not isinstance(loaded, dict) or not loaded or not all(isinstance(t, Tensor) for t in loaded.values()):
        raise ValueError(f"{_describe(source)} must hold a dict of tensors, or one under the key 'state_dict'")
    return {_OLD_DENSENET.sub(r"\1\2", str(name).removeprefix("module.")): t for name, t in loaded.items()}


def _load_pickle(content: bytes) -> Any:
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def _load_safetensors(content: bytes) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return load(content)
    except SafetensorError as error:
        raise ValueError(str(error)) from error


def _last_layer(model: nn.Module) -> str:
    """The module that holds the last weights, or the head that we put in its place: the classifier proper."""
    if heads := [name for name, module in model.named_modules() if isinstance(module, Head)]:
        return heads[-1]
    names = [name for name, _ in model.named_parameters()]
    return names[-1].rpartition(".")[0] if names else ""


def _describe(source: WeightSource) -> str:
    return str(source) if isinstance(source, Path) else "the given bytes"
