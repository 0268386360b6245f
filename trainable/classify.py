"""Image files in, classes and probabilities out: the code that MLflow keeps with `NAME-images` and runs.

Imported as a module, this file needs no MLflow. Run by MLflow, it needs this package (which the model brings
along), the exported pixel model among its artifacts, and nothing pickled.
"""

from __future__ import annotations

import base64
import binascii
import json
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from trainable.images import decode
from trainable.images.cache import decode_pixels
from trainable.images.likeness import LIKENESS_FILE, NOT_CHEST_CT, Likeness
from trainable.images.pixel_format import GREY, PixelFormat
from trainable.normalisation import pixel_shape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from PIL import Image

    from trainable.explain import Explainer

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


def decode_cells(cells: Iterable[object], image_size: int, form: PixelFormat = GREY) -> tuple[np.ndarray, list[float]]:
    """uint8 (N, S, S), or (N, S, S, C), by the cache's own decoder, and how coloured each was.

    A ValueError names the row that failed.
    """
    pixels: list[np.ndarray] = []
    colours: list[float] = []
    for row, cell in enumerate(cells):
        try:
            content = read_image_cell(cell)
            grey, colour = decode.decode_with_colour(content)
            pixels.append(_to_pixels(grey, content, image_size, form))
        except ValueError as error:
            raise ValueError(f"image in row {row}: {error}") from error
        colours.append(colour)
    shape = pixel_shape(image_size, form.num_channels)
    return np.stack(pixels) if pixels else np.empty((0, *shape), np.uint8), colours


def _to_pixels(grey: Image.Image, source: Path | bytes, image_size: int, form: PixelFormat) -> np.ndarray:
    return decode.resize_grey(grey, image_size) if form == GREY else decode_pixels(source, image_size, form)


def tabulate(
    probabilities: np.ndarray, classes: Sequence[str], doubts: Sequence[str] = (), *, verdict: str = NOT_CHEST_CT
) -> pd.DataFrame:
    """float (N, C) to one row a picture: `class`, its `probability`, `doubt`, `probability_NAME` for every class.

    Where `doubts` gives a reason, the class is the `verdict` of the likeness and its probability None (null in JSON).
    """
    best = probabilities.argmax(axis=1)
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
    form: PixelFormat = GREY,
) -> pd.DataFrame:
    """`predict` is the pixel model: uint8 tensor (N, S, S), or (N, S, S, C), -> float tensor (N, K)."""
    import torch

    pixels, colours = decode_cells(cells, image_size, form)
    with torch.inference_mode():
        batches = [predict(part) for part in torch.from_numpy(pixels).split(_BATCH_SIZE) if len(part)]
    probabilities = torch.cat(batches).numpy() if batches else np.empty((0, len(classes)), np.float32)
    if likeness is None:
        return tabulate(probabilities, classes)
    return tabulate(probabilities, classes, likeness.doubt(pixels, colours), verdict=likeness.verdict)


@dataclass(frozen=True, kw_only=True)
class Classifier:
    """A model ready to use: `predict` takes uint8 tensors (N, S, S), or (N, S, S, C) as `form`
    says, and gives float (N, K) over `classes`.

    `label` says which model it is, for people. Without `likeness` no picture is doubted.
    """

    label: str
    classes: tuple[str, ...]
    image_size: int
    predict: Callable[[Any], Any]
    likeness: Likeness | None = None
    form: PixelFormat = GREY


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a model says of a picture: `probabilities` float (C,), and why it may be no chest CT ("": it may be one).

    With an explanation, `picture` is the picture in grey at its own size and `heat` float (S, S) what spoke for the
    class.
    """

    probabilities: np.ndarray
    doubt: str = ""
    picture: Image.Image | None = None
    heat: np.ndarray | None = None


def load_registered(uri: str) -> Classifier:
    """The pixel model behind an MLflow URI (`models:/NAME@champion`, `models:/NAME/3`, `runs:/...`).

    The tracking server is MLflow's current one. Raises ValueError for a model that is not one of ours.
    """
    import mlflow.pytorch
    from mlflow.artifacts import download_artifacts
    from mlflow.models import get_model_info

    with tempfile.TemporaryDirectory(prefix="ctsearch-model-") as aside:  # MLflow's own copies would stay for ever
        folder = download_artifacts(uri, dst_path=aside)
        info = get_model_info(folder)
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
            form=PixelFormat.from_dict(facts.get("form", {})),
            predict=mlflow.pytorch.load_model(folder),
            likeness=Likeness.load(Path(folder) / "extra_files" / LIKENESS_FILE),
        )


def load_checkpoint(path: Path) -> Classifier:
    """The best checkpoint of a trial: its folder, or a file in it. Raises ValueError where there is none.

    A user's own net, and what the training's slices look like, are read from the search that the folder belongs to.
    """
    from trainable.architectures import build_model
    from trainable.checkpoint import CheckpointStore
    from trainable.config import TrialConfig, is_own_net
    from trainable.served_model import ServedModel

    folder = (path if path.is_dir() else path.parent).absolute()
    loaded = CheckpointStore(folder).load("best")
    if loaded is None or "classes" not in loaded[1]:
        raise ValueError(f"{path} is no `best` checkpoint of this version; it must be searches/NAME/trials/NUMBER")
    state, facts = loaded
    config, search = TrialConfig.from_params(facts["config"]), folder.parents[1]
    record = json.loads(file.read_text()) if (file := search / "search.json").is_file() else {}
    source = record.get("nets", {}).get("sources", {}).get(config.architecture)
    if is_own_net(config.architecture) and source is None:
        raise ValueError(f"{path} is of the net {config.architecture}, whose code is not in {file}; give its model")
    form = PixelFormat.from_dict(facts.get("form", {}))  # older checkpoints are of grey images
    net = build_model(config, len(facts["classes"]), num_channels=form.num_channels, source=source)
    net.load_state_dict(state["model"])
    return Classifier(
        label=f"checkpoint {folder}, epoch {facts['epoch']}",
        classes=tuple(facts["classes"]),
        image_size=facts["image_size"],
        form=form,
        predict=ServedModel(net),
        likeness=Likeness.load(search / LIKENESS_FILE),
    )


def build_explainer(classifier: Classifier) -> Explainer:
    """Raises ValueError for a net that cannot be explained, with the reason."""
    from torch.fx import GraphModule

    from trainable.explain import Explainer, export

    model = classifier.predict
    if not isinstance(model, GraphModule):
        model = export(model, classifier.image_size, classifier.form.num_channels)  # type: ignore[arg-type]
    return Explainer(model)


def classify_files(
    files: Iterable[Path], classifier: Classifier, *, num_workers: int = 2, explainer: Explainer | None = None
) -> Iterator[tuple[Path, Answer | Exception]]:
    """Each file with its answer, or with what is wrong with it, in order and a batch at a time."""
    import torch

    def look(file: Path) -> tuple[Image.Image, np.ndarray, float] | Exception:
        try:
            grey, colour = decode.decode_with_colour(file)
            return grey, _to_pixels(grey, file, classifier.image_size, classifier.form), colour
        except (decode.BadImageError, OSError) as error:
            return error

    def answer(seen: Sequence[tuple[Image.Image, np.ndarray, float]]) -> list[Answer]:
        pixels = np.stack([pixels for _, pixels, _ in seen])
        with torch.inference_mode():
            probabilities = classifier.predict(torch.from_numpy(pixels)).numpy()
        doubts = [""] * len(seen)
        if classifier.likeness is not None:
            doubts = classifier.likeness.doubt(pixels, [colour for *_, colour in seen])
        if explainer is None:
            return [Answer(probabilities=p, doubt=d) for p, d in zip(probabilities, doubts, strict=True)]
        return [
            Answer(probabilities=p, doubt=doubt, picture=grey, heat=heat)
            for p, doubt, (grey, *_), heat in zip(
                probabilities, doubts, seen, explainer.explain(torch.from_numpy(pixels)), strict=True
            )
        ]

    waiting = iter(files)
    with ThreadPoolExecutor(num_workers) as threads:
        while batch := list(islice(waiting, _BATCH_SIZE)):
            looked = list(threads.map(look, batch))
            seen = [found for found in looked if not isinstance(found, Exception)]
            answers = iter(answer(seen) if seen else ())
            for file, found in zip(batch, looked, strict=True):
                yield file, found if isinstance(found, Exception) else next(answers)


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
                form=PixelFormat.from_dict(self.settings.get("form", {})),
            )

    set_model(ImageModel())


if __name__ != "trainable.classify":  # MLflow runs this file under a name of its own
    _set_model()
