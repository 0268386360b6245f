"""What a trial is: the configuration that was drawn for it, and the settings its search fixed for all trials."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from trainable.images.pixel_format import GREY, PixelFormat
from trainable.images.windows import Window
from trainable.objectives import Objective, parse_objective
from trainable.report import Direction

CPU_ARCHITECTURES = ("small_cnn", "squeezenet1_1", "mobilenet_v3_small", "mobilenet_v2", "resnet18")
"""Those that train in minutes on two CPU cores. Named here, so that a driver knows them without torch."""
GPU_ARCHITECTURES = (
    "resnet34",
    "resnet50",
    "resnet152",
    "densenet121",
    "efficientnet_b0",
    "vgg16",
    "vgg16_bn",
    "convnext_tiny",
)
"""Those that want a GPU."""
OPTIMIZERS = ("adam", "adamw", "sgd", "rmsprop")
LR_SCHEDULES = ("constant", "cosine", "one_cycle")
METRICS = ("auc", "accuracy", "sensitivity", "specificity", "precision", "f1", "loss")
UNFREEZING = ("all", "frozen", "last", "staged", "gradual")
POOLING = ("avg", "max", "avg_max", "grid")
PRECISIONS = ("fp32", "bf16", "fp16")
MEMORY_FORMATS = ("contiguous", "channels_last")
MOST_EPOCHS = 100_000


TIMM_PREFIX = "timm:"


def is_timm(architecture: str) -> bool:
    """Whether a name means an architecture of timm's, such as "timm:efficientnet_lite0"."""
    return architecture.startswith(TIMM_PREFIX)


def is_own_model(architecture: str) -> bool:
    """Whether a name means a user's own model, such as "my_model.py:build"."""
    return ".py:" in architecture


def _check_choice(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{name} is {value!r}; it must be one of {', '.join(known)}")


def _check_range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name} is {value!r}; it must lie between {low:g} and {high:g}")


@dataclass(frozen=True, kw_only=True)
class TrialConfig:
    """One configuration: the hyperparameters drawn for one trial.

    `learning_rate` is the peak of the `lr_schedule`. `augmentation` is one strength in [0, 1] that scales every
    geometric transform of `augment.py`, `intensity` one that scales those of grey levels (window, gamma, noise, blur),
    `cutout` the largest side of a square cut out, as a share of the image's; `mixup` and `cutmix` are parameters of
    their Beta distributions; 0 switches each off. The `cnn_*` entries are read by the architecture `small_cnn` alone,
    `momentum` by sgd and rmsprop alone. Which layers train, and when, say `unfreezing`, `unfrozen_layers` and the
    fractions of max_epochs `unfreeze_at` and `unfreeze_more_at` (`fine_tuning.count_trained`); `layer_lr_decay` is
    the stem's learning rate as a share of the head's. `pooling` is that of the last feature map (`grid`, of 4 x 4
    cells, for small_cnn alone); `head_depth` hidden layers of `head_width` lie before the last layer.
    """

    architecture: str
    optimizer: str = "adamw"
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    momentum: float = 0.9
    lr_schedule: str = "one_cycle"
    batch_size: int = 32
    augmentation: float = 0.3
    intensity: float = 0.0
    cutout: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    dropout: float = 0.0
    label_smoothing: float = 0.0
    class_weighting: bool = False
    cnn_depth: int = 3
    cnn_filters: int = 16
    cnn_kernel: int = 3
    cnn_pool: int = 2
    cnn_norm: bool = True
    unfreezing: str = "all"
    unfrozen_layers: int = 12
    unfreeze_at: float = 0.25
    unfreeze_more_at: float = 0.75
    layer_lr_decay: float = 1.0
    pooling: str = "avg"
    head_depth: int = 0
    head_width: int = 256

    def __post_init__(self) -> None:
        _check_choice("optimizer", self.optimizer, OPTIMIZERS)
        _check_choice("lr_schedule", self.lr_schedule, LR_SCHEDULES)
        _check_range("learning_rate", self.learning_rate, 1e-9, 100)
        _check_range("weight_decay", self.weight_decay, 0, 10)
        _check_range("momentum", self.momentum, 0, 1)
        _check_range("batch_size", self.batch_size, 1, 65536)
        _check_range("augmentation", self.augmentation, 0, 1)
        _check_range("intensity", self.intensity, 0, 1)
        _check_range("cutout", self.cutout, 0, 1)
        _check_range("mixup", self.mixup, 0, 8)
        _check_range("cutmix", self.cutmix, 0, 8)
        _check_range("dropout", self.dropout, 0, 0.99)
        _check_range("label_smoothing", self.label_smoothing, 0, 0.99)
        _check_range("cnn_depth", self.cnn_depth, 1, 8)
        _check_range("cnn_filters", self.cnn_filters, 1, 1024)
        _check_range("cnn_kernel", self.cnn_kernel, 1, 15)
        _check_range("cnn_pool", self.cnn_pool, 2, 4)
        _check_choice("unfreezing", self.unfreezing, UNFREEZING)
        _check_range("unfrozen_layers", self.unfrozen_layers, 0, 10_000)
        _check_range("unfreeze_at", self.unfreeze_at, 0, 1)
        _check_range("unfreeze_more_at", self.unfreeze_more_at, 0.001, 1)
        _check_range("layer_lr_decay", self.layer_lr_decay, 1e-4, 1)
        _check_choice("pooling", self.pooling, POOLING)
        _check_range("head_depth", self.head_depth, 0, 4)
        _check_range("head_width", self.head_width, 1, 8192)

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> Self:
        """Check a sampled dict. Raises ValueError for an unknown hyperparameter or a value out of range."""
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(params) - known):
            raise ValueError(
                f"unknown hyperparameter {', '.join(unknown)}; a space may draw: {', '.join(sorted(known))}"
            )
        return cls(**params)

    def to_params(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class TrialSettings:
    """What one search fixes for all its trials.

    `metric` is a validation metric (see METRICS); `patience` counts epochs without improvement, 0 switches it
    off. `num_threads` is what torch may use on a CPU. `deterministic` takes fp32, the stock layout and
    deterministic kernels; `compile` trains through torch.compile. `checkpoint_interval_s` is the longest time between
    two `newest` checkpoints, `checkpoint_bytes` the most that one trial may keep: above it, no `newest`.
    `num_ranks` processes train a trial together, each on a GPU of its own or on `num_threads` of the CPU. `form`
    says what an image is, and so how many channels a model takes. With `keeps_last` a trial's `best` is its last
    epoch, whatever its value: the slices that it is validated on have then chosen nothing. `slices` says which slices
    of a volume are looked at, `in_hounsfield` that all images are Hounsfield units through the windows. `costs` are
    those of the model that are measured (trainable/model_cost.py).
    """

    classes: tuple[str, ...]
    positive: int
    image_size: int
    max_epochs: int
    seed: int = 0
    patience: int = 0
    metric: str = "auc"
    num_threads: int = 1
    deterministic: bool = False
    timeout_s: float | None = None
    compile: bool = False
    checkpoint_interval_s: float = 30.0
    checkpoint_bytes: float = math.inf
    num_ranks: int = 1
    form: PixelFormat = GREY
    keeps_last: bool = False
    slices: str = "all"
    in_hounsfield: bool = False
    costs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.classes) < 2:
            raise ValueError(f"classes are {self.classes}; a classifier needs two or more")
        _check_range("positive", self.positive, 0, len(self.classes) - 1)
        _check_range("image_size", self.image_size, 16, 2048)
        _check_range("max_epochs", self.max_epochs, 1, MOST_EPOCHS)
        _check_range("patience", self.patience, 0, MOST_EPOCHS)
        parse_objective(self.metric)
        _check_range("num_ranks", self.num_ranks, 1, 64)

    @property
    def objective(self) -> Objective:
        """What trials are compared by: `metric`, which may have a floor."""
        return parse_objective(self.metric)

    @property
    def direction(self) -> Direction:
        return Direction.of(self.metric)

    @property
    def higher_is_better(self) -> bool:
        return self.direction is Direction.MAXIMIZE

    @property
    def num_channels(self) -> int:
        return self.form.num_channels

    @property
    def channel_windows(self) -> tuple[Window, ...]:
        """The window of each channel where images are Hounsfield units, else ()."""
        return self.form.windows * (1 + 2 * self.form.neighbours) if self.in_hounsfield else ()


@dataclass(frozen=True, kw_only=True)
class StepPlan:
    """Precision and memory layout of a training step: measured once per architecture, size and device."""

    precision: str = "fp32"
    memory_format: str = "contiguous"

    def __post_init__(self) -> None:
        _check_choice("precision", self.precision, PRECISIONS)
        _check_choice("memory_format", self.memory_format, MEMORY_FORMATS)
