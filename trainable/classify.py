"""Image files in, classes and probabilities out: the code that MLflow keeps with `NAME-images` and runs.

Imported as a module, this file needs no MLflow. Run by MLflow, it needs this package (which the model brings
along), the exported pixel model among its artifacts, and nothing pickled.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd  # MLflow looks at the types of `predict`
from PIL import Image

from trainable.images import decode
from trainable.images.cache import decode_pixels
from trainable.images.likeness import LIKENESS_FILE, Likeness
from trainable.images.members import resize_channels
from trainable.images.pixel_format import GREY, PixelFormat


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


def _set_model() -> None:
    """Tell MLflow what to serve: "models from code", https://mlflow.org/docs/latest/ml/model/models-from-code/."""
    from mlflow.models import set_model
    from mlflow.pyfunc import PythonModel

    from trainable.classifier import Classifier
    from trainable.verdicts import read_verdict

    class ImageModel(PythonModel):
        def load_context(self, context: Any) -> None:
            import mlflow.pytorch

            settings = context.model_config
            if (wanted := settings["decoder_version"]) != decode.DECODER_VERSION:
                raise RuntimeError(
                    f"the model was trained on images of decoder version {wanted}, {decode.__file__} is "
                    f"version {decode.DECODER_VERSION}; load it in a process without another ctsearch"
                )
            folder = Path(context.artifacts["pixel_model"])
            self.classifier = Classifier(
                label=folder.name,
                classes=tuple(settings["classes"]),
                image_size=settings["image_size"],
                predict=mlflow.pytorch.load_model(str(folder)),
                likeness=Likeness.load(folder / "extra_files" / LIKENESS_FILE),
                positive=settings.get("positive", 1),
                threshold=settings.get("threshold"),
                form=PixelFormat.from_dict(settings.get("form", {})),
                slices=settings.get("slices", "all"),
                verdict=read_verdict(settings.get("patients")),
            )

        def predict(
            self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
        ) -> pd.DataFrame:
            from trainable.cells import classify_cells

            return classify_cells(model_input["image"], self.classifier)

    set_model(ImageModel())


if __name__ != "trainable.classify":  # MLflow runs this file under a name of its own
    _set_model()
