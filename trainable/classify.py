"""Image files in, classes and probabilities out: the code that MLflow keeps with `NAME-images` and runs.

Imported as a module, this file needs no MLflow. Run by MLflow, it needs this package (which the model brings
along), the exported pixel model among its artifacts, and nothing pickled.
"""

from __future__ import annotations

import base64
import binascii
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from trainable.images import decode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

_BATCH_SIZE = 64


def read_image_cell(cell: object) -> bytes:
    """One cell of the column `image`: a picture file's bytes, or their base64 text. Else a ValueError."""
    if isinstance(cell, (bytes, bytearray, memoryview)):
        return bytes(cell)
    if isinstance(cell, str):
        try:
            return base64.b64decode("".join(cell.split()), validate=True)
        except binascii.Error as error:
            raise ValueError(
                f"text of {len(cell)} characters is not base64 ({error}); pass the bytes of a picture file "
                "or their base64 text, not a path"
            ) from None
    raise ValueError(f"a {type(cell).__name__} came; it must be the bytes of a picture file or their base64 text")


def decode_cells(cells: Iterable[object], image_size: int) -> np.ndarray:
    """uint8 (N, S, S) by the cache's own decoder. A ValueError names the row that failed."""
    pixels: list[np.ndarray] = []
    for row, cell in enumerate(cells):
        try:
            pixels.append(decode.decode_slice(read_image_cell(cell), image_size))
        except ValueError as error:
            raise ValueError(f"image in row {row}: {error}") from error
    return np.stack(pixels) if pixels else np.empty((0, image_size, image_size), np.uint8)


def tabulate(probabilities: np.ndarray, classes: Sequence[str]) -> pd.DataFrame:
    """float (N, C) to one row a picture: `class`, its `probability`, `probability_NAME` for every class."""
    best = probabilities.argmax(axis=1)
    columns: dict[str, Any] = {
        "class": [classes[index] for index in best],
        "probability": probabilities[np.arange(len(best)), best],
    }
    for index, name in enumerate(classes):
        columns[f"probability_{name}"] = probabilities[:, index]
    return pd.DataFrame(columns)


def classify_cells(
    cells: Iterable[object], *, predict: Callable[[Any], Any], classes: Sequence[str], image_size: int
) -> pd.DataFrame:
    """`predict` is the pixel model: uint8 tensor (N, S, S) -> float tensor (N, C)."""
    import torch

    pixels = decode_cells(cells, image_size)
    with torch.inference_mode():
        batches = [predict(part) for part in torch.from_numpy(pixels).split(_BATCH_SIZE) if len(part)]
    probabilities = torch.cat(batches).numpy() if batches else np.empty((0, len(classes)), np.float32)
    return tabulate(probabilities, classes)


@dataclass(frozen=True, kw_only=True)
class Classifier:
    """A model ready to use: `predict` takes uint8 tensors (N, S, S) and gives float (N, C) over `classes`.

    `label` says which model it is, for people.
    """

    label: str
    classes: tuple[str, ...]
    image_size: int
    predict: Callable[[Any], Any]


def load_registered(uri: str) -> Classifier:
    """The pixel model behind an MLflow URI (`models:/NAME@champion`, `models:/NAME/3`, `runs:/...`).

    The tracking server is MLflow's current one. Raises ValueError for a model that is not one of ours.
    """
    import mlflow.pytorch
    from mlflow.models import get_model_info

    info = get_model_info(uri)
    facts = info.metadata or {}
    if "pytorch" not in info.flavors or not {"classes", "image_size", "decoder_version"} <= set(facts):
        raise ValueError(
            f"{uri} is no pixel model of ctsearch; give NAME, models:/NAME@champion or a checkpoint folder"
        )
    if facts["decoder_version"] != decode.DECODER_VERSION:
        raise ValueError(
            f"{uri} was trained on pictures of decoder version {facts['decoder_version']}, this ctsearch decodes "
            f"version {decode.DECODER_VERSION}: train it again, or classify with the ctsearch that trained it"
        )
    return Classifier(
        label=f"{uri}, trial {facts['trial']} of {facts['search']}",
        classes=tuple(facts["classes"]),
        image_size=facts["image_size"],
        predict=mlflow.pytorch.load_model(uri),
    )


def load_checkpoint(folder: Path) -> Classifier:
    """The best checkpoint in a trial's folder. Raises ValueError where there is none, or it is of a user's own net."""
    from trainable.architectures import build_model
    from trainable.checkpoint import CheckpointStore
    from trainable.config import TrialConfig, is_own_net
    from trainable.export import ServedModel

    loaded = CheckpointStore(folder).load("best")
    if loaded is None or "classes" not in loaded[1]:
        raise ValueError(f"{folder} holds no `best` checkpoint of this version; it must be searches/NAME/trials/NUMBER")
    state, facts = loaded
    config = TrialConfig.from_params(facts["config"])
    if is_own_net(config.architecture):
        raise ValueError(f"{folder} is of the net {config.architecture}, which is not stored with it; give its model")
    net = build_model(config, len(facts["classes"]))
    net.load_state_dict(state["model"])
    return Classifier(
        label=f"checkpoint {folder}, epoch {facts['epoch']}",
        classes=tuple(facts["classes"]),
        image_size=facts["image_size"],
        predict=ServedModel(net),
    )


def classify_files(
    files: Iterable[Path], classifier: Classifier, *, num_workers: int = 2
) -> Iterator[tuple[Path, np.ndarray | Exception]]:
    """Each file with its probabilities float (C,), or with what is wrong with it, in order and a batch at a time."""
    import torch

    def look(file: Path) -> np.ndarray | Exception:
        try:
            return decode.decode_slice(file, classifier.image_size)
        except (decode.BadImageError, OSError) as error:
            return error

    waiting = iter(files)
    with ThreadPoolExecutor(num_workers) as threads:
        while batch := list(islice(waiting, _BATCH_SIZE)):
            looked = list(threads.map(look, batch))
            pixels = [found for found in looked if isinstance(found, np.ndarray)]
            with torch.inference_mode():
                rows = iter(classifier.predict(torch.from_numpy(np.stack(pixels))).numpy() if pixels else ())
            for file, found in zip(batch, looked, strict=True):
                yield file, next(rows) if isinstance(found, np.ndarray) else found


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
                    f"the model was trained on pictures of decoder version {wanted}, {decode.__file__} is "
                    f"version {decode.DECODER_VERSION}; load it in a process without another ctsearch"
                )
            self.predict_pixels = mlflow.pytorch.load_model(context.artifacts["pixel_model"])

        def predict(
            self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
        ) -> pd.DataFrame:
            return classify_cells(
                model_input["image"],
                predict=self.predict_pixels,
                classes=self.settings["classes"],
                image_size=self.settings["image_size"],
            )

    set_model(ImageModel())


if __name__ != "trainable.classify":  # MLflow runs this file under a name of its own
    _set_model()
