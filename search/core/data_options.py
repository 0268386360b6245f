"""Options of the data: what is searched on, and what an image becomes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from search.core.option_values import path, real, text, truth, whole
from search.core.options import OptionError, option, require
from trainable.images.pixel_format import PixelFormat
from trainable.images.slice_rule import SliceRule
from trainable.images.windows import parse_windows


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
        try:
            re.compile(self.patient_from or "")
        except re.error as error:
            what = f"is {self.patient_from!r}, which is no regular expression: {error}"
            raise OptionError("patient_from", what) from error
        size = self.image_size
        require("image_size", size, size is None or 32 <= size <= 1024, "between 32 and 1024 pixels")
        if self.neighbour_mm is not None and not self.neighbours:
            raise OptionError("neighbour_mm", f"is {self.neighbour_mm:g}; it needs --neighbours, of which there are 0")
        _ = self.form, self.slice_rule
