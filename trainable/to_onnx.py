"""A model as one ONNX file: uint8 images in, probabilities out, any batch size, and checked against torch."""

from __future__ import annotations

import json
import warnings
from typing import TYPE_CHECKING

import numpy as np
import torch

from trainable.normalisation import pixel_shape

if TYPE_CHECKING:
    from pathlib import Path

    from trainable.classifier import Classifier

TOLERANCE = 1e-4
INPUT, OUTPUT = "pixels", "probabilities"


def write_onnx(classifier: Classifier, file: Path) -> float:
    """Write the model to `file`: `pixels` uint8 (N, S, S), or (N, S, S, C) of several channels, to
    `probabilities` float32 (N, K), for any N.

    Its classes, in order, and what else is known of it are in the file's metadata. Returns the largest difference
    between ONNX Runtime and torch on noise, for batches of one and of five images. Raises ValueError where a library
    is missing, and where the two differ by more than 1e-4: then no file is left.
    """
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401 - torch.onnx needs it
    except ImportError as error:
        raise ValueError(f"{error.name} is not installed, which ONNX needs: pip install 'ctsearch[onnx]'") from error
    shape = (5, *pixel_shape(classifier.image_size, classifier.form.num_channels))
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter's own making
        program = torch.onnx.export(
            classifier.predict,  # type: ignore[arg-type]
            (pixels[:2],),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
            input_names=[INPUT],
            output_names=[OUTPUT],
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    facts = {
        "classes": json.dumps(classifier.classes),
        "image_size": str(classifier.image_size),
        "num_channels": str(classifier.form.num_channels),
        "model": classifier.label,
    }
    if classifier.threshold is not None:
        facts |= {"positive": classifier.classes[classifier.positive], "threshold": repr(classifier.threshold)}
    for key, value in facts.items():
        model.metadata_props.add(key=key, value=value)
    aside = file.with_name(f".{file.name}.tmp")
    try:
        onnx.save(model, aside)
        session = onnxruntime.InferenceSession(aside, providers=["CPUExecutionProvider"])
        difference = 0.0
        for given in (pixels, pixels[:1]):
            with torch.inference_mode():
                expected = classifier.predict(given).numpy()
            (found,) = session.run([OUTPUT], {INPUT: given.numpy()})
            difference = max(difference, float(np.abs(found - expected).max()))
        if difference > TOLERANCE:
            raise ValueError(
                f"ONNX Runtime differs from torch by {difference:.1e}; at most {TOLERANCE:.0e} is allowed: {file} is "
                "not written"
            )
        aside.replace(file)
    finally:
        aside.unlink(missing_ok=True)
    return difference
