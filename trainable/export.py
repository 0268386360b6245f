"""From a trained model to two registered models: one takes pixels (exported program), one image files (code).

MLflow's `save_model` writes them and an explicit client logs them. `log_model` would do both, but takes run,
experiment and server from the state of the process, and adds to the run's parameters.
"""

from __future__ import annotations

import base64
import importlib.metadata
import io
import json
import logging
import os
import shutil
import tempfile
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from PIL import Image

from trainable.images.decode import DECODER_VERSION
from trainable.images.likeness import LIKENESS_FILE
from trainable.images.pixel_format import GREY, PixelFormat
from trainable.images.seen import SEEN_FILE
from trainable.normalisation import pixel_shape
from trainable.served_ensemble import ServedEnsemble
from trainable.served_model import ServedModel

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mlflow import MlflowClient
    from torch import nn

    from trainable.images.likeness import Likeness

PIXEL_REQUIREMENTS = ("mlflow", "torch", "numpy")
IMAGE_REQUIREMENTS = (*PIXEL_REQUIREMENTS, "pandas", "pillow", "pydicom", "imagecodecs", "nibabel", "filelock")


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """What is stored with a registered model.

    `value` is that of `metric` on the validation split of the data with this `data_hash`; `test_metrics` are
    those of the sealed test, by the names they are logged under. `members` are the trials of an ensemble, `trial` the
    best of them; `temperature` is in the model already, `operating_point` (see `OperatingPoint.to_dict`) is not: who
    calls a slice positive must ask for its threshold. With `num_folds` the members were trained in folds of train and
    val, and `value` is that on slices whose patients a model has not seen. `slices` is the rule for the slices of a
    volume (`SliceRule`), `patients` what makes one verdict of a patient's (`PatientVerdict`; None: the mean).
    """

    name: str
    classes: tuple[str, ...]
    positive: int
    image_size: int
    data_hash: str
    search: str
    trial: int
    metric: str
    value: float
    warnings: tuple[str, ...] = ()
    test_metrics: Mapping[str, float] | None = None
    description: str = ""
    members: tuple[int, ...] = ()
    temperature: float = 1.0
    operating_point: Mapping[str, Any] | None = None
    form: PixelFormat = GREY
    num_folds: int = 0
    slices: str = "all"
    patients: Mapping[str, Any] | None = None

    def to_metadata(self) -> dict[str, Any]:
        """For the file MLmodel: what YAML can hold."""
        return {
            "classes": list(self.classes),
            "positive": self.classes[self.positive],
            "image_size": self.image_size,
            "form": self.form.to_dict(),
            "slices": self.slices,
            "patients": dict(self.patients) if self.patients else None,
            "num_channels": self.form.num_channels,
            "decoder_version": DECODER_VERSION,
            "data_hash": self.data_hash,
            "search": self.search,
            "trial": self.trial,
            "members": list(self.members or (self.trial,)),
            "num_folds": self.num_folds,
            "temperature": self.temperature,
            "operating_point": dict(self.operating_point) if self.operating_point else None,
            "metric": self.metric,
            "validation_value": self.value,
            "warnings": list(self.warnings),
            "test_metrics": dict(self.test_metrics or {}),
        }

    def to_tags(self) -> dict[str, str]:
        """For a model version: text as it is, all else as JSON; each test metric has a tag of its own."""
        entries = self.to_metadata()
        entries |= entries.pop("test_metrics")
        return {
            name: entry if isinstance(entry, str) else json.dumps(entry, ensure_ascii=False)
            for name, entry in entries.items()
        }


@dataclass(frozen=True, kw_only=True)
class LoggedModels:
    """The versions of `NAME` and `NAME-images` in the registry."""

    version: str
    images_version: str


def images_name(name: str) -> str:
    """The name of the model that takes image files, beside `name`, which takes pixels."""
    return f"{name}-images"


def save_models(
    model: nn.Module, facts: ModelFacts, folder: Path, likeness: Likeness | None = None, *, seen: str = ""
) -> None:
    """Write `NAME` and `NAME-images` as MLflow model folders `pixels` and `images` below `folder`, anew.

    By `likeness`, which is kept with them, `NAME-images` says of an image that it may be no chest CT. `seen` is kept
    too: which images it was trained on (`seen.write_seen`). Needs no server.
    """
    aside = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    save_pixel_model(model, facts, aside / "pixels", likeness, seen=seen)
    save_image_model(aside / "pixels", facts, aside / "images")
    shutil.rmtree(folder, ignore_errors=True)
    aside.rename(folder)


def register_models(folder: Path, facts: ModelFacts, *, client: MlflowClient, run_id: str) -> LoggedModels:
    """Log what `save_models` wrote to a run, ended or not, and register a version of each. Sets no alias.

    What this run has registered before is found again, not registered twice. Needs no network but the
    tracking server's.
    """
    with tempfile.TemporaryDirectory(prefix="ctsearch-export-") as copies:
        shutil.copytree(folder, copies, dirs_exist_ok=True)  # logging writes its ids into them
        return LoggedModels(
            version=_register(facts.name, Path(copies) / "pixels", facts, client, run_id),
            images_version=_register(images_name(facts.name), Path(copies) / "images", facts, client, run_id),
        )


def save_pixel_model(
    model: nn.Module, facts: ModelFacts, folder: Path, likeness: Likeness | None = None, *, seen: str = ""
) -> None:
    """Export `model` (torch.export, any batch size, on the CPU) to a new MLflow model folder, `likeness` and `seen`
    beside it."""
    shape, num_classes = pixel_shape(facts.image_size, facts.form.num_channels), len(facts.classes)
    with _quiet_mlflow(), tempfile.TemporaryDirectory(prefix="ctsearch-export-") as beside:
        extra_files = []
        if likeness is not None:
            (Path(beside) / LIKENESS_FILE).write_text(likeness.to_json())
            extra_files.append(str(Path(beside) / LIKENESS_FILE))
        if seen:
            (Path(beside) / SEEN_FILE).write_text(seen)
            extra_files.append(str(Path(beside) / SEEN_FILE))
        import mlflow.pytorch
        from mlflow.models import Model, ModelSignature
        from mlflow.types import Schema, TensorSpec

        mlflow.pytorch.save_model(
            model if isinstance(model, ServedEnsemble) else ServedModel(model),
            folder,
            signature=ModelSignature(
                inputs=Schema([TensorSpec(np.dtype(np.uint8), (-1, *shape))]),
                outputs=Schema([TensorSpec(np.dtype(np.float32), (-1, num_classes))]),
            ),
            input_example=np.zeros((2, *shape), np.uint8),  # 1 would fix the batch size
            serialization_format="pt2",
            extra_files=extra_files or None,
            pip_requirements=_pin(PIXEL_REQUIREMENTS),
            metadata=facts.to_metadata(),
        )
    saved = Model.load(str(folder))
    saved.flavors["python_function"]["config"] = {"device": "cpu"}  # an exported program cannot move to a GPU
    saved.save(str(folder / "MLmodel"))


def save_image_model(pixel_model: Path, facts: ModelFacts, folder: Path) -> None:
    """Save a model of image files around the folder of `save_pixel_model`, as code: see `classify.py`."""
    package = Path(__file__).parent
    with _quiet_mlflow():
        import mlflow.pyfunc
        from mlflow.models import ModelSignature
        from mlflow.types import ColSpec, DataType, Schema
        from mlflow.types.schema import AnyType

        shares = [ColSpec(DataType.float, f"probability_{name}") for name in facts.classes]
        mlflow.pyfunc.save_model(
            folder,
            python_model=str(package / "classify.py"),
            code_paths=[str(package)],
            artifacts={"pixel_model": str(pixel_model)},
            model_config={
                "classes": list(facts.classes),
                "image_size": facts.image_size,
                "positive": facts.positive,
                "threshold": facts.operating_point["threshold"] if facts.operating_point else None,
                "form": facts.form.to_dict(),
                "slices": facts.slices,
                "patients": dict(facts.patients) if facts.patients else None,
                "decoder_version": DECODER_VERSION,
            },
            signature=ModelSignature(
                inputs=Schema([ColSpec(AnyType(), "image")]),  # bytes, or base64 text
                outputs=Schema(
                    [
                        ColSpec(DataType.string, "class"),
                        ColSpec(DataType.float, "probability", required=False),
                        ColSpec(DataType.string, "doubt"),
                        *shares,
                    ]
                ),
            ),
            input_example=pd.DataFrame({"image": [_encode_blank_image(facts.image_size)]}),
            pip_requirements=_pin(IMAGE_REQUIREMENTS),
            metadata=facts.to_metadata(),
        )


def _register(name: str, folder: Path, facts: ModelFacts, client: MlflowClient, run_id: str) -> str:
    """Log a saved model to a run and register it; the version."""
    from mlflow.entities import LoggedModelOutput
    from mlflow.exceptions import MlflowException
    from mlflow.models import Model

    for version in client.search_model_versions(f"run_id = '{run_id}'"):
        if version.name == name:
            return str(version.version)
    experiment_id = client.get_run(run_id).info.experiment_id
    logged = client.create_logged_model(experiment_id, name=name, source_run_id=run_id, tags=facts.to_tags())
    model = Model.load(str(folder))
    model.model_id = model.model_uuid = logged.model_id
    model.run_id, model.artifact_path = run_id, logged.artifact_location
    model.save(str(folder / "MLmodel"))
    client.log_model_artifacts(logged.model_id, str(folder))
    client.finalize_logged_model(logged.model_id, "READY")
    client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    created = client.create_model_version(
        name,
        source=f"models:/{logged.model_id}",
        run_id=run_id,
        model_id=logged.model_id,
        tags=facts.to_tags(),
        description=facts.description or None,
        await_creation_for=0,
    )
    return str(created.version)


def _encode_blank_image(size: int) -> str:
    """A black PNG as base64 text: what a request to a served model may look like."""
    buffer = io.BytesIO()
    Image.new("L", (size, size)).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def _pin(packages: tuple[str, ...]) -> list[str]:
    """The installed versions, without a build's local label (`+cu132`), which no package index serves."""
    return [f"{name}=={importlib.metadata.version(name).partition('+')[0]}" for name in packages]


@contextmanager
def _quiet_mlflow() -> Iterator[None]:
    """No warnings of MLflow's own making, no progress bars and remarks: they would tear a live table."""
    logger, bar = logging.getLogger("mlflow"), "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"
    level, shows_bar = logger.level, os.environ.get(bar)
    logger.setLevel(logging.WARNING)
    os.environ[bar] = "false"
    with warnings.catch_warnings():
        # both lie in MLflow 3.17's own code: type hints of mlflow.types, and pandas 3 as it saves an example
        warnings.filterwarnings("ignore", message=".*Any type hint is inferred as AnyType")
        warnings.filterwarnings("ignore", message="Operation with range is deprecated")
        try:
            yield
        finally:
            logger.setLevel(level)
            os.environ.pop(bar) if shows_bar is None else os.environ.update({bar: shows_bar})
