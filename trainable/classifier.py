"""A classifier: a registered model or a checkpoint, loaded and ready to use."""

from __future__ import annotations

import json
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trainable.classify import call_best
from trainable.images import decode
from trainable.images.faults import show_text
from trainable.images.likeness import LIKENESS_FILE, Likeness
from trainable.images.pixel_format import GREY, PixelFormat
from trainable.images.seen import SEEN_FILE, read_seen
from trainable.verdicts import MEAN_VERDICT, PatientVerdict, read_verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from trainable.explain import Explainer

_MAX_REASON = 300  # characters: torch names every weight that does not fit


@dataclass(frozen=True, kw_only=True)
class Classifier:
    """A model ready to use: `predict` takes uint8 tensors (N, S, S), or (N, S, S, C) as `form`
    says, and gives float (N, K) over `classes`.

    `label` says which model it is, for people. Without `likeness` no image is doubted. With a `threshold` an image is
    called `positive` from that probability on. `slices` is the rule for the slices of a volume (`SliceRule`), `verdict`
    makes one probability of those of a volume or a patient. `seen` are the hashes of the images that it was trained and
    validated on (`seen.py`); empty where that is not known.
    """

    label: str
    classes: tuple[str, ...]
    image_size: int
    predict: Callable[[Any], Any]
    likeness: Likeness | None = None
    positive: int = 1
    threshold: float | None = None
    form: PixelFormat = GREY
    slices: str = "all"
    verdict: PatientVerdict = MEAN_VERDICT
    seen: frozenset[str] = frozenset()

    def call(self, probabilities: np.ndarray) -> np.ndarray:
        """The class int (N,) that each row of (N, C) is called."""
        return call_best(probabilities, self.positive, self.threshold)


def load_registered(uri: str) -> Classifier:
    """The pixel model behind an MLflow URI (`models:/NAME@champion`, `models:/NAME/3`, `runs:/...`).

    The tracking server is MLflow's current one. Raises ValueError for a model that is not one of ours.
    """
    import mlflow.pytorch
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException
    from mlflow.models import get_model_info

    with tempfile.TemporaryDirectory(prefix="ctsearch-model-") as aside:  # MLflow's own copies would stay for ever
        folder = download_artifacts(uri, dst_path=aside)
        with _naming_fault(f"what {uri} says of itself cannot be read", MlflowException):
            info = get_model_info(folder)
        facts = info.metadata or {}
        if "pytorch" not in info.flavors or not {"classes", "image_size", "decoder_version"} <= set(facts):
            raise ValueError(
                f"{uri} is no pixel model of ctsearch; give NAME, models:/NAME@champion or a checkpoint folder"
            )
        if facts["decoder_version"] != decode.DECODER_VERSION:
            raise ValueError(
                f"{uri} was trained on images of decoder version {facts['decoder_version']}, this ctsearch decodes "
                f"version {decode.DECODER_VERSION}: train it again, or classify with the ctsearch that trained it"
            )
        with _naming_fault(f"the files of {uri} cannot be used"):
            return Classifier(
                label=f"{uri}, {_name_members(facts)} of {facts['search']}",
                positive=facts["classes"].index(facts.get("positive", facts["classes"][-1])),
                threshold=(facts.get("operating_point") or {}).get("threshold"),
                classes=tuple(facts["classes"]),
                image_size=facts["image_size"],
                form=PixelFormat.from_dict(facts.get("form", {})),
                slices=facts.get("slices", "all"),
                verdict=read_verdict(facts.get("patients")),
                seen=read_seen(Path(folder) / "extra_files" / SEEN_FILE),
                predict=mlflow.pytorch.load_model(folder),
                likeness=Likeness.load(Path(folder) / "extra_files" / LIKENESS_FILE),
            )


def _name_members(facts: Mapping[str, Any]) -> str:
    members = facts.get("members", [facts["trial"]])
    return f"trial {facts['trial']}" if len(members) == 1 else f"the mean of trials {', '.join(map(str, members))}"


def load_checkpoint(path: Path) -> Classifier:
    """The best checkpoint of a trial: its folder, or a file in it. Raises ValueError where there is none.

    A user's own model, and what the training's slices look like, are read from the search that the folder belongs to.
    """
    from trainable.architectures import build_model
    from trainable.checkpoint import CheckpointStore
    from trainable.config import TrialConfig, is_own_model
    from trainable.served_model import ServedModel

    folder = (path if path.is_dir() else path.parent).absolute()
    store = CheckpointStore(folder)
    loaded = store.load("best")
    if loaded is None and store.facts("best") is not None:
        raise ValueError(f"the `best` checkpoint in {path} is damaged; copy it again, or give another trial's folder")
    if loaded is None or "classes" not in loaded[1]:
        raise ValueError(f"{path} is no `best` checkpoint of this version; it must be searches/NAME/trials/NUMBER")
    state, facts = loaded
    search = folder.parents[1] if len(folder.parents) > 1 else folder
    record_file = search / "search.json"
    with _naming_fault(f"the checkpoint {path} cannot be used"):
        config = TrialConfig.from_params(facts["config"])
    with _naming_fault(f"the checkpoint {path} cannot be used: {record_file} cannot be read"):
        record = json.loads(record_file.read_text()) if record_file.is_file() else {}
        source = record.get("nets", {}).get("sources", {}).get(config.architecture)
    if is_own_model(config.architecture) and source is None:
        raise ValueError(
            f"{path} is of the model {config.architecture}, whose code is not in {record_file}; give its model"
        )
    with _naming_fault(f"the checkpoint {path} cannot be used"):
        form = PixelFormat.from_dict(facts.get("form", {}))  # older checkpoints are of grey images
        model = build_model(config, len(facts["classes"]), num_channels=form.num_channels, source=source)
        model.load_state_dict(state["model"])
        if bad := [n for n, tensor in model.state_dict().items() if not tensor.isfinite().all()]:
            raise ValueError(f"its weights hold NaN or infinities, as {bad[0]} does; give another trial")
        return Classifier(
            label=f"checkpoint {folder}, epoch {facts['epoch']}",
            classes=tuple(facts["classes"]),
            image_size=int(facts["image_size"]),
            form=form,
            slices=facts.get("slices", "all"),
            predict=ServedModel(model),
            likeness=Likeness.load(search / LIKENESS_FILE),
        )


@contextmanager
def _naming_fault(what: str, *but: type[Exception]) -> Iterator[None]:
    """Whatever fails inside, `but` these, is one ValueError that begins with `what`: foreign and cut files fail in any
    way."""
    try:
        yield
    except but:
        raise
    except Exception as error:
        kind = type(error).__name__
        reason = f"it has no {error}" if isinstance(error, KeyError) else show_text(f"{error or kind}")[:_MAX_REASON]
        raise ValueError(f"{what}: {reason}") from error


def predict_pixels(classifier: Classifier, pixels: np.ndarray, *, batch_size: int = 64) -> np.ndarray:
    """Probabilities float32 (N, C) for uint8 pixels (N, S, S) or (N, S, S, channels)."""
    import torch

    with torch.inference_mode():
        parts = [classifier.predict(part).numpy() for part in torch.from_numpy(np.array(pixels)).split(batch_size)]
    return np.concatenate(parts)


def build_explainer(classifier: Classifier) -> Explainer:
    """Raises ValueError for a model that cannot be explained, with the reason."""
    from torch.fx import GraphModule

    from trainable.explain import Explainer, export

    model = classifier.predict
    if not isinstance(model, GraphModule):
        model = export(model, classifier.image_size, classifier.form.num_channels)  # type: ignore[arg-type]
    return Explainer(model)
