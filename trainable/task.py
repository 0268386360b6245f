"""What every trial of a search shares, and where each keeps its checkpoints."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from trainable.config import TrialSettings
from trainable.storage import join

if TYPE_CHECKING:
    import numpy as np

    from trainable.images.prepare import TrainingData


@dataclass(frozen=True, kw_only=True)
class TrialTask:
    """What every trial of a search shares; it travels once to each worker.

    `weights` maps an architecture to the bytes of its weights file (uint8), `sources` a user's own
    "file.py:function" to the text of that file. `node_dir` is a folder on the worker's own disk. `tracking_login` holds
    the variables by which MLflow's client logs in; it is in no text, no log and no file of ours. `pixels_server` is
    where a node of a cluster gets the pixels that it does not see (trainable/node.py); None on a Ray of our own.
    With `num_folds` trial N is validated on fold N modulo `num_folds` of train and val together, and trained on the
    other folds (`data_of`).
    """

    search: str
    settings: TrialSettings
    data: TrainingData
    trials_uri: str
    node_dir: str
    tracking_uri: str | None = None
    tracking_login: Mapping[str, str] = field(default_factory=dict, repr=False)
    weights: Mapping[str, np.ndarray] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)
    pixels_server: Any = None
    num_folds: int = 0

    def data_of(self, number: int) -> TrainingData:
        """What trial `number` trains and is validated on."""
        if not self.num_folds:
            return self.data
        from trainable.folds import split_patients

        folds = split_patients(self.data.labels, self.data.groups, self.num_folds)
        return replace(self.data, is_val=folds[number % self.num_folds])

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Where it arrives, MLflow's client finds the driver's login: in the environment, its only place for one."""
        self.__dict__.update(state)
        os.environ.update(self.tracking_login)


def locate_trial(trials_uri: str, number: int) -> str:
    """The folder of one trial's checkpoints, by its Optuna number."""
    return join(trials_uri, f"{number:04d}")


def delete_checkpoint(trials_uri: str, number: int, kind: Literal["newest", "best"]) -> None:
    """Free a checkpoint that nobody needs any more."""
    from trainable.checkpoint import CheckpointStore

    CheckpointStore(locate_trial(trials_uri, number)).delete(kind)


def read_best(trials_uri: str, number: int) -> dict[str, Any] | None:
    """What the `best` checkpoint of a trial says of its epoch: `epoch`, `value` and `metrics`; None without one."""
    from trainable.checkpoint import CheckpointStore

    return CheckpointStore(locate_trial(trials_uri, number)).facts("best")
