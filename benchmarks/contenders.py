"""Who is compared by engine.py and search_quality.py: how each is started, on the same slices, and what it reported.

Ours is `search/run.py`, as a user runs it. The peers are the scripts of `peers/`, each in the form of its tutorial and
with what an expert adds. All train on the CPU, as many trials at once as there are cores, one torch thread each, and
log to one MLflow server that is up before the first begins (Syne Tune logs nowhere). Peers get a list of the train and
val slices that ours uses, and never see the test's.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

from benchmarks.peers.training import FORMS
from search.core.config import SearchConfig
from search.preparation.epochs import fit_first_rung
from trainable.images.prepare import prepare_data
from trainable.images.splits import assign_splits, read_splits
from trainable.images.synthetic import write_synthetic_set

ROOT = Path(__file__).resolve().parents[1]
OURS = {"ours": (), "ours-freeze-thaw": ("--scheduler", "freeze-thaw")}
SCRIPTS = {"ray": "ray_tutorial.py", "optuna": "optuna_processes.py", "syne-tune": "syne_tune_asha.py"}
PEERS = {f"{library}-{form}": (script, form) for library, script in SCRIPTS.items() for form in FORMS}
CONTENDERS = (*OURS, *PEERS)


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """One epoch of one trial. `at_s` is when it ended, validation included, in seconds after the command."""

    at_s: float
    configuration: dict[str, Any]
    epoch: int
    val_auc: float
    images_per_s: float

    @property
    def architecture(self) -> str:
        return str(self.configuration["architecture"])


@dataclass(frozen=True, kw_only=True)
class Arena:
    """What all contenders share. `data` is a manifest with splits; `images` lists its train and val slices for the
    peers, and `data_hash` stands for exactly these. `first_rung` is the first epoch at which ours compares trials."""

    home: Path
    data: Path
    images: Path
    data_hash: str
    image_size: int
    max_epochs: int
    first_rung: int
    tracking_uri: str


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one contender did: its epochs in the order they ended, and the seconds of its whole command."""

    epochs: list[Epoch]
    wall_s: float


def read_contenders(text: str) -> list[str]:
    """Read `A,B`: the type of an option."""
    chosen = text.split(",")
    if unknown := sorted(set(chosen) - set(CONTENDERS)):
        raise argparse.ArgumentTypeError(f"unknown are {', '.join(unknown)}; known are {', '.join(CONTENDERS)}")
    return chosen


def make_manifest(home: Path, num_patients: int = 150) -> Path:
    """Draw the synthetic set into `home`, and a manifest of it with splits by patient."""
    slices = sorted(write_synthetic_set(home / "synthetic", num_patients=num_patients).glob("*/*/*.png"))
    labels, patients = [path.parts[-3] for path in slices], [path.parts[-2] for path in slices]
    splits = assign_splits(labels, patients, seed=0)
    paths = [path.relative_to(home) for path in slices]
    manifest = home / "synthetic.csv"
    write_table(manifest, path=paths, label=labels, patient=patients, split=splits)
    return manifest


def build_arena(home: Path, data: Path, *, image_size: int, max_epochs: int, tracking_uri: str) -> Arena:
    """Let ours read and audit the manifest `data`, and list for the peers what it would train and validate on."""
    splits = home / "splits.csv"
    prepared = prepare_data(data, cache_dir=home / "cache", splits_file=splits, image_size=image_size, seed=0)
    positive = prepared.training.classes[prepared.training.positive]
    rows = [row for row in read_splits(splits) if row.kept and row.split != "test"]
    images = home / "images.csv"
    write_table(
        images,
        path=[row.path for row in rows],
        label=[int(row.label == positive) for row in rows],
        split=[row.split for row in rows],
    )
    num_train = sum(row.split == "train" for row in rows)
    return Arena(
        home=home,
        data=data,
        images=images,
        data_hash=prepared.training.data_hash,
        image_size=image_size,
        max_epochs=max_epochs,
        first_rung=fit_first_rung(num_train, max_epochs, SearchConfig().reduction_factor),
        tracking_uri=tracking_uri,
    )


def check_home(home: Path, **asked: object) -> None:
    """Note what the runs of a home share; raise ValueError where an earlier call has asked for something else there."""
    file = home / "asked.json"
    told = {name: str(value) for name, value in asked.items()}
    before = json.loads(file.read_text()) if file.exists() else told
    if others := {name: value for name, value in before.items() if value != told.get(name)}:
        raise ValueError(f"{home} holds runs of {others}, and this call asks for {told}: give another --home")
    home.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(told))


def run(contender: str, arena: Arena, folder_name: str, ours: Sequence[str], peers: Sequence[str]) -> Outcome:
    """Run one contender to its end in a new folder of the home, or read what an earlier call has run there.

    `ours` and `peers` are further options of either kind. Raises RuntimeError with the end of its log if it fails.
    """
    folder = arena.home / folder_name
    kept = folder / "outcome.json"
    if kept.exists():
        found = json.loads(kept.read_text())
        return Outcome(epochs=[Epoch(**epoch) for epoch in found["epochs"]], wall_s=found["wall_s"])
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was ended on its way
    folder.mkdir(parents=True)
    command = [sys.executable]
    shared = ["--image-size", str(arena.image_size), "--max-epochs", str(arena.max_epochs)]
    if contender in OURS:
        command += [str(ROOT / "search/run.py"), "--data", str(arena.data), "--home", str(folder)]
        command += ["--name", folder_name, "--model-name", folder_name, *shared, *OURS[contender], *ours]
    else:
        script, form = PEERS[contender]
        command += [str(ROOT / "benchmarks/peers" / script), "--images", str(arena.images)]
        command += ["--folder", str(folder), "--form", form, *shared, *peers]
    environment = {"MLFLOW_TRACKING_URI": arena.tracking_uri, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    log = folder / "output.log"
    began_s = time.time()
    with log.open("w") as output:
        ended = subprocess.run(command, stdout=output, stderr=output, cwd=folder, env=os.environ | environment)
    wall_s = time.time() - began_s
    if ended.returncode != 0:
        raise RuntimeError(f"{folder_name} ended with status {ended.returncode}:\n{log.read_text()[-3000:]}")
    if contender in OURS:
        result = json.loads((folder / "searches" / folder_name / "result.json").read_text())
        if result["data_hash"] != arena.data_hash:
            raise RuntimeError(
                f"{folder_name} trained on other slices than the peers: {arena.data} must name all splits"
            )
        epochs = _read_ours(arena.tracking_uri, folder_name)
    else:
        epochs = [Epoch(**json.loads(line)) for line in (folder / "epochs.jsonl").read_text().splitlines()]
    shifted = [replace(epoch, at_s=epoch.at_s - began_s) for epoch in epochs if epoch.at_s >= began_s]
    outcome = Outcome(epochs=sorted(shifted, key=lambda epoch: epoch.at_s), wall_s=wall_s)
    kept.write_text(json.dumps(asdict(outcome)))
    drop_models(folder)
    return outcome


def drop_models(folder: Path) -> None:
    """Remove what a finished search leaves of its models, gigabytes over some seeds: nothing reads them again."""
    for file in (*folder.rglob("*.pt"), *folder.rglob("*.pt2")):
        file.unlink()


def write_table(file: Path, **columns: Sequence[object]) -> None:
    with file.open("w", newline="") as table:
        writer = csv.writer(table)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def _read_ours(tracking_uri: str, experiment: str) -> list[Epoch]:
    """From MLflow, where every trial logs every epoch."""
    client = MlflowClient(tracking_uri)
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    epochs = []
    for trial in client.search_runs([found.experiment_id], "tags.trial != ''", max_results=10_000):
        speeds = {m.step: m.value for m in client.get_metric_history(trial.info.run_id, "images_per_s")}
        epochs += [
            Epoch(
                at_s=metric.timestamp / 1000,
                configuration=trial.data.params,
                epoch=metric.step,
                val_auc=metric.value,
                images_per_s=speeds[metric.step],
            )
            for metric in client.get_metric_history(trial.info.run_id, "val_auc")
        ]
    return epochs
