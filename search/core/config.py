"""SearchConfig: everything a user may ask of a search, in groups, checked once, at the door."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self

from search.core.folder import default_home, default_storage
from search.core.options import (
    Option,
    OptionError,
    defaults,
    duration_s,
    list_options,
    names,
    option,
    pairs,
    path,
    read_keywords,
    real,
    show_value,
    size_bytes,
    text,
    truth,
    whole,
)
from trainable.images.pixel_format import PixelFormat
from trainable.images.slice_rule import SliceRule
from trainable.images.windows import parse_windows
from trainable.objectives import parse_objective
from trainable.recipes import RECIPES, find_recipe

SAMPLERS = ("tpe", "random")
SCHEDULERS = ("promotion", "freeze-thaw", "asha")
PROMOTE = ("if-better", "always", "never")
STOP_WHEN = ("budget", "converged")
BAD_NODES = ("refuse", "leave-out")


def read_recipes(value: Any) -> tuple[str, ...]:
    """`all`, or names of recipes."""
    given = names(value)
    return tuple(RECIPES) if given == ("all",) else given


def read_weights(value: Any) -> dict[str, str]:
    """`ARCH=FILE` pairs, their files absolute, or `imagenet` for torchvision's own."""
    if isinstance(value, Mapping):
        given = dict(value)
    else:
        entries = [value] if isinstance(value, str) else list(value)
        given = {"imagenet": ""} if "imagenet" in entries else {}
        given |= pairs([entry for entry in entries if entry != "imagenet"])
    return {name: str(path(file)) if file else "" for name, file in given.items()}


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


def _require(field: str, value: Any, holds: bool, what: str) -> None:
    if not holds:
        raise OptionError(field, f"is {value!r}; it must be {what}")


def _check_choice(field: str, value: str, known: tuple[str, ...]) -> None:
    _require(field, value, value in known, f"one of {', '.join(known)}")


def _check_positive(group: object, *fields: str) -> None:
    for name in fields:
        value = getattr(group, name)
        _require(name, value, value is None or value > 0, "above 0")


@dataclass(frozen=True, kw_only=True)
class SearchOptions:
    """Which search, and where it lies."""

    name: str | None = option("--name", "name of the search and of its folder (default: its date and time)", read=text)
    home: Path = option(
        "--home",
        "folder of all searches (default: $CTSEARCH_HOME, else ~/.ctsearch)",
        factory=default_home,
        read=path,
    )
    model_name: str | None = option(
        "--model-name", "name in the model registry (default: from the data's name)", read=text
    )


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """What is searched on. `data` of None is the synthetic set."""

    data: Path | None = option(
        "--data", "folder, zip, tar, CSV or Parquet manifest, DICOM (default: a synthetic set)", read=path
    )
    positive: str | None = option(
        "--positive", "which of two classes is the disease (default: guessed)", metavar="CLASS", read=text
    )
    patient_from: str | None = option(
        "--patient-from", "take the patient from each file's name", metavar="REGEX", read=text
    )
    skip_bad_images: bool = option("--skip-bad-images", "skip and count them", default=False, is_flag=True, read=truth)
    image_size: int | None = option(
        "--image-size",
        "default: 64 for the synthetic set, else 128 on CPU, 224",
        metavar="PIXELS",
        read=whole,
    )

    window: str = option(
        "--window",
        "of CT: lung, mediastinum, bone or CENTRE,WIDTH; several are channels (default: lung)",
        default="lung",
        metavar="WINDOW",
        read=text,
    )
    colour: bool = option("--colour", "keep red, green and blue", default=False, is_flag=True, read=truth)
    slices: str = option(
        "--slices",
        "which slices of a volume: all, middle, every:N or lung (default: all)",
        default="all",
        metavar="RULE",
        read=text,
    )
    neighbours: int = option(
        "--neighbours",
        "slices on each side that are channels beside a volume's slice (default: 0)",
        default=0,
        metavar="N",
        read=whole,
    )
    neighbour_mm: float | None = option(
        "--neighbour-mm", "how far apart those are (default: the next ones)", metavar="MM", read=real
    )

    @property
    def form(self) -> PixelFormat:
        """What an image becomes. Raises ValueError for what cannot be had together."""
        return PixelFormat(
            windows=parse_windows(self.window),
            colour=self.colour,
            neighbours=self.neighbours,
            neighbour_mm=self.neighbour_mm,
        )

    @property
    def slice_rule(self) -> SliceRule:
        """Which slices of a volume are taken. Raises ValueError."""
        return SliceRule.parse(self.slices)

    def check_data(self) -> None:
        if self.data is not None and not self.data.exists():
            raise OptionError("data", f"is {self.data}; there is no such folder, archive or manifest")
        size = self.image_size
        _require("image_size", size, size is None or 32 <= size <= 1024, "between 32 and 1024 pixels")
        if self.neighbour_mm is not None and not self.neighbours:
            raise OptionError("neighbour_mm", f"is {self.neighbour_mm:g}; it needs --neighbours, of which there are 0")
        _ = self.form, self.slice_rule


@dataclass(frozen=True, kw_only=True)
class SpaceOptions:
    """What may be drawn. `ranges` narrows the default space by hyperparameter name; `recipes` are tried first, their
    architectures beside `architectures`."""

    architectures: tuple[str, ...] = option(
        "--arch", "models to try; FILE.py:FUNCTION is one of your own", default=(), metavar="A,B", read=names
    )
    ranges: Mapping[str, str] = option(
        "--range",
        "narrow one hyperparameter (or A,B,C)",
        factory=dict,
        metavar="NAME=LOW:HIGH",
        read=pairs,
        repeats=True,
        shortcuts={"--lr": ("learning_rate", "LOW:HIGH", "short for --range learning_rate=LOW:HIGH")},
    )
    space: Path | None = option("--space", "your own `def space(trial)`", metavar="FILE.py", read=path)
    recipes: tuple[str, ...] = option(
        "--recipes",
        "begin with these (`ctsearch recipes`); their architectures join",
        default=(),
        metavar="all|A,B",
        read=read_recipes,
    )
    weights: Mapping[str, str] = option(
        "--weights",
        "pretrained weights, or `imagenet`",
        factory=dict,
        metavar="ARCH=FILE",
        read=read_weights,
        repeats=True,
    )
    sampler: str = option(
        "--sampler", "how configurations are proposed (default: tpe)", default="tpe", choices=SAMPLERS
    )

    warm_start: str = option(
        "--warm-start",
        "begin with the best of earlier searches: auto (same data, in this home), off or a search (default: off)",
        default="off",
        metavar="auto|NAME|off",
        read=text,
    )

    def check_space(self) -> None:
        for name in self.recipes:
            find_recipe(name)
        _check_choice("sampler", self.sampler, SAMPLERS)
        if self.space is not None and (self.architectures or self.ranges):
            raise OptionError(
                "space", "replaces the default space, which arch, lr and range narrow: give one or the other"
            )


@dataclass(frozen=True, kw_only=True)
class BudgetOptions:
    """What may be spent; whichever ends first ends the search. None does not bind. `device_hours` counts GPU-hours, or
    core-hours where trials use no GPU."""

    num_trials: int | None = option("--num-trials", "default: 20 where no other budget is given", read=whole)
    time_budget_s: float | None = option("--time-budget", "wall time", metavar="30m", read=duration_s)
    device_hours: float | None = option("--gpu-hours", "core-hours where trials use no GPU", metavar="HOURS", read=real)

    def check_budget(self) -> None:
        _check_positive(self, "num_trials", "time_budget_s", "device_hours")


@dataclass(frozen=True, kw_only=True)
class SchedulingOptions:
    """How long a trial may go on, and by what it is judged."""

    max_epochs: int | None = option(
        "--max-epochs", "of one trial (default: 27, fewer where the time is short)", read=whole
    )
    scheduler: str = option(
        "--scheduler",
        "who goes on: by promotion at rungs, by a model of the curves, or stopped at rungs (default: promotion)",
        default="promotion",
        choices=SCHEDULERS,
    )
    first_rung: int = option("--first-rung", "ASHA's first rung (default: 1)", default=1, metavar="EPOCHS", read=whole)
    reduction_factor: int = option(
        "--reduction-factor", "ASHA keeps 1/N at each rung (default: 3)", default=3, metavar="N", read=whole
    )
    metric: str = option(
        "--metric",
        "on validation; one with a floor is sensitivity@specificity=0.8 (default: auc)",
        default="auc",
        read=text,
    )
    patience: int = option(
        "--patience", "a trial ends without improvement (default: off)", default=0, metavar="EPOCHS", read=whole
    )
    stop_when: str = option(
        "--stop-when",
        "end when the budget is spent, or before it where no step promises a gain that validation can tell "
        "(default: budget)",
        default="budget",
        choices=STOP_WHEN,
    )
    trial_timeout_s: float | None = option(
        "--trial-timeout", "a trial that takes longer has failed", metavar="30m", read=duration_s
    )

    def check_scheduling(self) -> None:
        parse_objective(self.metric)
        _check_choice("scheduler", self.scheduler, SCHEDULERS)
        _check_choice("stop_when", self.stop_when, STOP_WHEN)
        _check_positive(self, "max_epochs", "first_rung", "trial_timeout_s")
        _require("reduction_factor", self.reduction_factor, self.reduction_factor >= 2, "2 or more")
        _require("patience", self.patience, self.patience >= 0, "0 (off) or a number of epochs")


@dataclass(frozen=True, kw_only=True)
class FinishOptions:
    """What is made of the trials at the end. At most one of `min_sensitivity`, `min_specificity` and `cost_ratio` says
    from which probability on a slice is called positive; without one it is what is most probable."""

    ensemble: int = option(
        "--ensemble",
        "the champion is the mean of so many trials (default: 5; 1: the best one alone)",
        default=5,
        metavar="N",
        read=whole,
    )
    confirm: int | None = option(
        "--confirm",
        "train the best again in so many folds, and choose by what they say of patients that they have not seen "
        "(default: where two fifths of the budget allow it; 0: never)",
        metavar="FOLDS",
        read=whole,
    )
    raw_probabilities: bool = option(
        "--raw-probabilities", "no calibration of the champion", default=False, is_flag=True, read=truth
    )
    min_sensitivity: float | None = option(
        "--min-sensitivity", "call positive so that it holds on new patients", metavar="SHARE", read=real
    )
    min_specificity: float | None = option("--min-specificity", "likewise", metavar="SHARE", read=real)
    cost_ratio: float | None = option(
        "--cost-ratio", "call positive so that it costs least: a miss in false alarms", metavar="N", read=real
    )
    promote: str = option(
        "--promote",
        "who becomes @champion (default: if-better, on the same patients)",
        default="if-better",
        choices=PROMOTE,
    )

    external: Mapping[str, str] = option(
        "--external",
        "a further labelled set on which the champion is scored once, beside the sealed test",
        factory=dict,
        metavar="NAME=DATA",
        read=pairs,
        repeats=True,
    )

    @property
    def goals(self) -> dict[str, float]:
        """The goal of the operating point by its name; empty without one."""
        names = ("min_sensitivity", "min_specificity", "cost_ratio")
        return {name: value for name in names if (value := getattr(self, name)) is not None}

    def check_finish(self) -> None:
        _require("ensemble", self.ensemble, 1 <= self.ensemble <= 5, "between 1 and 5")
        folds = self.confirm
        _require("confirm", folds, folds is None or folds == 0 or 2 <= folds <= 10, "0 (never), or 2 to 10 folds")
        _check_choice("promote", self.promote, PROMOTE)
        _check_positive(self, "cost_ratio")
        for name in ("min_sensitivity", "min_specificity"):
            value = getattr(self, name)
            _require(name, value, value is None or 0 < value < 1, "between 0 and 1")
        if len(self.goals) > 1:
            raise OptionError(next(iter(self.goals)), f"stands beside {', '.join(list(self.goals)[1:])}: give one goal")


@dataclass(frozen=True, kw_only=True)
class MachineOptions:
    """Where trials run. `trial_cpus` and `trial_gpus` of None fit the machine. `checkpoint_budget_bytes` bounds what
    all checkpoints of the search hold at a time; None is half of the free disk, or no bound in an object store.
    `storage` is a folder or a URI that all nodes share, for the search's checkpoints and a copy of its records; None is
    the search's own folder. `bad_nodes` says what becomes of nodes that fail the preflight.
    """

    trial_cpus: float | None = option("--trial-cpus", "cores of a trial", read=real)
    trial_gpus: float | None = option(
        "--trial-gpus", "fractions allowed; 2 or more: a trial on several GPUs", read=real
    )
    ray_address: str | None = option("--ray-address", "default: $RAY_ADDRESS, else Ray on this machine", read=text)
    tracking_uri: str | None = option(
        "--tracking-uri", "default: $MLFLOW_TRACKING_URI, else a server of our own", read=text
    )
    storage: str | None = option(
        "--storage",
        "what all nodes share (default: $CTSEARCH_STORAGE)",
        factory=default_storage,
        metavar="FOLDER|URI",
        read=text,
    )
    bad_nodes: str = option(
        "--bad-nodes",
        "that fail the preflight (default: refuse to begin)",
        default="refuse",
        choices=BAD_NODES,
    )
    seed: int = option("--seed", "decides splits, trials, weights and batches (default: 0)", default=0, read=whole)
    deterministic: bool = option(
        "--deterministic", "fp32 and deterministic kernels", default=False, is_flag=True, read=truth
    )
    compile: bool = option("--compile", "train through torch.compile", default=False, is_flag=True, read=truth)
    checkpoint_budget_bytes: int | None = option(
        "--checkpoint-budget",
        "most that all checkpoints hold (default: half of the free disk)",
        metavar="20GB",
        read=size_bytes,
    )
    timings: bool = option("--timings", "say where the start's time goes", default=False, is_flag=True, read=truth)
    checkpoint_interval_s: float = 30.0

    def check_machine(self) -> None:
        if self.tracking_uri is not None:
            check_tracking_uri(self.tracking_uri)
        _check_choice("bad_nodes", self.bad_nodes, BAD_NODES)
        _check_positive(self, "trial_cpus", "checkpoint_budget_bytes")
        _require("seed", self.seed, 0 <= self.seed < 2**32, "between 0 and 4294967295")
        gpus = self.trial_gpus
        if gpus is None:
            return
        _require("trial_gpus", gpus, gpus >= 0, "0 or more, fractions allowed")
        _require("trial_gpus", gpus, gpus <= 1 or gpus == int(gpus), "a whole number of GPUs above 1")
        if gpus > 1 and self.compile:
            raise OptionError("compile", f"is for one GPU a trial; trial_gpus is {gpus:g}: drop one of them")


GROUPS: Mapping[str, type] = {
    "search": SearchOptions,
    "data": DataOptions,
    "space": SpaceOptions,
    "budget": BudgetOptions,
    "scheduling": SchedulingOptions,
    "finish": FinishOptions,
    "machine": MachineOptions,
}
OPTIONS: Mapping[str, Option] = {name: entry for group in GROUPS.values() for name, entry in list_options(group)}
"""Every option by the name of its field."""


@dataclass(frozen=True, kw_only=True)
class SearchConfig(
    MachineOptions, FinishOptions, SchedulingOptions, BudgetOptions, SpaceOptions, DataOptions, SearchOptions
):
    """What a user asks for: the groups above together. Paths are absolute; raises OptionError for what cannot be."""

    def __post_init__(self) -> None:
        for name in ("home", "data", "space"):
            if (value := getattr(self, name)) is not None:
                object.__setattr__(self, name, Path(value).expanduser().absolute())
        if self.storage is not None and "://" not in self.storage:
            object.__setattr__(self, "storage", str(Path(self.storage).expanduser().absolute()))
        self.check_data()
        self.check_space()
        self.check_budget()
        self.check_scheduling()
        self.check_finish()
        self.check_machine()

    @classmethod
    def of(cls, **given: Any) -> Self:
        """From keywords named as on the command line or as the fields: `time_budget="2h"`, `arch="resnet18,vgg16"`.

        Raises TypeError for a keyword that is not known, OptionError for a value that cannot be.
        """
        return cls(**read_keywords(given, OPTIONS))

    @classmethod
    def from_groups(cls, content: Any, **over: Any) -> Self:
        """From the content of a `--config` file: a mapping of groups to their options, or of options alone.

        `over` are fields that win over it. Raises OptionError or TypeError naming what is wrong.
        """
        return cls(**{**read_groups(content), **over})

    def to_groups(self) -> dict[str, dict[str, Any]]:
        """What a `--config` file holds: every option that differs from its default, by group."""
        usual = dict(defaults(type(self)))
        return {
            title: {
                entry.keyword: show_value(value)
                for name, entry in list_options(group)
                if (value := getattr(self, name)) != usual[name]
            }
            for title, group in GROUPS.items()
        }

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


def read_groups(content: Any) -> dict[str, Any]:
    """The fields that a `--config` file gives. Raises OptionError or TypeError naming what is wrong."""
    if not isinstance(content, Mapping):
        raise TypeError(f"a configuration is {type(content).__name__}; it must be a mapping of options, or of groups")
    flat: dict[str, Any] = {}
    for key, value in content.items():
        if key in GROUPS and (isinstance(value, Mapping) or value is None):  # `data` and `space` are options as well
            flat |= value or {}
        else:
            flat[str(key)] = value
    return read_keywords(flat, OPTIONS)
