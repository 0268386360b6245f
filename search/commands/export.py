"""`ctsearch export`: a model as one ONNX file, the champion or any other."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from search.commands.chosen_model import load
from trainable.files import check_target
from trainable.images.windows import format_windows

if TYPE_CHECKING:
    from trainable.classifier import Classifier


def export_onnx(file: Path, *, model: str | None, home: Path, tracking_uri: str | None = None) -> None:
    """Write a model as ONNX and say how near to torch it is. Raises ValueError in the user's words."""
    from trainable.normalisation import pixel_shape
    from trainable.to_onnx import write_onnx

    check_target(file, "--onnx")
    with ExitStack() as stack:
        classifier = load(model, home, tracking_uri, stack)
        difference = write_onnx(classifier, file)
    size, classes = classifier.image_size, ", ".join(classifier.classes)
    shape = ", ".join(map(str, ("N", *pixel_shape(size, classifier.form.num_channels))))
    for line in (
        f"Model        {classifier.label}",
        f"Written      {file}, {file.stat().st_size / 1e6:.1f} MB, at most {difference:.0e} from torch",
        f"Input        pixels, uint8 ({shape}): {describe_pixels(classifier)}, squeezed to {size} x {size}",
        f"Output       probabilities, float32 (N, {len(classifier.classes)}): {classes}",
    ):
        print(line)


def describe_pixels(classifier: Classifier) -> str:
    """What the channels of a model's input are."""
    form = classifier.form
    if form.colour:
        return "red, green and blue"
    windows = format_windows(form.windows)
    return "grey images" if form.num_channels == 1 else f"the windows {windows} of {1 + 2 * form.neighbours} slices"
