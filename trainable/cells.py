"""Cells of a table that a served model is asked with: image files and volumes in, a row of classes and shares out."""

from __future__ import annotations

import base64
import binascii
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from trainable.classify import call_best, see
from trainable.images.likeness import NOT_CHEST_CT
from trainable.images.pixel_format import GREY, PixelFormat
from trainable.normalisation import pixel_shape
from trainable.volume_cells import answer_volume

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from trainable.classifier import Classifier

_BATCH_SIZE = 64


def classify_cells(cells: Iterable[object], classifier: Classifier) -> pd.DataFrame:
    """A row for each cell: an image, or a volume, whose row is the model's verdict on the slices that its rule chooses.

    A volume is a NIfTI file, a DICOM file of several frames, or a zip or tar of one series. A ValueError names the row
    that failed.
    """
    import torch

    contents = _read_cells(cells)
    found = np.empty((len(contents), len(classifier.classes)), np.float32)
    doubts = [""] * len(contents)
    images: list[int] = []
    for row, content in enumerate(contents):
        with _naming_row(row):
            answer = answer_volume(content, classifier)
        if answer is None:
            images.append(row)
        else:
            found[row], doubts[row] = answer.probabilities, answer.doubt
    for at in range(0, len(images), _BATCH_SIZE):
        part = images[at : at + _BATCH_SIZE]
        pixels, colours = decode_rows({row: contents[row] for row in part}, classifier.image_size, classifier.form)
        with torch.inference_mode():
            found[part] = classifier.predict(torch.from_numpy(pixels)).numpy()
        if classifier.likeness is not None:
            for row, doubt in zip(part, classifier.likeness.doubt(pixels, colours), strict=True):
                doubts[row] = doubt
    return tabulate(
        found,
        classifier.classes,
        doubts,
        verdict=NOT_CHEST_CT if classifier.likeness is None else classifier.likeness.verdict,
        positive=classifier.positive,
        threshold=classifier.threshold,
    )


def _read_cells(cells: Iterable[object]) -> list[bytes]:
    contents = []
    for row, cell in enumerate(cells):
        with _naming_row(row):
            contents.append(read_image_cell(cell))
    return contents


def decode_cells(cells: Iterable[object], image_size: int, form: PixelFormat = GREY) -> tuple[np.ndarray, list[float]]:
    """uint8 (N, S, S), or (N, S, S, C), of single images by the cache's own decoder, and how coloured each was.

    A ValueError names the row that failed.
    """
    return decode_rows(dict(enumerate(_read_cells(cells))), image_size, form)


def decode_rows(
    contents: Mapping[int, bytes], image_size: int, form: PixelFormat = GREY
) -> tuple[np.ndarray, list[float]]:
    """As `decode_cells`, of the files' bytes by the numbers of their rows."""
    pixels: list[np.ndarray] = []
    colours: list[float] = []
    for row, content in contents.items():
        with _naming_row(row):
            _, shown, colour = see(content, image_size, form)
        pixels.append(shown)
        colours.append(colour)
    shape = pixel_shape(image_size, form.num_channels)
    return np.stack(pixels) if pixels else np.empty((0, *shape), np.uint8), colours


@contextmanager
def _naming_row(row: int) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise ValueError(f"image in row {row}: {error}") from error


def read_image_cell(cell: object) -> bytes:
    """One cell of the column `image`: a file's bytes, or their base64 text. Else a ValueError."""
    if isinstance(cell, (bytes, bytearray, memoryview)):
        return bytes(cell)
    if isinstance(cell, str):
        try:
            return base64.b64decode("".join(cell.split()), validate=True)
        except binascii.Error as error:
            raise ValueError(
                f"text of {len(cell)} characters is not base64 ({error}); pass the bytes of an image file "
                "or their base64 text, not a path"
            ) from None
    raise ValueError(f"a {type(cell).__name__} came; it must be the bytes of an image file or their base64 text")


def tabulate(
    probabilities: np.ndarray,
    classes: Sequence[str],
    doubts: Sequence[str] = (),
    *,
    verdict: str = NOT_CHEST_CT,
    positive: int = 1,
    threshold: float | None = None,
) -> pd.DataFrame:
    """float (N, C) to one row an image: `class`, its `probability`, `doubt`, `probability_NAME` for every class.

    Where `doubts` gives a reason, the class is the `verdict` of the likeness and its probability None (null in JSON).
    """
    best = call_best(probabilities, positive, threshold)
    doubts = list(doubts) or [""] * len(best)
    highest = pd.Series(probabilities[np.arange(len(best)), best])
    if any(doubts):
        highest = pd.Series(
            [None if doubt else float(p) for p, doubt in zip(highest, doubts, strict=True)], dtype=object
        )
    columns: dict[str, Any] = {
        "class": [verdict if doubt else classes[index] for index, doubt in zip(best, doubts, strict=True)],
        "probability": highest,
        "doubt": doubts,
    }
    for index, name in enumerate(classes):
        columns[f"probability_{name}"] = probabilities[:, index]
    return pd.DataFrame(columns)
