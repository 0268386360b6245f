"""A labelled set as one model takes it: every slice decoded, with its label and its patient; nothing is split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainable.images.cache import build_cache
from trainable.images.find_slices import find_slices
from trainable.images.groups import group_slices
from trainable.images.looked_at import check_neighbours, look_at
from trainable.images.mapped import open_pixels
from trainable.images.names import with_printable_errors
from trainable.images.pixel_format import GREY, PixelFormat
from trainable.images.reading import Reading
from trainable.images.slice_rule import SliceRule


@dataclass(frozen=True, kw_only=True)
class LabelledSet:
    """Pixels uint8 (N, S, S[, C]), labels int64 (N,) that index `classes`, groups int64 (N,), and how it was read.

    `group_name` says what a group is. `skipped` are files that cannot be used, `left_out` says of others why they hold
    no slice. `side_px` is the median length of an image's longer side, `mean_grey` the mean of all pixels, 0 to 255.
    """

    name: str
    classes: tuple[str, ...]
    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    groups: NDArray[np.int64]
    group_name: str
    reading: Reading
    skipped: tuple[str, ...]
    left_out: tuple[str, ...]
    side_px: float
    mean_grey: float

    def describe(self) -> str:
        """Its size, class shares and grey levels, in one line."""
        counts = Counter(self.labels.tolist())
        shares = ", ".join(f"{name} {counts[index] / len(self.labels):.0%}" for index, name in enumerate(self.classes))
        return (
            f"{len(self.labels)} slices of {len(np.unique(self.groups))} {self.group_name}, {shares}; images of "
            f"{self.side_px:.0f} px, mean grey {self.mean_grey:.0f}"
        )


@with_printable_errors
def read_labelled_set(
    data: Path,
    *,
    classes: Sequence[str],
    image_size: int,
    cache_dir: Path,
    form: PixelFormat = GREY,
    slice_rule: SliceRule | None = None,
    patient_from: str | None = None,
    skip_bad_images: bool = False,
    num_workers: int = 1,
) -> LabelledSet:
    """Read and decode the slices of `data`, of all its splits, for a model of these `classes` and `image_size`.

    Raises ValueError (BadImageError for an image, unless bad ones are skipped) or FileNotFoundError, naming the file,
    as `find_slices` does; also for a set of other classes.
    """
    found = find_slices(
        data,
        unpack_into=cache_dir / "unpacked",
        patient_from=patient_from,
        skip_bad_images=skip_bad_images,
        slice_rule=slice_rule or SliceRule(),
        num_workers=num_workers,
    )
    manifest = found.manifest
    if set(manifest.classes) - set(classes):
        raise ValueError(
            f"{data} has the classes {', '.join(manifest.classes)}, the model knows {', '.join(classes)}: they must be "
            "the same; rename the folders, or the labels of the table"
        )
    if form.neighbours:
        check_neighbours(manifest, found.volumes)
    paths = [item.path for item in manifest.slices]
    seen, bad, left_out = look_at(paths, form, num_workers, skip_bad_images)
    facts = {path: file.facts for path, file in seen.items()}
    slices = [item for item in manifest.slices if item.path in facts]
    if not slices:
        raise ValueError(f"{data} holds no slice that can be used")
    patients = None
    if found.patients.ids is not None:
        by_path = dict(zip(paths, found.patients.ids, strict=True))
        patients = [by_path[item.path] for item in slices]
    cache = build_cache(
        [item.path for item in slices],
        hashes=[facts[item.path].sha256 for item in slices],
        size=image_size,
        folder=cache_dir,
        num_workers=num_workers,
        form=form,
    )
    pixels = open_pixels(cache)
    return LabelledSet(
        name=manifest.name,
        classes=tuple(classes),
        pixels=pixels,
        labels=np.array([classes.index(manifest.classes[item.label]) for item in slices], dtype=np.int64),
        groups=group_slices(slices, patients, []),
        group_name="groups of neighbouring slices" if patients is None else "patients",
        reading=found.reading,
        skipped=(*manifest.skipped, *bad),
        left_out=tuple(left_out),
        side_px=float(np.median([max(facts[item.path].width, facts[item.path].height) for item in slices])),
        mean_grey=float(np.mean([part.mean() for part in np.array_split(pixels, max(1, len(pixels) // 256))])),
    )
