"""Architectures of timm (PyTorch Image Models, Wightman 2019) by the name `timm:NAME`; timm is imported when asked."""

from __future__ import annotations

import io
from difflib import get_close_matches
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from trainable.config import TIMM_PREFIX, TrialConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

MIN_IMAGE_SIZE = 32
_POOLING = {"avg": "avg", "max": "max", "avg_max": "avgmax"}


def build_timm_model(config: TrialConfig, num_classes: int, num_channels: int) -> nn.Module:
    """The model that `config` names, with fresh weights: float (N, num_channels, S, S) to logits (N, num_classes).

    Nothing is fetched here (`download_timm_weights`). `dropout` is timm's `drop_rate`. Raises ValueError where timm is
    not installed, for an unknown name, and for hyperparameters that this model has no place for.
    """
    name = check_timm_name(config.architecture)
    if config.pooling not in _POOLING:
        raise ValueError(
            f"pooling is {config.pooling!r}, which small_cnn alone has; {config.architecture} takes avg, max or avg_max"
        )
    options: dict[str, Any] = {} if config.pooling == "avg" else {"global_pool": _POOLING[config.pooling]}
    if config.head_depth == 0:
        options["drop_rate"] = config.dropout
    try:
        model: nn.Module = _import_timm().create_model(
            name, pretrained=False, num_classes=num_classes, in_chans=num_channels, **options
        )
    except (TypeError, ValueError, RuntimeError, AssertionError, KeyError) as error:
        asked = ", ".join(f"{key}={value}" for key, value in options.items())
        raise ValueError(
            f"timm builds no {name} with in_chans={num_channels}{f', {asked}' if asked else ''} "
            f"({type(error).__name__}: {_first_line(error)}); leave these at their defaults or take another model"
        ) from error
    if config.head_depth > 0 and not isinstance(_classifier(model), nn.Linear):
        raise ValueError(f"head_depth is {config.head_depth}; {config.architecture} ends in no linear layer: give 0")
    return model


def check_timm_name(architecture: str) -> str:
    """The name within timm of `timm:NAME`. Raises ValueError, with the nearest names, for one that timm lacks."""
    timm = _import_timm()
    name = architecture.removeprefix(TIMM_PREFIX)
    if not timm.is_model(name):
        near = suggest_names(name.partition(".")[0], timm.list_models())
        hint = f"; near are {', '.join(TIMM_PREFIX + one for one in near)}" if near else ""
        raise ValueError(f"timm {timm.__version__} has no model {name!r}{hint}")
    return name


def download_timm_weights(architecture: str) -> bytes:
    """Let timm fetch the pretrained weights of `timm:NAME` (or `timm:NAME.TAG`) from its hub, into its own cache; give
    them as a saved state dict.

    Raises ValueError for a model that has none, ConnectionError, naming what to fetch, without internet.
    """
    timm, name = _import_timm(), check_timm_name(architecture)
    settings = timm.get_pretrained_cfg(name, allow_unregistered=True)
    if settings is None or not settings.has_weights:
        raise ValueError(f"timm has no pretrained weights of {name}; give a file: --weights {architecture}=FILE")
    try:
        model: nn.Module = timm.create_model(name, pretrained=True)
    except Exception as error:  # the hub's client has errors of several libraries
        place = settings.hf_hub_id or settings.url
        raise ConnectionError(
            f"could not fetch the weights of {name} ({type(error).__name__}: {_first_line(error)}). Where there is "
            f"internet, fetch those of {place}, save them with torch.save(model.state_dict(), FILE), bring the file "
            f"here and pass --weights {architecture}=FILE"
        ) from error
    buffer = io.BytesIO()
    torch.save(dict(model.state_dict()), buffer)
    return buffer.getvalue()


def suggest_names(name: str, known: Sequence[str]) -> list[str]:
    """At most five of `known` that are spelt nearly like `name` or hold it."""
    holding = [one for one in known if name and name.lower() in one]
    return list(dict.fromkeys([*get_close_matches(name.lower(), known, n=3, cutoff=0.7), *holding]))[:5]


def fixed_image_size(architecture: str) -> int | None:
    """The one side in pixels that a model takes, of those with a patch grid of fixed size; None for any side."""
    timm = _import_timm()
    settings = timm.get_pretrained_cfg(check_timm_name(architecture), allow_unregistered=True)
    return int(settings.input_size[-1]) if settings is not None and settings.fixed_input_size else None


def _classifier(model: nn.Module) -> object:
    find: Any = getattr(model, "get_classifier", None)
    return find() if callable(find) else None


def _import_timm() -> ModuleType:
    try:
        import timm
    except ImportError as error:
        raise ValueError(
            f"an architecture {TIMM_PREFIX}NAME needs timm, and {error.name or 'it'} is not installed here: "
            "pip install 'ctsearch[timm]'"
        ) from error
    return timm


def _first_line(error: Exception) -> str:
    return (str(error).strip() or "no reason given").splitlines()[0]
