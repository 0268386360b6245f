"""Options of the finish: what is made of the trials at the end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from search.core.option_values import paths, real, truth, whole
from search.core.options import OptionError, option, require, require_choice, require_positive

PROMOTE = ("if-better", "always", "never")


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
        "(default: what half of the budget holds; 0: never)",
        metavar="FOLDS",
        read=whole,
    )
    final_size: int | None = option(
        "--final-size",
        "the confirmation tries larger images too, and takes them where patients that it has not seen say so",
        metavar="PIXELS",
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
        read=paths,
        repeats=True,
    )

    @property
    def goals(self) -> dict[str, float]:
        """The goal of the operating point by its name; empty without one."""
        names = ("min_sensitivity", "min_specificity", "cost_ratio")
        return {name: value for name in names if (value := getattr(self, name)) is not None}

    def check_finish(self) -> None:
        require("ensemble", self.ensemble, 1 <= self.ensemble <= 5, "between 1 and 5")
        folds = self.confirm
        require("confirm", folds, folds is None or folds == 0 or 2 <= folds <= 10, "0 (never), or 2 to 10 folds")
        size = self.final_size
        require("final_size", size, size is None or 16 <= size <= 2048, "between 16 and 2048 pixels")
        if size is not None and folds == 0:
            raise OptionError("final_size", f"is {size}, and is judged by the confirmation: leave out --confirm 0")
        require_choice("promote", self.promote, PROMOTE)
        require_positive(self, "cost_ratio")
        for name in ("min_sensitivity", "min_specificity"):
            value = getattr(self, name)
            require(name, value, value is None or 0 < value < 1, "between 0 and 1")
        if len(self.goals) > 1:
            raise OptionError(next(iter(self.goals)), f"stands beside {', '.join(list(self.goals)[1:])}: give one goal")

    def check_final_size(self, image_size: int) -> None:
        """Raise OptionError for a final size that is not larger than the search's own, in pixels."""
        if self.final_size is not None and self.final_size <= image_size:
            raise OptionError(
                "final_size",
                f"is {self.final_size}, and images are read as {image_size} px: it must be larger, such as "
                f"{image_size * 3 // 2} (--image-size says what the search itself takes)",
            )
