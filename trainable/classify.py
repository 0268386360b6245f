"""Image files in, classes and probabilities out: the code that MLflow keeps with `NAME-images` and runs.

Imported as a module, this file needs no MLflow. Run by MLflow, it needs this package (which the model brings
along), the exported pixel model among its artifacts, and nothing pickled.
"""

from __future__ import annotations

import base64
import binascii
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from PIL import Image

from trainable.images import decode
from trainable.images.cache import decode_pixels
from trainable.images.likeness import LIKENESS_FILE, NOT_CHEST_CT, Likeness
from trainable.images.members import resize_channels
from trainable.images.pixel_format import GREY, PixelFormat
from trainable.normalisation import pixel_shape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence


_BATCH_SIZE = 64


def read_image_cell(cell: object) -> bytes:
    """One cell of the column `image`: an image file's bytes, or their base64 text. Else a ValueError."""
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


def decode_cells(cells: Iterable[object], image_size: int, form: PixelFormat = GREY) -> tuple[np.ndarray, list[float]]:
    """uint8 (N, S, S), or (N, S, S, C), by the cache's own decoder, and how coloured each was.

    A ValueError names the row that failed.
    """
    pixels: list[np.ndarray] = []
    colours: list[float] = []
    for row, cell in enumerate(cells):
        try:
            _, shown, colour = see(read_image_cell(cell), image_size, form)
            pixels.append(shown)
        except ValueError as error:
            raise ValueError(f"image in row {row}: {error}") from error
        colours.append(colour)
    shape = pixel_shape(image_size, form.num_channels)
    return np.stack(pixels) if pixels else np.empty((0, *shape), np.uint8), colours


def see(source: Path | bytes, image_size: int, form: PixelFormat) -> tuple[Image.Image, np.ndarray, float]:
    """An image in grey, its pixels as the cache has them, and how coloured it is (of a model in colour 0: see there).

    Raises BadImageError and OSError.
    """
    if form.colour:  # also of files that are refused in grey, such as DICOM in RGB
        shown = decode.decode(source, colour=True)
        return Image.fromarray(shown).convert("L"), resize_channels(shown, image_size), 0.0
    grey, colour = decode.decode_with_colour(source)
    if form.neighbours:
        raise decode.BadImageError(
            f"this model looks at a slice with {form.neighbours} on each side, and an image by itself has none: give "
            "the volume, or the folder of its DICOM series"
        )
    pixels = decode.resize_grey(grey, image_size) if form == GREY else decode_pixels(source, image_size, form)
    return grey, pixels, colour


def call_best(probabilities: np.ndarray, positive: int, threshold: float | None) -> np.ndarray:
    """The class int (N,) that each row of (N, C) is called: the most probable, or by the model's operating point."""
    if threshold is None:
        return probabilities.argmax(axis=1)
    return np.where(probabilities[:, positive] >= threshold, positive, 1 - positive)


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


def classify_cells(
    cells: Iterable[object],
    *,
    predict: Callable[[Any], Any],
    classes: Sequence[str],
    image_size: int,
    likeness: Likeness | None = None,
    positive: int = 1,
    threshold: float | None = None,
    form: PixelFormat = GREY,
) -> pd.DataFrame:
    """`predict` is the pixel model: uint8 tensor (N, S, S), or (N, S, S, C), -> float tensor (N, K)."""
    import torch

    pixels, colours = decode_cells(cells, image_size, form)
    with torch.inference_mode():
        batches = [predict(part) for part in torch.from_numpy(pixels).split(_BATCH_SIZE) if len(part)]
    probabilities = torch.cat(batches).numpy() if batches else np.empty((0, len(classes)), np.float32)
    if likeness is None:
        return tabulate(probabilities, classes, positive=positive, threshold=threshold)
    doubts = likeness.doubt(pixels, colours)
    return tabulate(probabilities, classes, doubts, verdict=likeness.verdict, positive=positive, threshold=threshold)


def _set_model() -> None:
    """Tell MLflow what to serve: "models from code", https://mlflow.org/docs/latest/ml/model/models-from-code/."""
    from mlflow.models import set_model
    from mlflow.pyfunc import PythonModel

    class ImageModel(PythonModel):
        def load_context(self, context: Any) -> None:
            import mlflow.pytorch

            self.settings = context.model_config
            if (wanted := self.settings["decoder_version"]) != decode.DECODER_VERSION:
                raise RuntimeError(
                    f"the model was trained on images of decoder version {wanted}, {decode.__file__} is "
                    f"version {decode.DECODER_VERSION}; load it in a process without another ctsearch"
                )
            folder = Path(context.artifacts["pixel_model"])
            self.predict_pixels = mlflow.pytorch.load_model(str(folder))
            self.likeness = Likeness.load(folder / "extra_files" / LIKENESS_FILE)

        def predict(
            self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
        ) -> pd.DataFrame:
            return classify_cells(
                model_input["image"],
                predict=self.predict_pixels,
                classes=self.settings["classes"],
                image_size=self.settings["image_size"],
                likeness=self.likeness,
                positive=self.settings.get("positive", 1),
                threshold=self.settings.get("threshold"),
                form=PixelFormat.from_dict(self.settings.get("form", {})),
            )

    set_model(ImageModel())


if __name__ != "trainable.classify":  # MLflow runs this file under a name of its own
    _set_model()
