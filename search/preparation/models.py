"""Which models a search tries, and what travels with them: pretrained weights, and the text of a user's own model."""

from __future__ import annotations

import ast
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from search.core.checks import parse_python
from trainable.config import CPU_ARCHITECTURES, GPU_ARCHITECTURES, TrialConfig, is_own_model, is_timm
from trainable.files import open_regular_file, read_text_file
from trainable.suggest import did_you_mean

if TYPE_CHECKING:
    import numpy as np

KNOWN = CPU_ARCHITECTURES + GPU_ARCHITECTURES


@dataclass(frozen=True, kw_only=True)
class SearchedModels:
    """`weights` maps an architecture to the bytes of its weights file; `sources` an own model to its file's text.

    `skipped` are the models that the default space would try on a GPU, `joined` those that only a recipe brings in.
    `warnings` are for the user, of models of their own that train badly.
    """

    architectures: tuple[str, ...]
    skipped: tuple[str, ...]
    weights: Mapping[str, np.ndarray]
    sources: Mapping[str, str]
    joined: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def own(self) -> tuple[str, ...]:
        """Without those that joined."""
        return tuple(name for name in self.architectures if name not in self.joined)


def choose_models(
    asked: Sequence[str],
    weights: Mapping[str, str],
    *,
    has_gpu: bool,
    sources: Mapping[str, str] | None = None,
    of_recipes: Sequence[str] = (),
    forgone: Collection[str] = (),
    num_channels: int = 1,
) -> SearchedModels:
    """What the user asked for, else all that this machine can train, with the weights given for them; and `of_recipes`.

    Weights of a `forgone` model, of a recipe that the device cannot train, are passed over where nothing else takes
    them. `sources` holds own models as an earlier session read them; images have `num_channels`. Raises ValueError for
    an unknown name, an own model that is not there, timm's without timm, and weights that do not fit their model.
    """
    known = sources or {}
    sources = {name: known.get(name) or read_own_model(name) for name in asked if is_own_model(name)}
    for name in asked:
        if is_timm(name):
            check_timm(name)
        elif name not in KNOWN and name not in sources:
            raise ValueError(
                f"unknown architecture {name!r}{did_you_mean(name, KNOWN)}; it must be one of {', '.join(KNOWN)}, "
                "timm:NAME, or your own model as FILE.py:FUNCTION"
            )
    own = tuple(asked) or (KNOWN if has_gpu else CPU_ARCHITECTURES)
    architectures = tuple(dict.fromkeys([*own, *of_recipes]))
    skipped = () if asked or has_gpu else tuple(name for name in GPU_ARCHITECTURES if name not in of_recipes)
    weights = {name: file for name, file in weights.items() if name in architectures or name not in forgone}
    return SearchedModels(
        architectures=architectures,
        skipped=skipped,
        weights=read_weights(architectures, weights, sources, num_channels=num_channels),
        sources=sources,
        joined=tuple(name for name in architectures if name not in own),
    )


def check_timm(name: str) -> None:
    """Raise ValueError, with the nearest names, for one that timm lacks, or where timm is not installed."""
    from trainable.timm_models import check_timm_name

    check_timm_name(name)


def read_own_model(name: str) -> str:
    """The text of "FILE.py:FUNCTION"; it travels to the workers as text, so it may import libraries only."""
    file, _, function = name.rpartition(":")
    option = f"--arch {name}"
    try:
        path = Path(file).expanduser()
    except RuntimeError as error:  # "~ana" of a user whom this machine does not know
        raise ValueError(f"{option}: {error}") from error
    text = read_text_file(path, option)
    body = parse_python(text, Path(file), option).body
    defined = [node.name for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    if function not in defined:
        raise ValueError(
            f"--arch is {name!r}; {file} must define {function}(num_classes)"
            f"{did_you_mean(function, defined)}, it has: {', '.join(defined) or 'nothing'}"
        )
    return text


def check_own_models(
    sources: Mapping[str, str], *, num_classes: int, image_size: int, num_channels: int = 1
) -> list[str]:
    """Train each own model one step, evaluate it and export it, at the door; warnings that name it.

    Raises ValueError for a model that a trial would fail on, or that could not be registered once it has won.
    """
    if not sources:
        return []
    from trainable.architectures import build_model
    from trainable.model_check import check_own_model
    from trainable.served_model import check_exportable

    warnings = []
    for name, source in sources.items():
        try:
            lines = check_own_model(
                name, source, num_classes=num_classes, image_size=image_size, num_channels=num_channels
            )
            warnings += [f"--arch {name}: {line}" for line in lines]
            model = build_model(TrialConfig(architecture=name), num_classes, num_channels=num_channels, source=source)
            check_exportable(model, image_size=image_size, num_channels=num_channels)
        except ValueError as error:
            raise ValueError(f"--arch is {name!r}: {error}") from error
    return warnings


def read_weights(
    architectures: Sequence[str], weights: Mapping[str, str], sources: Mapping[str, str], *, num_channels: int = 1
) -> dict[str, np.ndarray]:
    """Load and check each weights file here, once: workers need neither the file nor the internet.

    `imagenet` stands for torchvision's own, and for those of timm's hub.
    """
    if not weights:
        return {}
    import numpy as np

    from trainable.architectures import check_weights
    from trainable.timm_models import download_timm_weights
    from trainable.weights import download_imagenet

    if "imagenet" in weights:
        have_none = {*weights, *sources, "small_cnn"}
        ready = [name for name in architectures if name not in have_none]
        loaded = {
            name: np.frombuffer(
                download_timm_weights(name) if is_timm(name) else download_imagenet(name), dtype=np.uint8
            )
            for name in ready
        }
    else:
        loaded = {}
    for name, file in weights.items():
        if name == "imagenet":
            continue
        if name not in architectures:
            hint = did_you_mean(name, architectures)
            raise ValueError(f"--weights names {name!r}{hint}; the search tries only: {', '.join(architectures)}")
        path = Path(file).expanduser()
        check_weights(name, path, num_channels=num_channels, source=sources.get(name))
        with open_regular_file(path, f"--weights {name}") as content:
            loaded[name] = np.frombuffer(content.read(), dtype=np.uint8)
    return loaded
