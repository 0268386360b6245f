"""`mlflow models serve`: both models of a champion, each in a process of its own, asked over HTTP."""

from __future__ import annotations

import base64
import importlib.metadata
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.not_ct import draw_kind, save_to_bytes
from tests.conftest import FinishedSearch
from trainable.answers import classify_files
from trainable.classifier import load_checkpoint
from trainable.images.decode import decode_slice

MODELS = {"pixels": "models:/finished-model@champion", "images": "models:/finished-model-images@champion"}


def find_free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def ask(address: str, request: dict[str, Any] | None = None) -> Any:
    data = None if request is None else json.dumps(request).encode()
    headers = {"Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(address, data, headers), timeout=60) as response:
        return response.read().decode()


@contextmanager
def serve(name: str, folder: Path, env: dict[str, str]) -> Iterator[str]:
    """One server, as the README starts it; its address."""
    port = find_free_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", MODELS[name], "--env-manager", "local"]
    with (folder / f"{name}.log").open("w") as log:
        process = subprocess.Popen(
            [*command, "--port", str(port)], cwd=folder, env=env, stdout=log, stderr=log, start_new_session=True
        )
        try:
            yield f"http://127.0.0.1:{port}"
            assert process.poll() is None, (folder / f"{name}.log").read_text()
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            process.wait(30)


@pytest.fixture(scope="module")
def served(finished_search: FinishedSearch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The addresses of both servers, which start side by side, away from this checkout's code."""
    folder = tmp_path_factory.mktemp("serving")
    files = importlib.metadata.files("uvicorn") or []  # MLflow looks for its script, which lies where it was installed
    scripts = next(str(Path(str(file.locate())).parent.resolve()) for file in files if file.name == "uvicorn")
    env = {**os.environ, "MLFLOW_TRACKING_URI": finished_search.uri, "PYTHONPATH": ""}
    env["PATH"] = f"{scripts}{os.pathsep}{env['PATH']}"
    with ExitStack() as stack:
        addresses = {name: stack.enter_context(serve(name, folder, env)) for name in MODELS}
        for name, address in addresses.items():
            give_up_at = time.monotonic() + 600
            while True:
                try:
                    ask(f"{address}/ping")
                    break
                except OSError:
                    assert time.monotonic() < give_up_at, (folder / f"{name}.log").read_text()
                    time.sleep(0.3)
        yield addresses


@pytest.fixture(scope="module")
def expected(finished_search: FinishedSearch, synthetic_folder: Path) -> tuple[list[Path], np.ndarray]:
    """Some slices, and what the champion's checkpoint says of them."""
    files = sorted(synthetic_folder.rglob("*.png"))[::15]
    champion = load_checkpoint(finished_search.folder / "trials" / f"{finished_search.record['champion']:04d}")
    answers = [answer for _, answer in classify_files(files, champion)]
    return files, np.stack([answer.probabilities for answer in answers if not isinstance(answer, Exception)])


def test_arrays_are_answered_over_http(served: dict[str, str], expected: tuple[list[Path], np.ndarray]) -> None:
    files, probabilities = expected
    pixels = np.stack([decode_slice(file, 64) for file in files])
    found = json.loads(ask(f"{served['pixels']}/invocations", {"inputs": pixels.tolist()}))["predictions"]
    np.testing.assert_allclose(found, probabilities, atol=1e-6)


def test_image_bytes_are_answered_over_http(served: dict[str, str], expected: tuple[list[Path], np.ndarray]) -> None:
    files, probabilities = expected
    texts = [base64.b64encode(file.read_bytes()).decode() for file in files]
    request = {"dataframe_split": {"columns": ["image"], "data": [[text] for text in texts]}}
    rows = json.loads(ask(f"{served['images']}/invocations", request))["predictions"]
    for row, (covid, normal) in zip(rows, probabilities, strict=True):
        assert row["probability_covid"] == pytest.approx(covid, abs=1e-6)
        assert row["doubt"] == ""
        assert row["class"] == ("covid" if covid > normal else "normal")
        assert row["probability"] == pytest.approx(max(covid, normal), abs=1e-6)


def test_a_photo_is_answered_by_a_word_over_http(served: dict[str, str]) -> None:
    photo = base64.b64encode(save_to_bytes(next(iter(draw_kind("photos", 1))))).decode()
    answer = ask(f"{served['images']}/invocations", {"dataframe_records": [{"image": photo}]})
    assert "NaN" not in answer, "every JSON parser reads it"
    (row,) = json.loads(answer)["predictions"]
    assert (row["class"], row["probability"]) == ("not a chest CT?", None)
    assert "of it is coloured" in row["doubt"]


def test_what_is_no_image_is_refused_over_http(served: dict[str, str]) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        ask(f"{served['images']}/invocations", {"dataframe_records": [{"image": "/data/slice.png"}]})
    assert caught.value.code == 400
    assert "is not base64" in caught.value.read().decode()
