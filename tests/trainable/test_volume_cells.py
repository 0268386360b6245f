"""Volumes sent to `NAME-images`: answered as `ctsearch classify` answers them, or refused by their row."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from mlflow import MlflowClient

from tests.trainable.images.phantoms import draw_chest, save_nifti
from tests.trainable.images.series_files import save_enhanced, save_series
from tests.trainable.test_export import FACTS, SIZE, draw_files, draw_model, log_models
from trainable.answers import Answer, classify_files, classify_scans
from trainable.cells import classify_cells
from trainable.classifier import Classifier
from trainable.export import images_name
from trainable.images.pixel_format import PixelFormat
from trainable.images.scans import find_scans
from trainable.served_model import ServedModel

if TYPE_CHECKING:
    from mlflow_server.serve import ServerHandle

RULE = "every:3"


def make_classifier(form: PixelFormat | None = None) -> Classifier:
    return Classifier(
        label="",
        classes=("healthy", "ill"),
        image_size=SIZE,
        predict=ServedModel(draw_model("small_cnn", 2)),
        form=form or PixelFormat(),
        slices=RULE,
    )


def save_volumes(folder: Path) -> dict[str, Path]:
    """A file of each kind that a volume may be sent as, all of one scan."""
    values = draw_chest()
    save_series(folder / "series", values)
    (packed := folder / "packed").mkdir()
    shutil.move(folder / "series", packed / "series")
    shutil.make_archive(str(folder / "a"), "zip", packed)
    shutil.make_archive(str(folder / "a"), "gztar", packed)
    return {
        "nii": save_nifti(folder / "a.nii", values),
        "nii.gz": save_nifti(folder / "a.nii.gz", values),
        "enhanced": save_enhanced(folder / "enhanced", values),
        "zip": folder / "a.zip",
        "tar.gz": folder / "a.tar.gz",
    }


def test_a_volume_of_any_kind_is_answered_as_classify_answers_it(tmp_path: Path) -> None:
    files, classifier = save_volumes(tmp_path), make_classifier()
    series = list(find_scans(sorted((tmp_path / "packed" / "series").iterdir())))
    ((_, expected),) = classify_scans(series, classifier)
    assert isinstance(expected, Answer) and expected.num_slices == 3
    image = draw_files(1)[0]
    table = classify_cells([image, *(path.read_bytes() for path in files.values()), image], classifier)
    assert len(table) == 2 + len(files)
    for row, kind in enumerate(files, 1):
        assert table["probability_ill"][row] == pytest.approx(expected.probabilities[1], abs=1e-6), kind
    assert table["probability_ill"][0] == table["probability_ill"][6] != table["probability_ill"][1]
    for path in (files["nii"], files["enhanced"]):
        ((_, answer),) = classify_files([path], classifier)
        assert isinstance(answer, Answer)
        np.testing.assert_allclose(answer.probabilities, expected.probabilities, atol=1e-6)


def pack(**members: bytes) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


def test_what_is_no_volume_to_answer_is_refused_by_its_row_and_without_places(tmp_path: Path) -> None:
    (image,), classifier = draw_files(1), make_classifier()
    nifti = save_nifti(tmp_path / "a.nii.gz", draw_chest()).read_bytes()
    cases = {
        "row 0: the archive holds 2 scans": pack(a=image, b=image),
        "row 0: the archive holds 0 scans": b"PK\x05\x06" + bytes(18),
        "row 0: .*is damaged": b"PK\x03\x04" + b"x" * 400,
        "row 0: ": nifti[: len(nifti) // 2],
    }
    for message, content in cases.items():
        with pytest.raises(ValueError, match=message) as fault:
            classify_cells([content], classifier)
        assert "ctsearch-cell" not in str(fault.value)
    with pytest.raises(ValueError, match="row 1: this model looks at a slice with 1 on each side"):
        neighbours = make_classifier(PixelFormat(neighbours=1))
        classify_cells([nifti, image], replace(neighbours, predict=lambda pixels: pixels[:, 0, 0, :2].float()))


FRESH_PROCESS = """
    import json, sys, warnings

    warnings.filterwarnings("ignore", message=".*Any type hint is inferred as AnyType")  # importing MLflow

    import mlflow.pyfunc
    import pandas as pd

    uri, *files = sys.argv[1:]
    contents = [open(file, "rb").read() for file in files]
    table = mlflow.pyfunc.load_model(uri).predict(pd.DataFrame({"image": contents}))
    print(json.dumps(table["probability_ill"].tolist()))
"""


@pytest.mark.slow
def test_a_logged_model_answers_volumes_in_a_fresh_process(mlflow_server: ServerHandle, tmp_path: Path) -> None:
    client = MlflowClient(mlflow_server.uri)
    run_id = client.create_run(client.create_experiment(f"volume-cells {os.getpid()}")).info.run_id
    facts = replace(FACTS, name="volume-cells", slices=RULE)
    logged = log_models(draw_model("small_cnn", 2), facts, client=client, run_id=run_id)
    files = list(save_volumes(tmp_path).values())
    done = subprocess.run(
        [
            *(sys.executable, "-c", textwrap.dedent(FRESH_PROCESS)),
            f"models:/{images_name(facts.name)}/{logged.images_version}",
            *map(str, files),
        ],
        cwd=tmp_path,
        env={**os.environ, "MLFLOW_TRACKING_URI": mlflow_server.uri, "PYTHONPATH": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    expected = [
        answer.probabilities[1]
        for _, answer in classify_files(files[:1], make_classifier())
        if isinstance(answer, Answer)
    ]
    np.testing.assert_allclose(found, expected * len(files), atol=1e-6)
