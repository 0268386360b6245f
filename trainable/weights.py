"""Pretrained weights: from a file, from bytes, or downloaded once by torchvision; always as plain tensors."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torchvision import models

from trainable.files import open_regular_file
from trainable.heads import Head
from trainable.tensor_file import load_tensors

WeightSource: TypeAlias = Path | bytes | np.ndarray  # an array holds the file's bytes as uint8

# DenseNet files of torchvision are older than its module names: "norm.1.weight" is "norm1.weight" today.
_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|conv))\.(\d\.)")
_MAX_NAMED = 5
_MOST_HEADER_BYTES = 100 * 10**6  # of a file in safetensors, by its own rules


def sum_over_rgb(kernel: Tensor) -> Tensor:
    """The grey kernel (O, 1, k, k) float32 of an RGB kernel (O, 3, k, k).

    Summing is exact: a grey image shown to an RGB model is the same plane three times, so
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
    {"state_dict": ...} and prefixes such as "module." are unwrapped, half precision is cast, a first convolution for
    RGB is fitted to the model's channels (`fit_kernel`). The classifier keeps its fresh weights where the file has
    none or one for another number of classes. Raises ValueError counting and naming what else does not fit, and for
    tensors that are sparse, quantised or complex, or hold NaN or infinities. No code of the file is run.
    """
    wanted = model.state_dict()
    given = _unwrap_names(_read_state_dict(source), wanted)
    _refuse_whole_numbers(given, wanted, source)
    last_layer = _last_layer(model)
    for name, kernel in given.items():  # of some architectures several convolutions look at the image
        if name in wanted and _differ_in_channels_only(kernel, wanted[name]):
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
        f"{len(names)} {what} ({_name(names)})"
        for what, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", misshapen))
        if names
    ]
    if problems:
        raise ValueError(
            f"the weights in {_describe(source)} do not fit {architecture}: of {len(wanted)} tensors "
            f"{'; '.join(problems)}. Give a state dict of this architecture under torchvision's or timm's names"
        )
    taken = {
        name: tensor.to(wanted[name].dtype) for name, tensor in given.items() if name in wanted and name not in fresh
    }
    _check_values(taken, source)
    model.load_state_dict(taken, strict=False)
    return len(taken)


def download_imagenet(architecture: str) -> bytes:
    """Let torchvision download its ImageNet weights (into its own cache); give them as a saved state dict.

    Raises ValueError for a model that has none, ConnectionError, naming the file to fetch, without internet.
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
        if isinstance(source, Path):
            with open_regular_file(source, "the weights file") as file:
                loaded = _load_tensors(file)
        else:
            loaded = _load_tensors(io.BytesIO(bytes(source)))
    except _NotTensorsError as error:
        reason = error.__cause__
        raise ValueError(
            f"{_describe(source)} is damaged or holds more than plain tensors ({type(reason).__name__}); "
            f"give a state dict saved with torch.save(model.state_dict(), FILE){_name_format(source)}"
        ) from reason
    for _ in range(2):  # a checkpoint of a training program holds the state dict beside other things
        for key in ("state_dict", "model_state_dict", "model"):
            if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
                loaded = loaded[key]
    if not isinstance(loaded, dict) or not loaded or not all(isinstance(t, Tensor) for t in loaded.values()):
        raise ValueError(
            f"{_describe(source)} holds {_describe_content(loaded)}; it must hold a dict of tensors, or one under the "
            "key 'state_dict'"
        )
    given = {_OLD_DENSENET.sub(r"\1\2", str(name).removeprefix("module.")): t for name, t in loaded.items()}
    for name, tensor in given.items():
        if kind := _find_odd_kind(tensor):
            raise ValueError(
                f"the weights in {_describe(source)} hold the {kind} tensor {name!r}; they must be dense numbers: "
                "save the state dict of the ordinary model"
            )
    return given


class _NotTensorsError(Exception):
    """torch.load refused; its cause says how."""


def _load_tensors(file: IO[bytes]) -> Any:
    is_safetensors = file.read(9)[8:] == b"{"  # after its header's length: https://github.com/huggingface/safetensors
    file.seek(0)
    try:
        return _load_safetensors(file) if is_safetensors else load_tensors(file)
    except Exception as error:  # torch.load raises nearly every type for a damaged file
        raise _NotTensorsError from error


def _load_safetensors(file: IO[bytes]) -> Any:
    try:
        from safetensors.torch import load
    except ImportError:
        raise ValueError("it is in safetensors, which is not installed: pip install 'ctsearch[timm]'") from None
    num_header = int.from_bytes(file.read(8), "little")
    header = json.loads(file.read(min(num_header, _MOST_HEADER_BYTES)))
    ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    if file.seek(0, 2) != 8 + num_header + max(ends, default=0):  # of any length, and all of it would be read
        raise ValueError("it is longer or shorter than its header says")
    file.seek(0)
    return load(file.read())


def _find_odd_kind(tensor: Tensor) -> str:
    if tensor.layout != torch.strided:
        return "sparse"
    if tensor.is_quantized:
        return "quantised"
    if tensor.is_nested:
        return "nested"
    if tensor.is_meta:
        return "empty"
    return "complex" if tensor.is_complex() else ""


def _unwrap_names(given: dict[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without what a wrapper put before every name (`model.`, `_orig_mod.`), as long as none of them fits."""
    while not given.keys() & wanted.keys():
        first = {name.partition(".")[0] for name in given}
        if len(first) != 1 or first & given.keys():
            break
        given = {name.partition(".")[2]: tensor for name, tensor in given.items()}
    return given


def _refuse_whole_numbers(given: Mapping[str, Tensor], wanted: Mapping[str, Tensor], source: WeightSource) -> None:
    """Raise ValueError for whole numbers in the place of weights, as of a model that was quantised by hand."""
    names = [n for n in given if n in wanted and wanted[n].is_floating_point() and not given[n].is_floating_point()]
    if names:
        raise ValueError(
            f"the weights in {_describe(source)} hold whole numbers in {len(names)} tensors ({_name(names)}); weights "
            "are floating-point numbers: save the state dict of the model as it was trained"
        )


def _check_values(tensors: Mapping[str, Tensor], source: WeightSource) -> None:
    """Raise ValueError for NaN and infinities; shapes are known to fit, so that no small file fills the memory."""
    bad = [name for name, tensor in tensors.items() if tensor.is_floating_point() and not tensor.isfinite().all()]
    if bad:
        raise ValueError(
            f"the weights in {_describe(source)} hold NaN or infinities in {len(bad)} tensors ({_name(bad)}); the "
            "training that made them diverged, or they overflowed as they were cast: give others"
        )


def _name(names: Sequence[str]) -> str:
    """The first few, in one line whatever the file calls its tensors."""
    shown = ["".join(char if char.isprintable() else "?" for char in name)[:200] for name in names[:_MAX_NAMED]]
    return f"{', '.join(shown)}{', ...' if len(names) > _MAX_NAMED else ''}"


def _name_format(source: WeightSource) -> str:
    """A word on formats of other programs, by the file's name."""
    suffix = source.suffix.lower() if isinstance(source, Path) else ""
    other = {".safetensors": "safetensors", ".h5": "Keras", ".keras": "Keras", ".onnx": "ONNX", ".ckpt": "Lightning"}
    return f" (this looks like a file of {other[suffix]})" if suffix in other else ""


def _describe_content(loaded: Any) -> str:
    if not isinstance(loaded, dict):
        return f"a {type(loaded).__name__}"
    if not loaded:
        return "nothing"
    odd = next(((name, value) for name, value in loaded.items() if not isinstance(value, Tensor)), None)
    return f"a {type(odd[1]).__name__} under {str(odd[0])[:40]!r}" if odd else "a dict"


def _differ_in_channels_only(given: Tensor, wanted: Tensor) -> bool:
    """Whether two kernels (O, C, k, k) have all but C in common; a file may give any shape."""
    return given.ndim == wanted.ndim == 4 and given.shape[:1] + given.shape[2:] == wanted.shape[:1] + wanted.shape[2:]


def _last_layer(model: nn.Module) -> str:
    """The module that holds the last weights, or the head that we put in its place: the classifier proper."""
    if heads := [name for name, module in model.named_modules() if isinstance(module, Head)]:
        return heads[-1]
    names = [name for name, _ in model.named_parameters()]
    return names[-1].rpartition(".")[0] if names else ""


def _describe(source: WeightSource) -> str:
    return str(source) if isinstance(source, Path) else "the given bytes"
