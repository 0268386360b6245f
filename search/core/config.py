"""SearchConfig: everything a user may ask of a search, checked once, at the door."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from search.core.folder import default_home, default_storage
from trainable.config import METRICS
from trainable.recipes import find_recipe

SAMPLERS = ("tpe", "random")
BAD_NODES = ("refuse", "leave-out")
DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd]?)")
SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)b?")
BYTES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_duration_s(text: str) -> float:
    """`90`, `90s`, `30m`, `2h` or `1d` in seconds. Raises ValueError for anything else."""
    found = DURATION.fullmatch(text.strip().lower())
    if not found or float(found[1]) <= 0:
        raise ValueError(f"a duration is {text!r}; it must be a positive number with s, m, h or d, such as 30m")
    return float(found[1]) * SECONDS[found[2]]


def check_tracking_uri(uri: str) -> str:
    """The URI, if it is a server's and holds no password: it is written into records, and shown. Raises ValueError."""
    if not uri.startswith(("http://", "https://")):
        raise ValueError(f"the tracking URI is {uri!r}; it must be the http:// or https:// of a server")
    if "@" in uri.partition("://")[2].partition("/")[0]:
        raise ValueError(
            "the tracking URI holds a login, and would be shown and recorded with it; give the address alone, and the "
            "login by MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        )
    return uri


def parse_bytes(text: str) -> int:
    """`500MB`, `20GB` or `1.5TB` in bytes. Raises ValueError for anything else."""
    found = SIZE.fullmatch(text.strip().lower())
    if not found or float(found[1]) <= 0:
        raise ValueError(f"a size is {text!r}; it must be a positive number with MB, GB or TB, such as 20GB")
    return int(float(found[1]) * BYTES[found[2]])


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """What a user asks for. Paths are absolute from here on: workers have another working directory.

    `data` of None is the made set. `ranges` narrows the default space by hyperparameter name. `recipes` are tried
    first, their nets beside `architectures`. A budget of None does not bind; `device_hours` counts GPU-hours, or
    core-hours where trials use no GPU.
    `trial_cpus` and `trial_gpus` of None fit the machine. `checkpoint_budget_bytes` bounds what all checkpoints of the
    search hold at a time; None is half of the free disk, or no bound in an object store.
    `storage` is a folder or a URI that all nodes share, for the search's checkpoints and a copy of its records; None is
    the search's own folder. `bad_nodes` says what becomes of nodes that fail the preflight.
    """

    name: str | None = None
    home: Path = field(default_factory=default_home)
    data: Path | None = None
    model_name: str | None = None
    positive: str | None = None
    patient_from: str | None = None
    skip_bad_images: bool = False
    image_size: int | None = None
    architectures: tuple[str, ...] = ()
    ranges: Mapping[str, str] = field(default_factory=dict)
    space: Path | None = None
    recipes: tuple[str, ...] = ()
    weights: Mapping[str, str] = field(default_factory=dict)
    sampler: str = "tpe"
    metric: str = "auc"
    num_trials: int | None = None
    time_budget_s: float | None = None
    device_hours: float | None = None
    max_epochs: int = 27
    first_rung: int = 1
    reduction_factor: int = 3
    patience: int = 0
    trial_cpus: float | None = None
    trial_gpus: float | None = None
    trial_timeout_s: float | None = None
    seed: int = 0
    deterministic: bool = False
    ray_address: str | None = None
    tracking_uri: str | None = None
    storage: str | None = field(default_factory=default_storage)
    bad_nodes: str = "refuse"
    checkpoint_interval_s: float = 30.0
    checkpoint_budget_bytes: int | None = None
    compile: bool = False
    timings: bool = False

    def __post_init__(self) -> None:
        for name in ("home", "data", "space"):
            if (path := getattr(self, name)) is not None:
                object.__setattr__(self, name, Path(path).expanduser().absolute())
        if self.storage is not None and "://" not in self.storage:
            object.__setattr__(self, "storage", str(Path(self.storage).expanduser().absolute()))
        self._check_choices()
        self._check_numbers()
        if self.data is not None and not self.data.exists():
            raise ValueError(f"--data is {self.data}; there is no such folder, archive or manifest")
        if self.space is not None and (self.architectures or self.ranges):
            raise ValueError(
                "--space replaces the default space; --arch, --lr and --range narrow it: give one or the other"
            )

    def _check_choices(self) -> None:
        if self.tracking_uri is not None:
            check_tracking_uri(self.tracking_uri)
        if self.metric not in METRICS:
            raise ValueError(f"--metric is {self.metric!r}; it must be one of {', '.join(METRICS)} (on validation)")
        for name in self.recipes:
            find_recipe(name)
        if self.sampler not in SAMPLERS:
            raise ValueError(f"--sampler is {self.sampler!r}; it must be one of {', '.join(SAMPLERS)}")

        if self.bad_nodes not in BAD_NODES:
            raise ValueError(f"--bad-nodes is {self.bad_nodes!r}; it must be one of {', '.join(BAD_NODES)}")

    def _check_numbers(self) -> None:
        positive = (
            "num_trials",
            "time_budget_s",
            "device_hours",
            "max_epochs",
            "trial_cpus",
            "trial_timeout_s",
            "checkpoint_budget_bytes",
        )
        for name in positive:
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"{name} is {value}; it must be above 0")
        if self.trial_gpus is not None and self.trial_gpus < 0:
            raise ValueError(f"--trial-gpus is {self.trial_gpus}; it must be 0 or more, fractions allowed")
        if self.trial_gpus is not None and self.trial_gpus > 1:
            if self.trial_gpus != int(self.trial_gpus):
                raise ValueError(f"--trial-gpus is {self.trial_gpus}; above 1 it must be a whole number of GPUs")
            if self.compile:
                raise ValueError(
                    f"--compile is for one GPU a trial; --trial-gpus is {self.trial_gpus:g}: drop one of them"
                )
        if self.patience < 0:
            raise ValueError(f"--patience is {self.patience}; it must be 0 (off) or a number of epochs")
        if self.image_size is not None and not 32 <= self.image_size <= 1024:
            raise ValueError(f"--image-size is {self.image_size}; it must lie between 32 and 1024 pixels")

    def to_record(self) -> dict[str, Any]:
        """Plain data for `search.json`."""
        return {
            key: str(value) if isinstance(value, Path) else value
            for key, value in asdict(self).items()
            if value is not None
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """The configuration of a search that began earlier."""
        known = {entry.name for entry in fields(cls)}
        kept: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in record.items()
        }
        kept.setdefault("storage", None)  # whatever CTSEARCH_STORAGE says by now
        for key in ("home", "data", "space"):
            if key in kept:
                kept[key] = Path(kept[key])
        return cls(**{key: value for key, value in kept.items() if key in known})
