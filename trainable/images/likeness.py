"""Whether an image is of the kind that a model was trained on, a chest CT say, judged by its likeness to those.

Three questions, each with its limits: is it as coloured, is its fine detail theirs, is any of them laid out like it?
"""

from __future__ import annotations

import json
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trainable.images.decode import BadImageError, decode_with_colour
from trainable.images.medmnist import is_npz
from trainable.images.members import split_member

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trainable.images.prepare import TrainingData

NOT_CHEST_CT = "not a chest CT?"
UNLIKE_TRAINING = "unlike the training images"
LIKENESS_FILE = "likeness.json"

QUANTILE = 0.995  # of the training's own slices that lie within each limit
LEAST_COLOUR_LIMIT = 0.05  # of the area: an arrow or a coloured note makes no photo
MAX_SLICES, MAX_COLOUR_FILES = 4000, 500
NUM_FOLDS = 5

COLOURED = 25.5  # of 255, between the strongest and the weakest of red, green and blue
_SIDE, _CELLS = 64, 16
_NUM_PROTOTYPES = 64
_BANDS = (1, 2, 4, 8, 12, 16, 24, 32, 48, 91)  # radii in the cosine spectrum of 64 x 64 pixels

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Likeness:
    """What is kept of the training's slices to judge an image by: averages, none of which is a slice.

    `prototypes` (P, 256) are mean layouts of many slices each, of unit length; `detail_mean` (9,) and
    `detail_precision` (9, 9) describe their log spectrum; `limits` the most that a slice has of `colour`, `detail` and
    `layout`. Where the training's images are `in_colour` there is a least of it too, `least_colour`. `is_ct` says that
    they may be called chest CT.
    """

    prototypes: Floats
    detail_mean: Floats
    detail_precision: Floats
    limits: Mapping[str, float]
    in_colour: bool = False
    is_ct: bool = True

    @property
    def verdict(self) -> str:
        """What an image is called that is doubted."""
        return NOT_CHEST_CT if self.is_ct else UNLIKE_TRAINING

    def measure(self, pixels: NDArray[np.uint8]) -> dict[str, Floats]:
        """How far images uint8 (N, S, S[, C]) are from the training's: `layout` 1 less the best correlation with
        a prototype, in [0, 2]; `detail` the squared Mahalanobis distance of the log spectrum, by its dimension."""
        small = _shrink(pixels)
        off = _spectrum(small) - self.detail_mean
        return {
            "detail": np.einsum("ni,ij,nj->n", off, self.detail_precision, off) / off.shape[1],
            "layout": 1 - (_layout(small) @ self.prototypes.T).max(axis=1, initial=-1),
        }

    def doubt(self, pixels: NDArray[np.uint8], colours: Sequence[float]) -> list[str]:
        """Why each image may be of another kind (`verdict`), in words; "" for one that may well be of this.

        `pixels` uint8 (N, S, S[, C]) as the model takes them, `colours` as `decode_with_colour` gives them; where the
        model takes colours they are seen in `pixels`.
        """
        found, limits = self.measure(pixels), self.limits
        kind, one = ("slice", "a slice") if self.is_ct else ("image", "a training image")
        least_colour = limits.get("least_colour", 0.0)
        if self.in_colour:
            colours = measure_colours(pixels).tolist()
        reasons = []
        for colour, detail, layout in zip(colours, found["detail"], found["layout"], strict=True):
            if colour > limits["colour"]:
                reasons.append(f"{colour:.0%} of it is coloured, of {one} at most {limits['colour']:.0%}")
            elif colour < least_colour:
                reasons.append(f"{colour:.0%} of it is coloured, of {one} at least {least_colour:.0%}")
            elif layout > limits["layout"]:
                reasons.append(
                    f"no training {kind} is laid out like it: at {layout:.2f} from the nearest, at most "
                    f"{limits['layout']:.2f} for {one}"
                )
            elif detail > limits["detail"]:
                reasons.append(
                    f"its fine detail is not that of the training {kind}s: at {detail:.1f} from them, at most "
                    f"{limits['detail']:.1f} for {one}"
                )
            else:
                reasons.append("")
        return reasons

    def to_json(self) -> str:
        arrays = {name: getattr(self, name).tolist() for name in ("prototypes", "detail_mean", "detail_precision")}
        return json.dumps(arrays | {"limits": dict(self.limits), "in_colour": self.in_colour, "is_ct": self.is_ct})

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Raises ValueError for anything but what `to_json` wrote."""
        try:
            entries: dict[str, Any] = json.loads(text)
            limits = {name: float(entries["limits"][name]) for name in ("colour", "detail", "layout")}
            limits["least_colour"] = float(entries["limits"].get("least_colour", 0.0))
            in_colour, is_ct = bool(entries.pop("in_colour", False)), bool(entries.pop("is_ct", True))
            arrays: dict[str, Any] = {
                name: np.array(entry, dtype=np.float64) for name, entry in entries.items() if name != "limits"
            }
            learnt = cls(**arrays, limits=limits, in_colour=in_colour, is_ct=is_ct)
        except (KeyError, TypeError) as error:
            raise ValueError(f"what is known of the training's slices is damaged: {error!r}") from error
        shapes = learnt.prototypes.shape[1:], learnt.detail_mean.shape, learnt.detail_precision.shape
        num_bands = len(_BANDS) - 1
        if shapes != ((_CELLS**2,), (num_bands,), (num_bands, num_bands)):
            raise ValueError(f"what is known of the training's slices is damaged: its shapes are {shapes}")
        return learnt

    @classmethod
    def load(cls, file: Path) -> Self | None:
        """None where there is no such file: an older model."""
        return cls.from_json(file.read_text()) if file.is_file() else None


def fit_likeness(data: TrainingData, files: Sequence[Path], *, is_ct: bool | None = None) -> Likeness:
    """Learn what the images of train and val look like. `files` are theirs, to see how coloured they are.

    `is_ct` says whether they are to be called chest CT: by default those in grey are, but for MedMNIST's.
    A limit is what 99.5 % of them keep, each slice judged by the slices of other patients (5 folds over groups).
    """
    from sklearn.model_selection import GroupKFold

    rng = np.random.default_rng(0)
    all_pixels = np.load(data.pixels_path, mmap_mode="r")
    taken = np.sort(rng.permutation(len(all_pixels))[:MAX_SLICES])
    pixels, groups = all_pixels[taken], data.groups[taken]
    if len(np.unique(groups)) == 1:  # one group throughout the given splits
        groups = np.arange(len(pixels))
    found = {"detail": np.zeros(len(pixels)), "layout": np.zeros(len(pixels))}
    num_folds = min(NUM_FOLDS, len(np.unique(groups)))
    for seen, held_out in GroupKFold(num_folds).split(pixels, groups=groups):
        for name, values in _describe(pixels[seen], {}).measure(pixels[held_out]).items():
            found[name][held_out] = values
    limits = {name: float(np.quantile(values, QUANTILE)) for name, values in found.items()}
    in_colour = data.form.colour
    if in_colour:
        colours = measure_colours(pixels).tolist()
        limits["least_colour"] = float(np.quantile(colours, 1 - QUANTILE)) / 2  # cameras differ more than scanners
    else:
        some = [files[index] for index in rng.permutation(len(files))[:MAX_COLOUR_FILES]]
        with ThreadPoolExecutor() as threads:
            colours = [colour for colour in threads.map(_see_colour, some) if colour is not None]
    most = float(np.quantile(colours or [0.0], QUANTILE))
    limits["colour"] = (1 + most) / 2 if in_colour else max(LEAST_COLOUR_LIMIT, most)
    if is_ct is None:
        is_ct = not in_colour and not any(member and is_npz(member[0]) for member in map(split_member, files[:1]))
    return replace(_describe(pixels, limits), in_colour=in_colour, is_ct=is_ct)


def measure_colours(pixels: NDArray[np.uint8]) -> Floats:
    """The share of each image's area that is coloured, as `decode_with_colour` defines it: uint8 (N, S, S, 3) to float
    (N,) in [0, 1]."""
    small = np.stack([np.asarray(_reduce(image, Image.Resampling.BOX), np.int16) for image in pixels])
    return (np.ptp(small, axis=3) > COLOURED).mean(axis=(1, 2))


def _describe(pixels: NDArray[np.uint8], limits: Mapping[str, float]) -> Likeness:
    """Layouts by k-means over slices and their mirror images, the spectrum by a shrunk covariance
    (Ledoit and Wolf, "A well-conditioned estimator for large-dimensional covariance matrices", 2004)."""
    from sklearn.cluster import KMeans
    from sklearn.covariance import LedoitWolf
    from sklearn.exceptions import ConvergenceWarning

    small = _shrink(pixels)
    layouts = np.concatenate([_layout(small), _layout(small[:, :, ::-1])])
    num_prototypes = max(1, min(_NUM_PROTOTYPES, len(layouts) // 4))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # of slices that are all alike
        centres = KMeans(num_prototypes, n_init=1, random_state=0).fit(layouts).cluster_centers_
    spectra = LedoitWolf().fit(_spectrum(small))
    return Likeness(
        prototypes=np.round(_to_unit_length(centres), 4),
        detail_mean=spectra.location_,
        detail_precision=spectra.precision_,
        limits=limits,
    )


def _see_colour(file: Path) -> float | None:
    if split_member(file) is not None:  # of a volume, or an array read as grey
        return 0.0
    try:
        return decode_with_colour(file)[1]
    except (BadImageError, OSError):
        return None


def _shrink(pixels: NDArray[np.uint8]) -> Floats:
    """uint8 (N, S, S) to float (N, 64, 64) in [0, 1]; of (N, S, S, C) the mean over the channels."""
    if pixels.ndim == 4:
        return np.mean([_shrink(pixels[..., channel]) for channel in range(pixels.shape[3])], axis=0)
    small = [np.asarray(_reduce(image, Image.Resampling.BILINEAR)) for image in pixels]
    return np.array(small, np.float64).reshape(-1, _SIDE, _SIDE) / 255


def _reduce(image: NDArray[np.uint8], how: Image.Resampling) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(image)).resize((_SIDE, _SIDE), how)


def _layout(small: Floats) -> Floats:
    """Means of 16 x 16 cells, without the image's own mean and contrast: float (N, 256) of unit length."""
    cells = small.reshape(len(small), _CELLS, _SIDE // _CELLS, _CELLS, _SIDE // _CELLS).mean(axis=(2, 4))
    rows = cells.reshape(len(small), _CELLS**2)
    return _to_unit_length(rows - rows.mean(axis=1, keepdims=True))


def _to_unit_length(rows: Floats) -> Floats:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)


def _spectrum(small: Floats) -> Floats:
    """The log power of the cosine transform in nine rings, coarse to fine: float (N, 9)."""
    index = np.arange(_SIDE)
    waves = np.cos(np.pi / _SIDE * (index + 0.5) * index[:, None]) * np.sqrt(2 / _SIDE)
    power = (waves @ small @ waves.T) ** 2
    radius = np.hypot(index, index[:, None])
    rings = [(radius >= low) & (radius < high) for low, high in pairwise(_BANDS)]
    return np.log(np.stack([power[:, ring].mean(axis=1) for ring in rings], axis=1) + 1e-5)
